"""The edgetpu backend, on a stand-in for the Edge TPU's library: no Edge TPU takes part (see edgetpu_stand_in.c)."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import edgetpu_stand_in as stand_in
import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import (
    BackendNotAvailableError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
    NoBackendError,
    OptionError,
    UnsupportedModelError,
)
from accelerate.backends.edgetpu import devices, library, model
from accelerate.backends.edgetpu import hardware as system
from accelerate.backends.edgetpu.library_file import about_namesake
from accelerate.backends.edgetpu.twins import needed_runtime
from accelerate.backends.tflite.delegates import library as delegate_library
from accelerate.backends.tflite.delegates import trial
from accelerate.system import children

X = np.array([[1, 2, 3, 255]], np.uint8)
NOT_X = [[254, 253, 252, 0]]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", stand_in.library())
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model, "_SETTLING", 0.05)  # there is no stick that has to come back
    gc.collect()  # a model that an earlier test has not closed uses its device


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell the stand-in how to behave."""

    def tell(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"EDGETPU_STAND_IN_{name}", value)

    return tell


def load(source: Any = None, **options: Any) -> accelerate.Model:
    return accelerate.load(stand_in.bits() if source is None else source, backend="edgetpu", **options)


def compile_c(code: str, path: Path, *arguments: str) -> str:
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(path), *arguments],
        input=code.encode(),
        check=True,
    )
    return str(path)


# The library


def test_missing_library() -> None:
    with pytest.raises(BackendNotAvailableError, match=r"there is no library /nowhere/lib\.so; correct library="):
        load(library="/nowhere/lib.so")


@pytest.mark.parametrize("given", [123, [], "a\0b", "", b"/lib.so", True, {}])
def test_a_library_that_is_no_path(given: Any) -> None:
    with pytest.raises(OptionError, match=r"library is .*; wanted the path"):
        load(library=given)
    decided = accelerate.plan(stand_in.bits(), backend="edgetpu", library=given)
    assert decided.chosen is None
    assert re.search("library is .*; wanted the path", decided.skipped[0].reason)


def test_no_library_on_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_ACCELERATE_EDGETPU_LIBRARY")
    monkeypatch.setattr("accelerate.backends.edgetpu.library.name_on_this_platform", lambda: "libno-such-thing.so.1")
    info = accelerate.list_backends()["edgetpu"]
    assert not info.available
    assert info.reason == "the Edge TPU's runtime library libno-such-thing.so.1 is not installed"
    assert "libedgetpu1-std" in info.remedy
    assert "another program" in info.remedy


def test_library_for_another_processor(tmp_path: Path) -> None:
    content = bytearray(Path(stand_in.library()).read_bytes())
    struct.pack_into("<H", content, 18, 40)
    (tmp_path / "arm.so").write_bytes(content)
    with pytest.raises(BackendNotAvailableError, match="is built for 32-bit ARM, this Python for"):
        load(library=tmp_path / "arm.so")


@pytest.mark.parametrize(
    ("soname", "said"),
    [
        ("libusb-1.0.so.77", "needs libusb-1.0, which is not installed; sudo apt install libusb-1.0-0"),
        ("libother.so.3", r"needs libother\.so\.3, which is not installed"),
    ],
)
def test_library_that_lacks_another(tmp_path: Path, soname: str, said: str) -> None:
    other = compile_c("int f(void) { return 0; }", tmp_path / soname, f"-Wl,-soname,{soname}")
    path = compile_c("int f(void); int g(void) { return f(); }", tmp_path / "tpu.so", other)
    os.remove(other)
    with pytest.raises(BackendNotAvailableError, match=said):
        load(library=path)


def test_another_library(tmp_path: Path) -> None:
    path = compile_c("int f(void) { return 0; }", tmp_path / "tpu.so")
    with pytest.raises(BackendNotAvailableError, match="is not the Edge TPU's runtime library"):
        load(library=path)
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(BackendNotAvailableError, match="is no library"):
        load(library=tmp_path / "text.so")


def test_library_that_crashes_when_it_lists_devices(tell: Any, tmp_path: Path) -> None:
    shutil.copy(stand_in.library(), tmp_path / "crashing.so")  # nothing is known of it yet
    tell(LIST="crash")
    with pytest.raises(BackendNotAvailableError, match=r"loaded in a child process first.*SIGSEGV"):
        load(library=tmp_path / "crashing.so")


def test_never_an_ignored_exception(tmp_path: Path) -> None:
    """The engines' own load_delegate leaves "Exception ignored in Delegate.__del__" on stderr."""
    (tmp_path / "model.tflite").write_bytes(stand_in.bits())
    code = f"""if True:
        import accelerate, os
        for library, create in (("/nowhere.so", ""), (None, "refuse"), (None, "")):
            os.environ["EDGETPU_STAND_IN_CREATE"] = create
            try:
                model = accelerate.load({str(tmp_path / "model.tflite")!r}, backend="edgetpu", library=library)
            except accelerate.AccelerateError as error:
                print(type(error).__name__)
        print(model.infer([[1, 2, 3, 255]])["y"].tolist())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["BackendNotAvailableError", "DeviceNotFoundError", str(NOT_X)]
    assert done.returncode == 0


# Devices


def test_devices_by_corals_words(tell: Any) -> None:
    tell(DEVICES="usb,pci,usb")
    listed = [d.id for d in accelerate.list_devices() if d.backend == "edgetpu"]
    assert listed == ["usb:0", "pci:0", "usb:1"]
    words = {":0": "usb:0", ":1": "pci:0", ":2": "usb:1", "usb": "usb:0", "usb:1": "usb:1", "pci": "pci:0"}
    for given, wanted in words.items():
        with load(device=given) as loaded:
            assert loaded.device == wanted
    for given in ("usb:2", ":3", "pci:1"):
        with pytest.raises(DeviceNotFoundError, match="its devices: usb:0, pci:0, usb:1"):
            load(device=given)


def test_no_device(tell: Any, tmp_path: Path) -> None:
    tell(DEVICES="")
    info = accelerate.list_backends()["edgetpu"]
    assert (info.available, "no Edge TPU is connected" in info.reason) == (False, True)
    for name in ("net.tflite", "net_edgetpu.tflite"):
        (tmp_path / name).write_bytes(stand_in.bits() if "edgetpu" in name else odd_models.uint8_quantised())
    with pytest.raises(DeviceNotFoundError, match=r"no Edge TPU is connected; .*twin .*/net\.tflite"):
        load(tmp_path / "net_edgetpu.tflite")
    with pytest.raises(NoBackendError, match=r"twin .*/net\.tflite"):
        accelerate.load(tmp_path / "net_edgetpu.tflite")


def test_refused_device(tell: Any) -> None:
    tell(CREATE="refuse")
    with pytest.raises(DeviceNotFoundError, match="another user's process may have it open"):
        load()


def test_a_stick_that_needs_a_second_attempt(tell: Any) -> None:
    tell(CREATE="refuse once")
    assert load().infer(X)["y"].tolist() == NOT_X


@pytest.mark.parametrize("device", [None, "tpu"])
def test_replicas_take_the_devices_in_turn(tell: Any, device: str | None) -> None:
    tell(DEVICES="usb,usb,pci")
    with load(device=device, replicas=4) as replicated:
        used = [replica.device for replica in replicated.models]  # type: ignore[attr-defined]
        assert used == ["usb:0", "usb:1", "pci:0", "usb:0"]
        assert replicated.infer(X)["y"].tolist() == NOT_X
    with load() as first, load() as second:
        assert (first.device, second.device) == ("usb:0", "usb:1")
    forgotten = load()
    assert forgotten.device == "usb:0"
    del forgotten
    gc.collect()
    assert load().device == "usb:0"


# What the system shows: files under a folder that take the place of /sys and /dev


class Root:
    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: str = "") -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def stick(self, key: str, ids: str, number: int, *, node: bool = True) -> Path:
        for name, content in zip(("idVendor", "idProduct"), ids.split(":"), strict=True):
            self.write(f"sys/bus/usb/devices/{key}/{name}", f"{content}\n")
        self.write(f"sys/bus/usb/devices/{key}/busnum", "2\n")
        self.write(f"sys/bus/usb/devices/{key}/devnum", f"{number}\n")
        file = self.path / f"dev/bus/usb/002/{number:03}"
        return self.write(str(file.relative_to(self.path))) if node else file


@pytest.fixture
def root() -> Iterator[Root]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        os.chmod(folder, 0o755)
        yield Root(Path(folder))


def look(root: Root) -> list[system.Seen]:
    return system.look(root.path)


def test_nothing_is_shown(root: Root) -> None:
    assert look(root) == []
    root.stick("1-1", "046d:c52b", 3)  # a mouse
    assert look(root) == []


def test_sticks(root: Root) -> None:
    node = root.stick("2-3", "1a6e:089a", 4)
    root.stick("2-4", "18d1:9302", 11)
    new, used = look(root)
    assert (new.kind, new.key, new.node, new.reason) == ("usb", "2-3", node, "")
    assert "not yet initialised" in new.name
    assert (used.key, used.name, used.reason) == ("2-4", "Coral USB Accelerator", "")


def test_stick_in_a_container(root: Root) -> None:
    node = root.stick("2-3", "18d1:9302", 4, node=False)
    (seen,) = look(root)
    assert seen.reason == f"there is no device file {node}"
    assert "docker run --device /dev/bus/usb" in seen.remedy


def as_nobody(call: Callable[[], Any]) -> Any:
    """Run in a child process without privileges."""
    import grp  # noqa: F401 - another user may not read Python's own files

    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, repr(call()).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize(
    ("mode", "group", "remedy"),
    [(0o660, 46, "sudo usermod -aG"), (0o664, 0, "/etc/udev/rules.d/60-edgetpu.rules"), (0o600, 46, "udev")],
)
def test_no_permission(root: Root, mode: int, group: int, remedy: str) -> None:
    node = root.stick("2-3", "18d1:9302", 4)
    os.chown(node, 0, group)
    os.chmod(node, mode)
    said = as_nobody(lambda: look(root))
    assert f"this user may not read and write {node}" in said
    assert remedy in said
    assert look(root)[0].reason == ""


def test_pcie(root: Root) -> None:
    root.write("sys/bus/pci/devices/0000:03:00.0/vendor", "0x1ac1\n")
    root.write("sys/bus/pci/devices/0000:03:00.0/device", "0x089a\n")
    (seen,) = look(root)
    assert "the driver apex is not loaded" in seen.reason
    assert "gasket-dkms" in seen.remedy
    root.write("sys/module/apex/refcnt", "0")
    (seen,) = look(root)
    assert "loaded but has made no device file" in seen.reason
    assert "dmesg" in seen.remedy
    node = root.write("dev/apex_0")
    (seen,) = look(root)
    assert (seen.kind, seen.key, seen.node, seen.reason) == ("pci", "apex_0", node, "")


def test_devices_join_both_lists(root: Root, tell: Any) -> None:
    tell(DEVICES="usb,usb")
    root.stick("stand-in-1", "1a6e:089a", 4)
    root.stick("2-9", "18d1:9302", 5)
    root.write("sys/bus/pci/devices/0000:03:00.0/vendor", "0x1ac1\n")
    root.write("sys/bus/pci/devices/0000:03:00.0/device", "0x089a\n")
    rows = devices.list_devices("edgetpu", library.open_library(None), root.path)
    assert [(row.id, row.ready) for row in rows] == [
        ("usb:0", True),
        ("usb:1", True),
        ("usb:2", False),
        ("pci:0", False),
    ]
    assert "not yet initialised" in rows[1].name
    assert "the library does not list it" in rows[2].reason
    assert "not loaded" in rows[3].reason
    assert all(row.remedy for row in rows if not row.ready)
    with pytest.raises(DeviceNotFoundError, match=r"pci:0 cannot be used: the driver apex is not loaded.*gasket-dkms"):
        devices.lease("edgetpu", library.open_library(None), "pci", root.path)


def test_busy_device(root: Root) -> None:
    node = root.stick("stand-in-0", "18d1:9302", 4)
    (root.path / "proc").symlink_to("/proc")
    assert system.holders(node) == []
    opened = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", opened, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (holder,) = system.holders(node)
        assert f"(process {process.pid})" in holder
        reason, remedy = devices.why_not_opened(library.open_library(None), "usb:0", root.path)
        process.communicate(b"")
    assert reason.startswith(f"it is busy: {holder} has it open")
    assert remedy == "end that"
    reason, remedy = devices.why_not_opened(library.open_library(None), "usb:5", root.path)
    assert (reason, remedy) == ("usb:5 is no longer connected", devices.CONNECT)


# The first load and inference, in a child process


def test_library_older_than_the_models_compiler(tell: Any, models_dir: Path, tmp_path: Path) -> None:
    real = models_dir / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    assert needed_runtime(real.read_bytes()) == 12
    tell(VERSION="10")
    old = shutil.copy(stand_in.library(), tmp_path / "old.so")  # it is asked once for its version
    with pytest.raises(BackendNotAvailableError, match=r"runtime version 12 .* has 10; update the library"):
        load(real, library=old)


def test_requirements_of_broken_packages() -> None:
    assert needed_runtime(b"") is None
    assert needed_runtime(b"\x00" * 100 + b"\xff\xff\xff\xffDWN1") is None
    assert needed_runtime(b"\x08\0\0\0DWN1" + b"\xff" * 8) is None


def test_library_refuses_a_newer_model(tell: Any) -> None:
    tell(PREPARE="old")
    with pytest.raises(BackendNotAvailableError, match=r"requires runtime version \(15\).*; update the library"):
        load()


@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_crash_is_a_reason_and_remembered(tell: Any, step: str) -> None:
    tell(**{step: "crash"})
    with pytest.raises(BackendNotAvailableError, match=r"crash together: .*SIGSEGV.*install a build of the library"):
        load()
    tell(**{step: ""})
    with pytest.raises(BackendNotAvailableError, match=r"to try again, delete .*/edgetpu"):
        load()
    assert load(stand_in.floats([2])).infer([1.0, 2.0])["y"].tolist() == [2, 4]  # the verdict is about a model


@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_remembered_crash_is_shown(tell: Any, step: str, tmp_path: Path) -> None:
    (tmp_path / "net_edgetpu.tflite").write_bytes(stand_in.bits())
    before = accelerate.list_backends()["edgetpu"]
    assert before.available
    tell(**{step: "crash"})
    with pytest.raises(BackendNotAvailableError, match="SIGSEGV"):
        load(tmp_path / "net_edgetpu.tflite")
    info = accelerate.list_backends()["edgetpu"]
    assert not info.available
    assert info.version == before.version
    said = rf"{stand_in.library()} \(.*RuntimeVersion.*\) and .* crash together: .*/net_edgetpu\.tflite .*SIGSEGV"
    assert re.match(said, info.reason)
    assert re.match(r"install a build of the library for this runtime .*to try again, delete .*/edgetpu", info.remedy)
    assert not [d for d in accelerate.list_devices() if d.backend == "edgetpu"]
    decided = accelerate.plan(tmp_path / "net_edgetpu.tflite")
    assert decided.chosen is None
    (row,) = (c for c in decided.skipped if c.backend == "edgetpu")
    assert (row.reason, row.remedy) == (info.reason, info.remedy)
    testing = pytest.importorskip("click.testing")
    from accelerate.cli.doctor import doctor

    shown = testing.CliRunner().invoke(doctor, []).output
    assert re.search(r"FAIL +edgetpu", shown)
    assert "SIGSEGV" in shown
    assert "to try again, delete" in " ".join(shown.split())


def test_a_crash_of_one_model_leaves_the_others_their_device(tell: Any) -> None:
    load(stand_in.floats([2])).close()
    tell(RUN="crash")
    with pytest.raises(BackendNotAvailableError):
        load()
    tell(RUN="")
    info = accelerate.list_backends()["edgetpu"]
    assert info.available
    assert "it has run other models, but" in info.reason
    assert "SIGSEGV" in info.reason
    assert info.remedy
    with accelerate.load(stand_in.floats([2])) as loaded:
        assert loaded.device == "usb:0"


@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_kill_from_outside_is_not_remembered(tell: Any, step: str) -> None:
    """As the kernel does where memory is short."""
    tell(**{step: "killed"})
    with pytest.raises(BackendNotAvailableError, match=r"could not be tried .*SIGKILL.*whether memory is short"):
        load()
    tell(**{step: ""})
    assert accelerate.list_backends()["edgetpu"].available
    assert load().infer(X)["y"].tolist() == NOT_X


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        *((-getattr(signal, f"SIG{name}"), True) for name in ("SEGV", "BUS", "ABRT", "ILL", "FPE")),
        *((-getattr(signal, f"SIG{name}"), False) for name in ("KILL", "TERM", "ALRM", "INT", "HUP")),
        (0xC0000005, True),  # an access violation on Windows
        (1, False),
    ],
)
def test_what_counts_as_a_crash(code: int, fault: bool) -> None:
    assert children._is_fault(code) is fault


@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_hang_is_a_reason_and_not_remembered(tell: Any, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2.0)
    tell(**{step: "hang"})
    started = time.monotonic()
    with pytest.raises(BackendNotAvailableError, match=r"no answer within 2 s .* unplug the device"):
        load()
    assert time.monotonic() - started < 3
    tell(**{step: ""})
    monkeypatch.setattr(trial, "SECONDS", 60.0)
    assert load().infer(X)["y"].tolist() == NOT_X


@pytest.mark.slow
@pytest.mark.parametrize("tries", [5, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("how", ["crash", "hang"])
@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_every_bad_delegate_is_survived(
    tell: Any, step: str, how: str, tries: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit, said = (1.0, "no answer within 1 s") if how == "hang" else (30.0, "killed by SIGSEGV")
    monkeypatch.setattr(trial, "SECONDS", limit)
    library.open_library(None)
    tell(**{step: how})
    late = []
    for attempt in range(tries):
        monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / str(attempt)))
        started = time.monotonic()
        with pytest.raises(BackendNotAvailableError, match=said):
            load()
        late.append(time.monotonic() - started - limit)
    assert max(late) < 1


def test_a_hang_that_no_child_has_met(tell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load().close()
    monkeypatch.setattr(delegate_library, "CREATE_SECONDS", 0.5)
    tell(CREATE="hang")
    ticks: list[float] = []

    def tick() -> None:
        while len(ticks) < 20:
            time.sleep(0.01)
            ticks.append(time.monotonic())

    ticker = threading.Thread(target=tick)
    ticker.start()
    started = time.monotonic()
    with pytest.raises(BackendNotAvailableError, match=r"does not open the device within 0\.5 s"):
        load()
    assert time.monotonic() - started < 1.5
    assert len(ticks) == 20  # the other threads have gone on
    ticker.join()


def test_the_second_load_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    load().close()
    monkeypatch.setattr(children, "run_in_child", None)
    assert load().infer(X)["y"].tolist() == NOT_X


def test_a_second_model_on_an_open_device_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    with load():
        monkeypatch.setattr(children, "run_in_child", None)  # another process could not open the device
        assert load(stand_in.floats([2])).infer([1.0, 2.0])["y"].tolist() == [2, 4]


# Routing


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    plain, compiled = tmp_path / "net.tflite", tmp_path / "net_edgetpu.tflite"
    plain.write_bytes(odd_models.add3())
    compiled.write_bytes(stand_in.floats([3]))
    return plain, compiled


def test_auto_takes_the_compiled_twin(pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    plain, compiled = pair
    decided = accelerate.plan(plain)
    assert decided.chosen is not None
    assert (decided.chosen.backend, str(compiled) in decided.chosen.reason) == ("edgetpu", True)
    with accelerate.load(plain) as loaded:
        assert (loaded.backend, loaded.device) == ("edgetpu", "usb:0")
        assert loaded.runtime.details["compiled_twin"] == str(compiled)
        assert loaded.infer([1.0, 2.0, 3.0])["y"].tolist() == [2, 4, 6]
    (record,) = caplog.records
    assert str(compiled) in record.message
    assert str(plain) in record.message


def test_plan_looks_at_the_library_that_is_named(pair: tuple[Path, Path]) -> None:
    decided = accelerate.plan(pair[1], backend="edgetpu", library="/nowhere/libedgetpu.so.1")
    assert decided.chosen is None
    assert "/nowhere/libedgetpu.so.1" in decided.skipped[0].reason


def test_no_twin_without_a_device(pair: tuple[Path, Path], tell: Any) -> None:
    tell(DEVICES="")
    with accelerate.load(pair[0]) as loaded:
        assert loaded.backend == "tflite_cpu"


def test_twins_that_will_not_do(pair: tuple[Path, Path]) -> None:
    plain, compiled = pair

    def reason() -> str:
        with pytest.raises(UnsupportedModelError) as caught:
            load(plain)
        with accelerate.load(plain) as loaded:
            assert loaded.backend == "tflite_cpu"
        return str(caught.value)

    os.utime(compiled, ns=(0, plain.stat().st_mtime_ns - 1))
    assert "is older than it; compile it: edgetpu_compiler" in reason()
    compiled.write_bytes(stand_in.floats([4]))
    assert "has other inputs" in reason()
    compiled.write_bytes(odd_models.add3())
    assert "in spite of its name" in reason()
    compiled.write_bytes(b"TFL3" * 100)
    assert "not compiled" in reason()
    compiled.unlink()
    assert f"the model is not compiled for the Edge TPU; compile it: edgetpu_compiler {plain}" in reason()


def test_real_pair(models_dir: Path, tmp_path: Path) -> None:
    name = "mobilenet_v1_0.25_128_quant{}.tflite"
    for suffix in ("", "_edgetpu"):
        shutil.copyfile(models_dir / name.format(suffix), tmp_path / name.format(suffix))
    decided = accelerate.plan(tmp_path / name.format(""))
    assert decided.chosen is not None
    assert decided.chosen.backend == "edgetpu"
    shutil.copyfile(models_dir / "mobilenet_v2_1.0_224_quant.tflite", tmp_path / name.format(""))
    os.utime(tmp_path / name.format("_edgetpu"))
    decided = accelerate.plan(tmp_path / name.format(""))
    assert decided.chosen is not None
    assert decided.chosen.backend == "tflite_cpu"
    assert any("has other inputs" in row.reason for row in decided.skipped)


def test_options() -> None:
    with pytest.raises(OptionError, match="give load"):
        load(delegate_options={"device": "usb"})
    with pytest.raises(OptionError, match="wanted a mapping"):
        load(delegate_options="Performance")
    with load(delegate_options={"Performance": "Max"}, num_threads=1) as loaded:
        assert loaded.runtime.details["num_threads"] == 1


def test_says_what_runs_where(tell: Any, caplog: pytest.LogCaptureFixture) -> None:
    with load() as loaded:
        assert (loaded.runtime.delegated, loaded.runtime.total) == (1, 1)
        assert loaded.runtime.details["library"] == stand_in.library()
        assert "stand-in" in loaded.runtime.details["library_version"]
    assert not caplog.records
    with load(stand_in.partly()) as loaded:
        assert (loaded.runtime.delegated, loaded.runtime.total) == (2, 3)
        assert loaded.infer([1.0, 2.0, 3.0, 4.0])["y"].tolist() == [8, 16, 24, 32]
    (record,) = caplog.records
    assert "1 of 3 operators run on the CPU: ADD" in record.message
    with pytest.raises(UnsupportedModelError, match="other-op"):
        load(stand_in.partly("other-op"))
    tell(CLAIM="1")
    with pytest.raises(accelerate.ModelError, match=r"refuses the model.*edgetpu-custom-op"):
        load(stand_in.partly())


# A device that goes away


def test_lost_and_back(tell: Any, caplog: pytest.LogCaptureFixture) -> None:
    with load() as loaded:
        assert loaded.infer(X)["y"].tolist() == NOT_X
        tell(DEVICES="")
        with pytest.raises(DeviceLostError, match="usb:0 was lost during a run"):
            loaded.infer(X)
        with pytest.raises(DeviceLostError, match="tried again in"):
            loaded.infer(X, timeout=5)
        time.sleep(0.06)
        with pytest.raises(DeviceLostError, match=r"tried again in 0.10 s|tried again in 0.0"):
            loaded.infer(X)
        tell(DEVICES="usb")
        time.sleep(0.15)
        assert loaded.infer(X)["y"].tolist() == NOT_X
    assert [r.message for r in caplog.records if "back" in r.message]


def test_lost_with_a_dynamic_shape(tell: Any) -> None:
    with load(stand_in.floats([-1, 3])) as loaded:
        x = np.ones((5, 3), np.float32)
        loaded.infer(x)
        tell(DEVICES="")
        with pytest.raises(DeviceLostError):
            loaded.infer(x)
        tell(DEVICES="usb")
        time.sleep(0.06)
        assert loaded.infer(x)["y"].tolist() == (2 * x).tolist()


def test_lost_under_a_binding(tell: Any) -> None:
    with load() as loaded, loaded.bind() as binding:
        binding.inputs["x"][...] = X
        binding.run()
        assert binding.outputs["y"].tolist() == NOT_X
        tell(DEVICES="")
        with pytest.raises(DeviceLostError):
            binding.run()
        tell(DEVICES="usb")
        time.sleep(0.06)
        binding.run()
        assert binding.outputs["y"].tolist() == NOT_X
        assert not binding.zero_copy


def test_another_device_only_where_none_was_named(tell: Any) -> None:
    tell(DEVICES="usb,pci")
    with load() as anywhere, load(device="pci:0") as named:
        assert (anywhere.device, named.device) == ("usb:0", "pci:0")
    with load(device="usb:0") as named, load(device="usb") as kind:
        tell(DEVICES=",")
        for loaded in (named, kind):
            with pytest.raises(DeviceLostError):
                loaded.infer(X)
        tell(DEVICES="pci")
        time.sleep(0.06)
        for loaded in (named, kind):
            with pytest.raises(DeviceLostError, match="not connected"):
                loaded.infer(X)
    tell(DEVICES="usb,pci")
    with load() as anywhere:
        tell(DEVICES=",")
        with pytest.raises(DeviceLostError):
            anywhere.infer(X)
        tell(DEVICES="pci")
        time.sleep(0.06)
        assert anywhere.infer(X)["y"].tolist() == NOT_X
        assert anywhere.device == "pci:0"


def test_an_error_on_the_cpu_is_no_lost_device() -> None:
    with load(stand_in.bits()) as loaded:
        assert not loaded.delegate_failed("Node number 0 (GATHER) failed to invoke.")  # type: ignore[attr-defined]
        assert loaded.delegate_failed("Node number 1 (DELEGATE) failed to invoke.")  # type: ignore[attr-defined]
    assert not issubclass(DeviceLostError, InferenceError)


@pytest.mark.parametrize("size", [0, 17 << 20])
def test_a_changed_file_is_opened_again_as_it_was_or_not(tell: Any, tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(stand_in.bits() + bytes(size))
    with load(path) as loaded:
        first = loaded.infer(X)
        tell(DEVICES="")
        with pytest.raises(DeviceLostError):
            loaded.infer(X)
        path.write_bytes(stand_in.floats([1, 4]) + bytes(size))
        tell(DEVICES="usb")
        time.sleep(0.06)
        if size:  # the engine maps it
            with pytest.raises(DeviceLostError, match=r"has changed since it was loaded\).*; load it again"):
                loaded.infer(X)
        else:
            again = loaded.infer(X)
            assert all(np.array_equal(again[name], first[name]) for name in first)


def test_the_kept_error_keeps_no_device_open(tell: Any) -> None:
    loaded = load()
    interpreter = __import__("weakref").ref(loaded._interpreter)  # type: ignore[attr-defined]
    tell(DEVICES="")
    with pytest.raises(DeviceLostError) as caught:
        loaded.infer(X)
    assert interpreter() is None
    assert caught.value.__cause__ is not None
    loaded.close()


@pytest.mark.slow
def test_lost_during_ten_times_a_thousand_calls(tell: Any) -> None:
    """Every call is right or a DeviceLostError, none hangs, and service resumes each time."""
    rounds, calls = 10, 1000
    feeds = [np.full((1, 4), n, np.uint8) for n in range(256)]
    with load() as loaded:
        for _ in range(rounds):
            tell(LOSE_AFTER="300", AWAY_MS="80")
            right = lost = 0
            losses = set()
            for n in range(calls):
                try:
                    answer = loaded.infer(feeds[n % 256], timeout=10 if n % 2 else None)["y"]
                    assert (answer == 255 - n % 256).all()
                    right += 1
                except DeviceLostError:
                    lost += 1
                    losses.add(right)
                    time.sleep(0.01)
            assert right + lost == calls
            assert len(losses) >= 2
            assert right > calls / 2
            tell(LOSE_AFTER="0")
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert loaded.infer(feeds[7])["y"][0, 0] == 248
                    break
                except DeviceLostError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)


def test_many_callers_of_a_device_that_comes_and_goes(tell: Any) -> None:
    tell(LOSE_AFTER="50", AWAY_MS="60")
    with load() as loaded:

        def calls(value: int) -> tuple[int, int]:
            x, right, lost = np.full((1, 4), value, np.uint8), 0, 0
            for _ in range(60):
                try:
                    assert (loaded.infer(x, timeout=30)["y"] == 255 - value).all()
                    right += 1
                except DeviceLostError:
                    lost += 1
                    time.sleep(0.01)
            return right, lost

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(calls, range(4)))
    assert sum(lost for _, lost in outcomes) > 0
    assert sum(right for right, _ in outcomes) > 60


# Interpreters that exist already, such as PyCoral's make_interpreter() gives


@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_pycorals_interpreter(engine: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"{engines.PACKAGES[engine]}.interpreter")
    delegate = module.load_delegate(stand_in.library(), {"device": "usb"})
    interpreter = module.Interpreter(model_content=stand_in.bits(), experimental_delegates=[delegate])
    with accelerate.load(interpreter) as loaded:
        assert (loaded.backend, loaded.device) == ("edgetpu", "usb:0")
        assert (loaded.runtime.delegated, loaded.runtime.total) == (1, 1)
        assert loaded.infer(X)["y"].tolist() == NOT_X
    with pytest.raises(OptionError, match="settled"):
        load(interpreter, device="usb:0")
    plain = module.Interpreter(model_content=odd_models.add3())
    with accelerate.load(plain) as loaded:
        assert loaded.backend == "tflite_cpu"
    with pytest.raises(UnsupportedModelError, match="with the Edge TPU's delegate"):
        load(plain)


def test_pycorals_interpreter_loses_its_device(tell: Any) -> None:
    module = importlib.import_module(f"{engines.PACKAGES[engines.INSTALLED[0]]}.interpreter")
    delegate = module.load_delegate(stand_in.library(), {})
    interpreter = module.Interpreter(model_content=stand_in.bits(), experimental_delegates=[delegate])
    with load(interpreter) as loaded:
        tell(DEVICES="")
        with pytest.raises(DeviceLostError):
            loaded.infer(X)


def test_the_package_that_is_called_pycoral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert about_namesake() == ""
    (tmp_path / "pycoral-0.2.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "pip uninstall pycoral" in about_namesake()
    (tmp_path / "pycoral/utils").mkdir(parents=True)
    (tmp_path / "pycoral/utils/edgetpu.py").touch()
    assert about_namesake() == ""


def test_quiet_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with load() as loaded:
        loaded.infer(X)
    assert not caplog.records
