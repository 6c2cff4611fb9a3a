"""What delegates' libraries are called, and what those that are known need when they create no delegate.

docs/delegates.md has the sources.
"""

from __future__ import annotations

import os

from accelerate.backends.tflite.delegates.library_file import LibraryKind

__all__ = ["KIND", "needs_of", "title_of"]

KIND = LibraryKind(
    topic="delegates",
    title="a TFLite delegate",
    variable="EDGE_ACCELERATE_TFLITE_DELEGATE",
    install="give the library of a TFLite delegate (docs/delegates.md lists some)",
    fitting="install a build of the library for this system and this version of the interpreter (docs/delegates.md)",
)

#: How a library's file begins -> what a person calls it, and what it needs.
_KNOWN = {
    "libteflon": (
        "Mesa's Teflon",
        "the NPU's driver must have made a device file that you may open (rocket: /dev/accel/accel0, etnaviv: "
        "/dev/dri/renderD128): look with ls -l /dev/accel /dev/dri; sudo usermod -aG render $USER",
    ),
    "libvx_delegate": (
        "VeriSilicon's VX delegate",
        "the NPU's driver galcore must be loaded, and /dev/galcore yours to open: lsmod | grep galcore",
    ),
    "libQnnTFLiteDelegate": (
        "Qualcomm's QNN delegate",
        "it wants to know where it runs: delegate_options={'backend_type': 'htp'}, or dsp or gpu; and its libQnn*.so "
        "with their skel libraries where the system finds them",
    ),
    "libarmnnDelegate": (
        "the Arm NN delegate",
        "name backends that this machine has: delegate_options={'backends': 'CpuAcc,CpuRef'}, with libarmnn.so and "
        "its backends where the system finds libraries",
    ),
}
_DEFAULT = "look whether the device is connected, its driver loaded, and its file in /dev yours to open"


def title_of(path: str) -> str:
    """Return what a person calls a library."""
    name = os.path.basename(path)
    return next((title for start, (title, _) in _KNOWN.items() if name.startswith(start)), name or "a delegate")


def needs_of(path: str) -> str:
    """Return what to do where a library creates no delegate."""
    name = os.path.basename(path)
    return next((needs for start, (_, needs) in _KNOWN.items() if name.startswith(start)), _DEFAULT)
