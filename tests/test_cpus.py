"""How many CPUs a process may use, by files as kernels show them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accelerate.system.cpus import usable_cpus

_V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
_V1_SETS = "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
_V2 = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
_SERVICE = "0::/system.slice/camera.service\n"
_POD = "/kubepods/burstable/pod12/9f"

CASES = {
    "a service's own quota": (_SERVICE, _V2, {"system.slice/camera.service/cpu.max": "100000 100000"}, 1),
    "its slice has the smaller one": (
        _SERVICE, _V2,
        {"system.slice/camera.service/cpu.max": "300000 100000", "system.slice/cpu.max": "150000 100000"}, 2,
    ),
    "without a limit": (_SERVICE, _V2, {"system.slice/camera.service/cpu.max": "max 100000"}, math.inf),
    "half a CPU is one": (_SERVICE, _V2, {"system.slice/camera.service/cpu.max": "50000 100000"}, 1),
    "a neighbour's quota": (_SERVICE, _V2, {"system.slice/other.service/cpu.max": "100000 100000"}, math.inf),
    "a name that begins alike": (_SERVICE, _V2, {"system.slice/camera/cpu.max": "100000 100000"}, math.inf),
    "a container's cgroup as the root": ("0::/\n", _V2, {"cpu.max": "200000 100000"}, 2),
    "a container under the host's names": (
        f"0::{_POD}\n", _V2.replace(" / ", f" {_POD} ", 1), {"cpu.max": "200000 100000"}, 2,
    ),
    "a cgroup out of sight": ("0::/../other\n", _V2, {"cpu.max": "200000 100000"}, 2),
    "v1, on the pod": (
        f"4:cpu,cpuacct:{_POD}\n3:cpuset:/\n", _V1_SETS + _V1,
        {f"cpu,cpuacct{_POD}/cpu.cfs_quota_us": "-1", f"cpu,cpuacct{_POD}/cpu.cfs_period_us": "100000",
         "cpu,cpuacct/kubepods/burstable/pod12/cpu.cfs_quota_us": "200000",
         "cpu,cpuacct/kubepods/burstable/pod12/cpu.cfs_period_us": "100000"}, 2,
    ),
    "v1 beside a v2 without the controller": (
        f"4:cpu,cpuacct:{_POD}\n0::/\n", _V1 + _V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
        {f"cpu,cpuacct{_POD}/cpu.cfs_quota_us": "50000", f"cpu,cpuacct{_POD}/cpu.cfs_period_us": "100000"}, 1,
    ),
    "nonsense": ("what\n", "no\n", {}, math.inf),
    "a quota of another form": (_SERVICE, _V2, {"system.slice/camera.service/cpu.max": "plenty"}, math.inf),
}  # fmt: skip


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("name", CASES)
def test_the_smallest_quota_of_a_cgroup_and_its_ancestors_counts(name: str, tmp_path: Path) -> None:
    memberships, mounts, files, wanted = CASES[name]
    own = tmp_path / "proc" / "self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(memberships)
    (own / "mountinfo").write_text(mounts)
    for path, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert usable_cpus(str(tmp_path)) == min(8, wanted)


@pytest.mark.usefixtures("eight_cpus")
def test_a_system_without_cgroups(tmp_path: Path) -> None:
    assert usable_cpus(str(tmp_path)) == 8


@pytest.fixture
def quota() -> Iterator[Path]:
    """Make a cgroup with half a CPU."""
    new = f"edge-accelerate-test-{os.getpid()}"
    for top, file, text in (("cpu", "cpu.cfs_quota_us", "50000"), ("", "cpu.max", "50000 100000")):
        folder = Path("/sys/fs/cgroup", top, new)
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / file).write_text(text)
            yield folder
        except OSError:
            continue
        else:
            return
        finally:
            folder.rmdir()
    pytest.skip("no cgroup can be made here")


def test_a_real_quota(quota: Path) -> None:
    code = (
        f"import os; open({str(quota / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "os.sched_getaffinity = lambda _: set(range(8))\n"
        "from accelerate.system.cpus import usable_cpus; print(usable_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
