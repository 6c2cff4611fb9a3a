"""What installed distributions do not fit ONNX Runtime: one another, and the CUDA and JetPack of the machine."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence

from accelerate.contract import Conflict, Distribution, Facts

__all__ = ["find_conflicts"]

#: The CUDA that onnxruntime-gpu's wheels on PyPI are built for, from a version on: 12 since 1.19
#: (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements), 13 since 1.27 (what their
#: extra "cuda" requires: nvidia-cuda-runtime-cu12 until 1.26).
_CUDA_OF_WHEELS = (((1, 27), 13), ((1, 19), 12), ((1, 12), 11))
#: The CUDA of a JetPack: https://developer.nvidia.com/embedded/jetpack-archive.
_CUDA_OF_JETPACK = {"4": 10, "5": 11, "6": 12, "7": 13}
_LIBRARY = "libcudart.so.*"
_FOLDERS = (
    "/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib",
    "/usr/local/lib", "/opt/cuda/lib64",
)  # fmt: skip


def find_conflicts(facts: Facts, gpu_files: Sequence[str]) -> list[Conflict]:
    """Find several builds in one folder, and a build for another CUDA than the machine's.

    `gpu_files`: of which a system with an NVIDIA GPU has one.
    """
    return [*_together(facts), *_cuda(facts, gpu_files)]


def _together(facts: Facts) -> Iterator[Conflict]:
    """Distributions with the package `onnxruntime`, installed together, overwrite each other's files.

    https://github.com/microsoft/onnxruntime/issues/26996. Whose they are, pip has written down in RECORD.
    """
    for folder in dict.fromkeys(each.folder for each in facts.distributions.values()):
        owners = sorted(
            os.path.basename(os.path.dirname(path)).partition("-")[0].replace("_", "-")
            for path in facts.find(f"{glob.escape(folder)}/*.dist-info/RECORD")
            if "\nonnxruntime/__init__.py," in "\n" + facts.read(path)
        )
        if len(owners) > 1:
            yield Conflict(
                f"{' and '.join(owners)} are installed together and overwrite each other: what only one of them has, "
                "such as a GPU's provider, may be lost",
                f"pip uninstall -y {' '.join(owners)}, then pip install the one you want",
            )


def _cuda(facts: Facts, gpu_files: Sequence[str]) -> Iterator[Conflict]:
    build = next((d for name, d in sorted(facts.distributions.items()) if name.startswith("onnxruntime-gpu")), None)
    wanted = _built_for(facts, build) if build is not None else 0
    if build is None or not wanted or not facts.find(*gpu_files):
        return
    what = f"{build.name} {build.version} is built for CUDA {wanted}"
    jetpack = facts.board.jetpack
    if facts.board.kind == "jetson" and (there := _CUDA_OF_JETPACK.get(jetpack.partition(".")[0])):
        if there != wanted:  # the driver is the JetPack's, whatever libraries are installed beside it
            newer = next((k for k, v in _CUDA_OF_JETPACK.items() if v == wanted and there < wanted), "")
            yield Conflict(
                f"{what}, and JetPack {jetpack} has CUDA {there}: it cannot use this Jetson's GPU",
                f"pip uninstall -y {build.name}, then install NVIDIA's own wheel of it for JetPack {jetpack[:1]}"
                + (f"; or move the board to JetPack {newer}" if newer else ""),
                fatal=True,
            )
        return
    found = _libraries(facts)
    if wanted not in found:
        others = ", ".join(f"only CUDA {major} ({path})" for major, path in sorted(found.items()))
        yield Conflict(
            f"{what}, and the system has {others or f'no libcudart.so.{wanted}'}: it cannot use the GPU",
            f"install CUDA {wanted} with cuDNN 9"
            + ('; or, for CUDA 12: pip install "onnxruntime-gpu>=1.19,<1.27"' if 12 in found else ""),
            fatal=True,
        )


def _built_for(facts: Facts, build: Distribution) -> int:
    """Return the major version of the CUDA that a build wants: as it says itself, else as PyPI's do; 0 for unknown."""
    said = facts.read(f"{build.folder}/onnxruntime/capi/build_and_package_info.py")
    if written := re.search(r"^cuda_version = ['\"](\d{1,3})", said, re.MULTILINE):
        return int(written[1])
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", build.version, re.ASCII)
    version = tuple(map(int, numbers.groups())) if numbers else ()
    return next((cuda for since, cuda in _CUDA_OF_WHEELS if version >= since), 0)


def _libraries(facts: Facts) -> dict[int, str]:
    """Return the CUDA runtimes that there are: the major version, and a file of it.

    Where toolkits and distributions of Linux put them, where ld.so looks besides, and in NVIDIA's wheels.
    """
    folders = [*_FOLDERS]
    for path in facts.find("/etc/ld.so.conf.d/*.conf"):
        folders += [glob.escape(line.strip()) for line in facts.read(path).splitlines() if line.startswith("/")]
    for site in dict.fromkeys(each.folder for each in facts.distributions.values()):
        folders.append(f"{glob.escape(site)}/nvidia/*/lib")
    found: dict[int, str] = {}
    for path in facts.find(*(f"{folder}/{_LIBRARY}" for folder in folders)):
        if major := re.search(r"\.so\.(\d{1,3})(?:\.|$)", path):
            found.setdefault(int(major[1]), path)
    return found
