"""What is installed that does not fit the Edge TPU's runtime library."""

from __future__ import annotations

import glob
from collections.abc import Iterator

from accelerate.backends.tflite.conflicts import version_of
from accelerate.contract import Conflict, Facts

__all__ = ["find_conflicts"]

#: Coral's own packages of the library, up to 16.0 of 2021, are built for TFLite 2.5; interpreters since 2.12 crash with
#: them (https://github.com/google-coral/edgetpu/issues/812). Builds for newer ones have "TF2.17.1" in their version.
_PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
_CRASHES_SINCE = (2, 12)


def find_conflicts(facts: Facts) -> list[Conflict]:
    """Find PyCoral's namesake, and a library that is older than the interpreter."""
    return [*_namesake(facts), *_old_library(facts)]


def _namesake(facts: Facts) -> Iterator[Conflict]:
    found = facts.distributions.get("pycoral")
    if found is not None and not facts.find(f"{glob.escape(found.folder)}/pycoral/utils/edgetpu.py"):
        yield Conflict(
            f"pycoral {found.version} in {found.folder} is an unrelated program, not Coral's PyCoral",
            "pip uninstall pycoral; nothing is needed in its place (docs/coral.md)",
        )


def _old_library(facts: Facts) -> Iterator[Conflict]:
    litert, runtime = (facts.distributions.get(name) for name in ("ai-edge-litert", "tflite-runtime"))
    if litert is not None:  # what a load takes first
        engine = f"ai-edge-litert {litert.version}"
    elif runtime is not None and version_of(runtime.version) >= _CRASHES_SINCE:
        engine = f"tflite-runtime {runtime.version}"
    else:
        return
    for package in _PACKAGES:
        version = facts.debian_version(package)
        if version_of(version) and "tf" not in version.lower():
            yield Conflict(
                f"{package} {version} is built for TFLite 2.5, and {engine} is newer: such pairs crash; each model is "
                "tried in a child process first",
                "install a build of the library for this runtime (docs/coral.md, 'Where is PyCoral?')",
            )
