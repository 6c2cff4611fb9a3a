"""Machines as folders of the files by which they are known: device trees, /proc, /sys, what dpkg and pip installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate.diagnosis.facts import Facts, gather

#: Where pip has installed something, on all of these machines.
SITE = "/opt/venv/lib/python3.11/site-packages"
_MOUNTS = "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev{} 0 0\n"
_CGROUP_2 = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
_CPU = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}"
_THERMAL = "/sys/class/thermal"


def _tree(model: str, *compatible: str, core: str) -> dict[str, str]:
    """Return a device tree: its strings end with a zero byte."""
    return {
        "/proc/device-tree/model": f"{model}\0",
        "/proc/device-tree/compatible": "".join(f"{each}\0" for each in compatible),
        "/proc/device-tree/cpus/cpu@0/compatible": f"arm,{core}\0",
    }


def _clock(governor: str, driver: str, cpus: int = 4) -> dict[str, str]:
    said = {"governor": governor, "driver": driver}
    return {_CPU.format(i, name): f"{text}\n" for i in range(cpus) for name, text in said.items()}


def _memory(kilobytes: int) -> dict[str, str]:
    return {
        "/proc/meminfo": f"MemTotal:       {kilobytes} kB\nMemFree:          123456 kB\n",
        "/proc/self/mounts": _MOUNTS.format(""),
        "/dev/shm/keep": "",
    }


def pip_installed(name: str, version: str, *files: str, site: str = SITE) -> dict[str, str]:
    """Return what pip leaves of a distribution with these files."""
    folder = f"{site}/{name.replace('-', '_')}-{version}.dist-info"
    record = "".join(f"{file},,\n" for file in files)
    return {f"{folder}/METADATA": f"Name: {name}\nVersion: {version}\n", f"{folder}/RECORD": record}


def _dpkg(**packages: str) -> dict[str, str]:
    paragraph = "Package: {}\nStatus: install ok installed\nPriority: optional\nArchitecture: arm64\nVersion: {}\n"
    removed = "Package: nvidia-jetpack-old\nStatus: deinstall ok config-files\nVersion: 1.0\n"
    known = [paragraph.format(name.replace("_", "-"), version) for name, version in packages.items()]
    return {"/var/lib/dpkg/status": "\n".join([removed, *known])}


PI_5_WITH_CORAL: Mapping[str, str] = {
    **_tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712", core="cortex-a76"),
    **_clock("ondemand", "cpufreq-dt"),
    **_memory(8245932),
    **_dpkg(libedgetpu1_std="16.0", libc6="2.36-9+rpt2+deb12u9"),
    **pip_installed("ai-edge-litert", "2.3.0", "ai_edge_litert/__init__.py"),
    **pip_installed("numpy", "2.4.6", "numpy/__init__.py"),
    **pip_installed("pycoral", "0.2.0", "pycoral/__init__.py"),
    "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "0\n",
    f"{_THERMAL}/thermal_zone0/temp": "52350\n",
    f"{_THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{_THERMAL}/cooling_device0/cur_state": "1\n",
}

PI_4_THROTTLED: Mapping[str, str] = {
    **_tree("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", "brcm,bcm2711", core="cortex-a72"),
    **_clock("powersave", "cpufreq-dt"),
    **_memory(1890132),
    **pip_installed("tflite-runtime", "2.14.0", "tflite_runtime/__init__.py"),
    **pip_installed("numpy", "2.2.6", "numpy/__init__.py"),
    "/sys/devices/platform/soc/soc:firmware/get_throttled": "d0005\n",
    f"{_THERMAL}/thermal_zone0/temp": "83750\n",
}

JETSON_ORIN: Mapping[str, str] = {
    **_tree(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234", core="cortex-a78",
    ),
    **_clock("schedutil", "tegra194-cpufreq", 6),
    **_memory(7802284),
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    **_dpkg(nvidia_l4t_core="36.4.3-20250107174145", nvidia_jetpack="6.2+b77"),
    **pip_installed("onnxruntime-gpu", "1.31.1", "onnxruntime/__init__.py"),
    f"{SITE}/onnxruntime/__init__.py": "",
    f"{SITE}/onnxruntime/capi/build_and_package_info.py": "package_name = 'onnxruntime-gpu'\ncuda_version = '13.0'\n",
    "/usr/local/cuda-12.6/targets/aarch64-linux/lib/libcudart.so.12": "",
    "/dev/nvhost-gpu": "",
    f"{_THERMAL}/thermal_zone0/temp": "61250\n",
    f"{_THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{_THERMAL}/cooling_device0/cur_state": "2\n",
    f"{_THERMAL}/cooling_device1/type": "gpu-throttle-alert\n",
    f"{_THERMAL}/cooling_device1/cur_state": "1\n",
    f"{_THERMAL}/cooling_device2/type": "cpu-throttle-alert\n",
    f"{_THERMAL}/cooling_device2/cur_state": "0\n",
    "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "/sys/class/hwmon/hwmon3/oc3_event_cnt": "17\n",
}  # fmt: skip

JETSON_XAVIER: Mapping[str, str] = {
    **_tree("NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0001", "nvidia,tegra194", core="carmel"),
    **_clock("schedutil", "tegra194-cpufreq", 6),
    **_memory(6844852),
    "/etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
    **pip_installed("onnxruntime-gpu", "1.18.0", "onnxruntime/__init__.py"),
    "/usr/local/cuda-11.4/lib64/libcudart.so.11.0": "",
    "/dev/nvhost-gpu": "",
}

CONTAINER: Mapping[str, str] = {
    "/.dockerenv": "",
    "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor @ 2.20GHz\n",
    "/proc/meminfo": "MemTotal:       16393216 kB\n",
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": _CGROUP_2,
    "/proc/self/mounts": _MOUNTS.format(",noexec,size=65536k"),
    "/dev/shm/keep": "",
    "/sys/fs/cgroup/cpu.max": "50000 100000\n",
    "/sys/fs/cgroup/memory.max": "536870912\n",
    **pip_installed("onnxruntime", "1.32.0", "onnxruntime/__init__.py", "onnxruntime/capi/x.so"),
    **pip_installed("onnxruntime-gpu", "1.26.0", "onnxruntime/__init__.py", "onnxruntime/capi/x.so"),
    **pip_installed("opencv-python", "4.11.0.86", "cv2/__init__.py"),
    **pip_installed("opencv-python-headless", "5.0.0.93", "cv2/__init__.py"),
}

LAPTOP: Mapping[str, str] = {
    "/sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "/sys/class/dmi/id/product_name": "20QES01L00\n",
    "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-8365U CPU @ 1.60GHz\n",
    **_clock("powersave", "intel_pstate"),
    **_memory(16189848),
    "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "0\n",
    "/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0\n",
    f"{_THERMAL}/thermal_zone0/temp": "45000\n",
}

BOARDS = {
    "Pi 5 with a Coral": PI_5_WITH_CORAL,
    "Pi 4 throttled": PI_4_THROTTLED,
    "Jetson with JetPack 6": JETSON_ORIN,
    "Jetson with JetPack 5": JETSON_XAVIER,
    "container": CONTAINER,
    "laptop": LAPTOP,
}


def write(root: Path, files: Mapping[str, str | bytes]) -> str:
    """Write files below a folder, and return what stands before their paths."""
    for path, content in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(root)


def recorded(root: Path, files: Mapping[str, str | bytes], machine: str = "aarch64") -> Facts:
    """Return what is known of a machine that has these files."""
    return gather(write(root, files), [SITE], machine)
