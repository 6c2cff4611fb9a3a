"""The peers' environments: made with pip the first time, ``.venv-peer-NAME`` in the checkout's root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..fresh import ROOT

__all__ = ["ENVIRONMENTS", "Environment", "Unavailable"]


class Unavailable(Exception):
    """A peer cannot be installed here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """One peer's packages.

    Attributes
    ----------
    name : str
    packages : tuple of str
        For pip; none for the environment that runs this.
    pythons : tuple of str
        The commands to try, in this order: some peers have wheels for old Pythons only.
    """

    name: str
    packages: tuple[str, ...] = ()
    pythons: tuple[str, ...] = (sys.executable,)

    def python(self) -> str:
        """Return the command of its Python, installing what is missing.

        Raises
        ------
        Unavailable
        """
        if not self.packages:
            return sys.executable
        folder = ROOT / f".venv-peer-{self.name}"
        command, ready = folder / "bin" / "python", folder / ".ready"
        if not (ready.is_file() and ready.read_text() == "\n".join(self.packages)):
            failures = [failure for python in self.pythons if (failure := self._create(python))]
            if len(failures) == len(self.pythons):
                raise Unavailable("; ".join(failures))
            ready.write_text("\n".join(self.packages))
        return str(command)

    def _create(self, python: str) -> str:
        """Make the environment and return "", or why it cannot be made."""
        folder = str(ROOT / f".venv-peer-{self.name}")
        install = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--only-binary=:all:", *self.packages]
        return _failure([python, "-m", "venv", "--clear", folder]) or _failure(install)


def _failure(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if not done.returncode:
        return ""
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return f"{command[0]}: {said[-1] if said else 'status ' + str(done.returncode)}"


_NUMPY = "numpy>=2,<2.5"

ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("ours"),
        Environment("litert", ("ai-edge-litert==2.3.0", _NUMPY)),
        Environment("tflite-runtime", ("tflite-runtime==2.14.0", "numpy<2"), ("python3.11", "python3.10")),
        Environment("onnxruntime", ("onnxruntime>=1.20", _NUMPY)),
        Environment("uairt", ("uairt[onnxruntime]==0.2.0", _NUMPY)),
        Environment("tritonclient", ("tritonclient[grpc]==2.73.0", _NUMPY)),
        Environment("mediapipe", ("mediapipe==1.2.3",)),
        Environment("by-hand", ("ai-edge-litert==2.3.0", "opencv-python-headless", _NUMPY)),
    )
}
