"""What doctor finds out about machines, by files as they have them, and what it says of them."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import recorded_boards as boards

import accelerate
from accelerate import measurements, registry
from accelerate.contract import Backend, Conflict, Facts, LoadOptions, Source
from accelerate.diagnosis.board import Board, find_board
from accelerate.diagnosis.limits import find_limits
from accelerate.diagnosis.throttling import Throttling, find_throttling
from accelerate.system.files import read_text

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")

from click.testing import CliRunner

from accelerate.cli import doctor as command
from accelerate.cli.doctor import doctor, examine
from accelerate.cli.tune import tune

PREFIX = "EDGE_ACCELERATE_"  # of names that nobody documents
DATA = Path(accelerate.__file__).parent / "data"


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EDGE_ACCELERATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("accelerate.cli.doctor.affinity", lambda: 4)


Show = Callable[[Facts], tuple[dict[str, Any], str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return doctor's report on a machine, and what it prints of it."""

    def run(facts: Facts) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(command, "gather", lambda: facts)
        monkeypatch.setenv("COLUMNS", "80")
        printed = CliRunner().invoke(doctor, [], catch_exceptions=False).output
        report = json.loads(CliRunner().invoke(doctor, ["--json"], catch_exceptions=False).output)
        return report, printed

    return run


# What each line says of which board: (verdict, what, found, remedy)
LINES = {
    "Pi 5 with a Coral": [
        ("PASS", "board", "Raspberry Pi 5 Model B Rev 1.0", ""),
        ("PASS", "CPU", "4 x cortex-a76, governor ondemand", ""),
        ("PASS", "throttling", "52 degrees Celsius; not slowed down", ""),
        ("PASS", "limits", "no container; 7.9 GiB memory", ""),
        ("PASS", "/dev/shm", "3.9 GiB", ""),
    ],
    "Pi 4 throttled": [
        ("PASS", "board", "Raspberry Pi 4 Model B Rev 1.4", ""),
        (
            "WARN", "CPU", "4 x cortex-a72, governor powersave: the clock stays at its lowest",
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
        (
            "WARN", "throttling",
            "84 degrees Celsius; slowed down now by under-voltage, throttling; since it was switched on: the soft "
            "temperature limit",
            "use the board's own power supply and cable; cool it: a heat sink or a fan",
        ),
        ("PASS", "limits", "no container; 1.8 GiB memory", ""),
        ("PASS", "/dev/shm", "923 MiB", ""),
    ],
    "Jetson with JetPack 6": [
        (
            "PASS", "board",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super: L4T 36.4.3, JetPack 6.2", "",
        ),
        ("PASS", "CPU", "4 x cortex-a78, governor schedutil", ""),
        (
            "WARN", "throttling",
            "61 degrees Celsius; slowed down now by heat (gpu-throttle-alert); since it was switched on: over-current "
            "(17 times)",
            "use a stronger power supply, or a lower power mode; cool it: a heat sink or a fan",
        ),
        ("PASS", "limits", "no container; 7.4 GiB memory", ""),
        ("PASS", "/dev/shm", "3.7 GiB", ""),
    ],
    "Jetson with JetPack 5": [
        ("PASS", "board", "NVIDIA Jetson Xavier NX Developer Kit: L4T 35.4.1, JetPack 5.1.2", ""),
        ("PASS", "CPU", "4 x carmel, governor schedutil", ""),
        ("PASS", "limits", "no container; 6.5 GiB memory", ""),
        ("PASS", "/dev/shm", "3.3 GiB", ""),
    ],
    "container": [
        ("PASS", "CPU", "4 x Intel(R) Xeon(R) Processor @ 2.20GHz", ""),
        (
            "WARN", "limits",
            "Docker; 0.5 of 4 CPUs: a call is stopped in its middle until the next period of 100 ms; 512 MiB of 15.6 "
            "GiB memory: a runtime takes some hundred MB, and past the limit the process is killed",
            "docker run --cpus 1, or more; docker run --memory 1g, or more",
        ),
        (
            "WARN", "/dev/shm", "64 MiB: little for tensors in shared memory with a server",
            "docker run --shm-size 256m, or --ipc host",
        ),
    ],
    "laptop": [
        ("PASS", "board", "LENOVO 20QES01L00", ""),
        ("PASS", "CPU", "4 x Intel(R) Core(TM) i5-8365U CPU @ 1.60GHz, governor powersave", ""),
        ("PASS", "throttling", "45 degrees Celsius; not slowed down", ""),
        ("PASS", "limits", "no container; 15.4 GiB memory", ""),
        ("PASS", "/dev/shm", "7.7 GiB", ""),
    ],
}  # fmt: skip

# What does not fit together there: (backend, fatal, reason, remedy)
CONFLICTS = {
    "Pi 5 with a Coral": [
        (
            "edgetpu", False,
            f"pycoral 0.2.0 in {boards.SITE} is an unrelated program, not Coral's PyCoral",
            "pip uninstall pycoral; nothing is needed in its place (docs/coral.md)",
        ),
        (
            "edgetpu", False,
            "libedgetpu1-std 16.0 is built for TFLite 2.5, and ai-edge-litert 2.3.0 is newer: such pairs crash; each "
            "model is tried in a child process first",
            "install a build of the library for this runtime (docs/coral.md, 'Where is PyCoral?')",
        ),
    ],
    "Pi 4 throttled": [
        (
            "tflite_cpu", True,
            "tflite-runtime 2.14.0 is built for numpy < 2, and numpy 2.2.6 is installed: it can make no Interpreter",
            'pip install "numpy<2", or install the extra "litert" in its place where that has a wheel',
        ),
    ],
    "Jetson with JetPack 6": [
        (
            "onnxruntime", True,
            "onnxruntime-gpu 1.31.1 is built for CUDA 13, and JetPack 6.2 has CUDA 12: it cannot use this Jetson's GPU",
            "pip uninstall -y onnxruntime-gpu, then install NVIDIA's own wheel of it for JetPack 6; or move the board "
            "to JetPack 7",
        ),
    ],
    "Jetson with JetPack 5": [],
    "container": [
        (
            "", False,
            "opencv-python and opencv-python-headless are installed together and overwrite each other's files of cv2",
            "pip uninstall -y opencv-python opencv-python-headless, then pip install opencv-python-headless",
        ),
        (
            "onnxruntime", False,
            "onnxruntime and onnxruntime-gpu are installed together and overwrite each other: what only one of them "
            "has, such as a GPU's provider, may be lost",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install the one you want",
        ),
    ],
    "laptop": [],
}  # fmt: skip


@pytest.mark.parametrize("name", boards.BOARDS)
def test_a_board_by_its_files(name: str, tmp_path: Path, show: Show) -> None:
    report, printed = show(boards.recorded(tmp_path / "root", boards.BOARDS[name]))
    rows = [tuple(row[key] for key in ("verdict", "what", "found", "remedy")) for row in report["machine"]]
    assert [row for row in rows if row[1] not in ("cache", "environment")] == LINES[name]
    found = [tuple(row[key] for key in ("backend", "fatal", "reason", "remedy")) for row in report["conflicts"]]
    assert found == CONFLICTS[name]
    assert max(map(len, printed.splitlines())) <= 80
    said = " ".join(printed.split())
    for words in [*(row[3] for row in LINES[name]), *(row[3] for row in CONFLICTS[name])]:
        assert words in said
    for verdict, what, *_ in LINES[name]:
        assert f"{verdict} {what}" in said
    assert [line.split()[0] for line in printed.splitlines() if "onnxruntime-gpu" in line and "is built" in line] == (
        ["FAIL"] if name == "Jetson with JetPack 6" else []
    )


@pytest.mark.parametrize(
    ("release", "package", "wanted"),
    [
        ("# R32 (release), REVISION: 7.1, GCID: 29818004", "", ("32.7.1", "4.6.1")),
        ("# R36 (release), REVISION: 4.0, GCID: 37537400", "", ("36.4.0", "6.1")),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081", "", ("36.4.3", "6.2")),
        ("# R36 (release), REVISION: 5, GCID: 1", "", ("36.5", "6.2.2")),
        ("# R36 (release), REVISION: 9.9, GCID: 1", "", ("36.9.9", "6")),
        ("# R39 (release), REVISION: 2.0, GCID: 1", "", ("39.2.0", "7.2")),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "", ("99.1.0", "")),
        ("# R36 (release), REVISION: 4.3, GCID: 1", "6.2.1+b38", ("36.4.3", "6.2.1")),
        ("what is this", "", ("", "")),
    ],
)
def test_jetpack_by_the_release_of_l4t(release: str, package: str, wanted: tuple[str, str], tmp_path: Path) -> None:
    files = {"/etc/nv_tegra_release": release}
    if package:
        text = f"Package: nvidia-jetpack\nStatus: install ok installed\nVersion: {package}\n"
        files["/var/lib/dpkg/status"] = text
    board = find_board(boards.write(tmp_path, files))
    assert (board.kind, board.l4t, board.jetpack) == ("jetson", *wanted)


def test_a_removed_package_is_not_installed(tmp_path: Path) -> None:
    text = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 5.0\n\nPackage: other\n"
    root = boards.write(
        tmp_path, {"/etc/nv_tegra_release": "# R36 (release), REVISION: 3.0,", "/var/lib/dpkg/status": text}
    )
    assert find_board(root).jetpack == "6.0"


# CUDA, by what is installed beside onnxruntime-gpu on a machine with an NVIDIA card

_GPU = {"/dev/nvidiactl": ""}
_CUDA_13 = {"/usr/local/cuda-13.0/lib64/libcudart.so.13": ""}


def _gpu_build(version: str) -> dict[str, str]:
    return boards.pip_installed("onnxruntime-gpu", version, "onnxruntime/__init__.py")


CUDA: dict[str, tuple[Mapping[str, str], str]] = {
    "as the wheels of PyPI want it": ({**_gpu_build("1.31.1"), **_CUDA_13}, ""),
    "from a file that ld.so is told of": (
        {
            **_gpu_build("1.23.2"),
            "/etc/ld.so.conf.d/cuda.conf": "# NVIDIA\n/opt/nv/lib\n",
            "/opt/nv/lib/libcudart.so.12.4.127": "",
        },
        "",
    ),
    "from a wheel": ({**_gpu_build("1.31.1"), f"{boards.SITE}/nvidia/cu13/lib/libcudart.so.13": ""}, ""),
    "an older one": (
        {**_gpu_build("1.27.0"), "/usr/lib/x86_64-linux-gnu/libcudart.so.12": ""},
        "1.27.0 is built for CUDA 13, and the system has only CUDA 12 (/usr/lib/x86_64-linux-gnu/libcudart.so.12)",
    ),
    "a newer one": ({**_gpu_build("1.26.0"), **_CUDA_13}, "is built for CUDA 12, and the system has only CUDA 13"),
    "none": (_gpu_build("1.18.1"), "is built for CUDA 11, and the system has no libcudart.so.11"),
    "a build that says so itself": (
        {
            **_gpu_build("1.31.1"),
            f"{boards.SITE}/onnxruntime/capi/build_and_package_info.py": "cuda_version = '12.8'\n",
            **_CUDA_13,
        },
        "is built for CUDA 12",
    ),
    "a version that nobody knows": (_gpu_build("next"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CUDA)
def test_the_cuda_that_a_build_wants(name: str, tmp_path: Path) -> None:
    files, wanted = CUDA[name]
    facts = boards.recorded(tmp_path / "gpu", {**files, **_GPU}, "x86_64")
    found = registry.conflicts(registry.find("onnxruntime"), facts)
    assert [each.fatal for each in found] == ([True] if wanted else [])
    assert all(wanted in each.reason for each in found)
    assert not registry.conflicts(registry.find("onnxruntime"), boards.recorded(tmp_path / "none", files, "x86_64"))


def test_numpy_2_beside_another_engine_is_no_failure(tmp_path: Path) -> None:
    files = {**boards.PI_4_THROTTLED, **boards.pip_installed("ai-edge-litert", "2.3.0")}
    (found,) = registry.conflicts(registry.find("tflite_cpu"), boards.recorded(tmp_path, files))
    assert not found.fatal
    assert found.remedy.startswith("pip uninstall -y tflite-runtime")


def test_numpy_1_fits(tmp_path: Path) -> None:
    files = {**boards.pip_installed("tflite-runtime", "2.14.0"), **boards.pip_installed("numpy", "1.26.4")}
    assert not registry.conflicts(registry.find("tflite_cpu"), boards.recorded(tmp_path, files))


@pytest.mark.parametrize(
    ("library", "engine", "conflicts"),
    [("16.0", "2.5.0.post1", 0), ("16.0", "2.14.0", 1), ("16.0TF2.17.1-1.bookworm", "2.14.0", 0)],
)
def test_the_library_of_the_edge_tpu_and_the_interpreter(
    library: str, engine: str, conflicts: int, tmp_path: Path
) -> None:
    text = f"Package: libedgetpu1-std\nStatus: install ok installed\nVersion: {library}\n"
    files = {"/var/lib/dpkg/status": text, **boards.pip_installed("tflite-runtime", engine)}
    assert len(registry.conflicts(registry.find("edgetpu"), boards.recorded(tmp_path, files))) == conflicts


def test_the_real_pycoral_is_no_namesake(tmp_path: Path) -> None:
    files = {**boards.pip_installed("pycoral", "2.0.0"), f"{boards.SITE}/pycoral/utils/edgetpu.py": ""}
    assert not registry.conflicts(registry.find("edgetpu"), boards.recorded(tmp_path, files))


# Files that are not what they should be

_NOISE = bytes(range(256)) * 40


def _hostile(root: Path, how: str) -> None:
    """Put something else in the place of every file that is read."""
    every: set[str] = {path for files in boards.BOARDS.values() for path in files if not path.startswith(boards.SITE)}
    for path in sorted(every | {"/run/.containerenv", "/run/systemd/container", "/etc/ld.so.conf.d/a.conf"}):
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if how == "noise":
            file.write_bytes(_NOISE)
        elif how == "pipe":
            os.mkfifo(file)
        elif how == "folder":
            file.mkdir()
        elif how == "loop":
            file.symlink_to(file.name)
        elif how == "no end":
            file.symlink_to("/dev/zero")
        elif how == "numbers":
            file.write_text("9" * 5000 + "\n")
    site = root / boards.SITE.lstrip("/")
    for name in (
        "onnxruntime_gpu-1.31.dist-info",
        "numpy-.dist-info",
        "-.dist-info",
        "a-\udcff.egg-info",
        ".dist-info",
    ):
        (site / name).mkdir(parents=True)
    if how == "noise":
        (site / "onnxruntime_gpu-1.31.dist-info" / "RECORD").write_bytes(_NOISE)


@pytest.mark.parametrize("how", ["noise", "pipe", "folder", "loop", "no end", "numbers"])
def test_files_that_are_not_what_they_should_be(how: str, tmp_path: Path, show: Show) -> None:
    _hostile(tmp_path / "root", how)
    report, printed = show(boards.recorded(tmp_path / "root", {}))
    assert not any(each["verdict"] == "FAIL" for each in report["machine"])
    assert report["board"]["l4t"] == ""
    assert printed.isprintable() or set(filter(lambda c: not c.isprintable(), printed)) == {"\n"}


def test_no_device_is_opened() -> None:
    assert read_text("/dev/urandom") == ""  # to open some, such as a watchdog, does something


def test_a_folder_that_does_not_exist(show: Show, tmp_path: Path) -> None:
    report, _ = show(boards.recorded(tmp_path / "nothing", {}))
    assert report["board"] == {"name": "", "kind": "", "l4t": "", "jetpack": ""}
    assert report["conflicts"] == []


def test_a_container_that_names_its_manager(tmp_path: Path) -> None:
    cgroup = {"/proc/self/cgroup": "0::/\n"}
    assert find_limits(boards.write(tmp_path / "none", cgroup)).container == ""
    for number, (file, said, name) in enumerate(
        [
            ("/run/systemd/container", "lxc\n", "lxc"),
            ("/run/host/container-manager", "systemd-nspawn\n", "systemd-nspawn"),
            ("/run/systemd/container", "no name\x1b[31m\n", ""),
        ]
    ):
        assert find_limits(boards.write(tmp_path / str(number), {**cgroup, file: said})).container == name


def test_a_mountinfo_without_slashes_has_an_end(tmp_path: Path) -> None:
    line = "31 23 0:26 / {} rw shared:4 - cgroup2 cgroup2 rw\n"
    for place in ("", "/", "//", "sys", "."):
        files = {"/proc/self/cgroup": "0::/a/b\n", "/proc/self/mountinfo": line.format(place)}
        assert find_limits(boards.write(tmp_path, files)).cpus is None


def test_a_power_chip_that_always_says_100_degrees(tmp_path: Path) -> None:
    zones = {"thermal_zone0": ("CPU-therm", "41500"), "thermal_zone1": ("PMIC-Die", "100000")}
    files = {
        f"/sys/class/thermal/{zone}/{name}": f"{text}\n"
        for zone, told in zones.items()
        for name, text in zip(("type", "temp"), told, strict=True)
    }
    assert find_throttling(Board("Jetson Nano", "jetson"), boards.write(tmp_path, files)).temperature == 41.5


# The program that asks a Raspberry Pi's firmware

_PI = Board("Raspberry Pi 4 Model B", "raspberry-pi")


@pytest.fixture
def vcgencmd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a program of that name first on the path."""

    def write(script: str) -> None:
        program = tmp_path / "bin" / "vcgencmd"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return write


_ONLY_FIRMWARE = pytest.mark.skipif(sys.platform != "linux", reason="runs a shell script")


@_ONLY_FIRMWARE
@pytest.mark.parametrize(
    ("script", "now", "before"),
    [
        ('[ "$1" = get_throttled ] && echo throttled=0x50005', ("under-voltage", "throttling"), ()),
        ("echo throttled=0xe0000", (), ("a capped frequency", "throttling", "the soft temperature limit")),
        ("echo throttled=0x0", (), ()),
    ],
)
def test_what_the_firmware_says(
    script: str, now: Sequence[str], before: Sequence[str], vcgencmd: Callable[[str], None]
) -> None:
    vcgencmd(script)
    found = find_throttling(_PI)
    assert (found.told, found.now, found.before) == (True, tuple(now), tuple(before))


@_ONLY_FIRMWARE
@pytest.mark.parametrize(
    "script",
    ["echo VCHI initialization failed >&2; exit 255", "echo throttled=what", "head -c 3000000 /dev/zero", "exit 0"],
)
def test_a_firmware_that_says_nothing(script: str, vcgencmd: Callable[[str], None]) -> None:
    vcgencmd(script)
    assert find_throttling(_PI).now == ()


@_ONLY_FIRMWARE
def test_a_firmware_that_hangs_is_left(
    vcgencmd: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.diagnosis.throttling._SECONDS", 0.5)
    pid = tmp_path / "pid"
    vcgencmd(f"sleep 1000 & echo $! > {pid}; wait")  # what it has started holds the pipe open, too
    assert find_throttling(_PI) == dataclasses.replace(find_throttling(Board("")), now=(), before=())
    for _ in range(1000):
        if not _lives(int(pid.read_text())):
            break
        time.sleep(0.01)  # an orphan goes once init has heard of it
    assert not _lives(int(pid.read_text()))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_another_machines_folder_asks_no_program(vcgencmd: Callable[[str], None], tmp_path: Path) -> None:
    vcgencmd("echo throttled=0x5")
    files = {path: text for path, text in boards.PI_4_THROTTLED.items() if "get_throttled" not in path}
    root = boards.write(tmp_path / "pi", files)
    assert find_throttling(find_board(root), root) == Throttling(83.75)


# Devices that are not for this user


def test_devices_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"/dev/dri/renderD{128 + i}": "" for i in range(5)}
    root = Path(boards.write(tmp_path, {**files, "/dev/nvhost-gpu": "", "/dev/accel/accel0": ""}))
    for path in root.rglob("render*"):
        path.chmod(0o660)
        if os.geteuid() == 0:
            os.chown(path, 0, 65432)
    (root / "dev/nvhost-gpu").chmod(0o600)
    allowed = str(root / "dev/accel/accel0")
    monkeypatch.setattr(os, "access", lambda path, _: str(path) == allowed)  # root may always
    rows = [row for row in examine(boards.recorded(root, {}))["machine"] if row["what"] == "permissions"]
    group = 65432 if os.geteuid() == 0 else os.getegid()
    assert {row["verdict"] for row in rows} == {"WARN"}
    by_group = next(row for row in rows if "renderD128" in row["found"])
    assert by_group["found"].endswith("/dev/dri/renderD130 and 2 more")
    assert "sudo usermod -aG " in by_group["remedy"]
    assert str(group) in by_group["remedy"] or os.geteuid() != 0
    assert "/dev/nvhost-gpu" in next(row for row in rows if row is not by_group)["found"]
    assert not any("accel0" in row["found"] for row in rows)


# Settings


def test_variables_known_unknown_and_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", "triton://user:secret@host:8001")
    monkeypatch.setenv(f"{PREFIX}BACKENDS", "onnxruntime")
    monkeypatch.setenv(f"{PREFIX}API_KEY", "secret")  # nobody reads it: what it holds is nobody's business
    monkeypatch.setenv("EDGE_ACCELERATE_TUNED", "yes")
    report = examine(boards.recorded(tmp_path, {}))
    rows = {row["found"]: row for row in report["machine"] if row["what"] == "environment"}
    typo = f"{PREFIX}BACKENDS is set, and nobody reads it (did you mean 'EDGE_ACCELERATE_BACKEND'?)"
    assert rows[typo]["remedy"] == f"unset {PREFIX}BACKENDS"
    assert any("EDGE_ACCELERATE_TUNED is 'yes'" in found and row["verdict"] == "WARN" for found, row in rows.items())
    assert "secret" not in json.dumps(report)
    assert any(found.startswith("EDGE_ACCELERATE_TRITON_URL=") and not row["remedy"] for found, row in rows.items())


def test_a_cache_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none/here")):
        monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(path))
        (row,) = (row for row in examine(boards.recorded(tmp_path, {}))["machine"] if row["what"] == "cache")
        assert row["verdict"] == "WARN"
        assert str(path) in row["found"]


def test_a_look_at_the_cache_folder_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "a" / "b"))
    assert examine(boards.recorded(tmp_path, {}))["cache"] == {"path": str(tmp_path / "a" / "b"), "problem": ""}
    assert not (tmp_path / "a").exists()
    (tmp_path / "a" / "b").mkdir(parents=True)
    examine(boards.recorded(tmp_path, {}))
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "b"]
    assert stat.S_ISDIR((tmp_path / "a" / "b").stat().st_mode)


# What tune has stored


def test_what_tune_has_stored(tmp_path: Path, show: Show) -> None:
    model = tmp_path / "digits.tflite"
    model.write_bytes((DATA / "digits_int8.tflite").read_bytes())
    facts = boards.recorded(tmp_path / "root", {})
    assert "Tuned" not in show(facts)[1]
    version = accelerate.list_backends()["tflite_cpu"].version
    measured = measurements.Measurement("tflite_cpu", "cpu", 2, version, "2026-11-27", 0.0123, None)
    assert measurements.keep(Source(model), LoadOptions(), measured) == ""
    report, printed = show(facts)
    (entry,) = report["tuned"]
    assert (entry["path"], entry["num_threads"], entry["outdated"]) == (str(model), 2, "")
    assert max(map(len, printed.splitlines())) <= 80
    assert "digits.tflite tflite_cpu cpu 2 0.0123 2026-11-27 in use" in " ".join(printed.split())
    # of another runtime, as `tune --list` has it
    older = dataclasses.replace(measured, version="Engine 0.1")
    assert measurements.keep(Source(model), LoadOptions(), older) == ""
    said = f"outdated: measured with Engine 0.1; here is {version}"
    assert said in " ".join(show(facts)[1].split())
    assert said.removeprefix("outdated: ") in CliRunner().invoke(tune, ["--list"]).output.replace("\n", " ")
    # which one it is, options may have said
    assert measurements.forget() == 1
    assert measurements.keep(Source(model), LoadOptions(backend_options={"engine": "another"}), older) == ""
    assert show(facts)[0]["tuned"][0]["outdated"] == ""
    model.unlink()
    assert "outdated: the file is gone" in " ".join(show(facts)[1].split())


# A stranger's backend


class _Stranger(Backend):
    name, description, extra = "stranger", "", ""
    variables: ClassVar[tuple[str, ...]] = (f"{PREFIX}STRANGER",)
    answer: Any = ()

    def conflicts(self, facts: Facts) -> Sequence[Conflict]:
        answer: Sequence[Conflict] = self.answer() if callable(self.answer) else self.answer
        return answer

    def match(self, *_: Any) -> Any: ...
    def availability(self) -> Any: ...
    def devices(self, *_: Any) -> Any: ...
    def load(self, *_: Any) -> Any: ...


def _raises() -> None:
    raise SystemExit("gone")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_raises, "stranger raised SystemExit: gone"),
        (None, "stranger raised TypeError"),
        (["text"], "conflicts() returned 'text', not of the class Conflict"),
        ([Conflict("why", 3)], "conflicts() returned Conflict(remedy=3); wanted str"),  # type: ignore[arg-type]
        ([Conflict("two of them", "remove one")], "two of them"),
    ],
)
def test_what_a_strangers_backend_says(answer: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = _Stranger()
    stranger.answer = answer
    known = {**registry.backends(), "stranger": stranger}
    monkeypatch.setattr(registry, "backends", lambda: known)
    monkeypatch.setenv(f"{PREFIX}STRANGER", "1")
    report = examine(boards.recorded(tmp_path, {}))
    (found,) = (each for each in report["conflicts"] if each["backend"] == "stranger")
    assert said in found["reason"]
    assert found["remedy"]
    assert f"{PREFIX}STRANGER=1" in [row["found"] for row in report["machine"]]


# The exit status


@pytest.mark.parametrize(
    ("devices", "variables", "status"),
    [
        ([("tflite_cpu", "cpu", True)], {}, 0),
        ([("tflite_cpu", "cpu", False), ("triton", "server", True)], {}, 1),
        ([("triton", "server", True)], {"EDGE_ACCELERATE_TRITON_URL": "localhost:1"}, 0),
        ([], {}, 1),
    ],
)
def test_the_status_is_0_only_where_something_can_run(
    devices: Sequence[tuple[str, str, bool]],
    variables: Mapping[str, str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from accelerate.reports import BackendInfo, Device

    listed = [Device(backend, kind, kind, "", ready) for backend, kind, ready in devices]
    names = {backend for backend, _, _ in devices}
    infos = {name: BackendInfo(name, "", True, "1", "", "") for name in names}
    monkeypatch.setattr(command, "list_devices", lambda: listed)
    monkeypatch.setattr(command, "list_backends", lambda: infos)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(doctor, [], standalone_mode=False).return_value == status
