"""A backend of one's own, and nothing that it could leave out: y = x w, for a matrix w in an .npy file, by NumPy.

What each method answers, docs/writing-a-backend.md says.

$ pip install examples/plugin_backend
$ python -c "import numpy; numpy.save('w.npy', numpy.float32([[1, 0], [0, 2], [3, 3]]))"
$ python -c "import accelerate; print(accelerate.load('w.npy').infer([1.0, 1.0, 1.0]))"
{'y': array([4., 5.], dtype=float32)}
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from accelerate.contract import Availability, Backend, Device, LoadOptions, Match, RuntimeInfo, RuntimeModel, Source
from accelerate.errors import ModelError, OptionError
from accelerate.metadata import Metadata, TensorInfo


class LinearNpy(Backend):
    """Found through the entry point in pyproject.toml."""

    name = "linear_npy"
    description = "a matrix in an .npy file, by NumPy"
    extra = ""
    formats: ClassVar[Mapping[str, str]] = {"npy": "an .npy file"}

    @classmethod
    def sniff(cls, head: bytes) -> str:
        return "npy" if head.startswith(b"\x93NUMPY") else ""

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format != "npy":
            return Match(False, f"{source} is {source.likeness}, not an .npy file", "save a matrix by numpy.save")
        if options.signature is not None or options.num_threads is not None:  # what is not done is refused
            raise OptionError("an .npy file has no signatures, and NumPy takes no num_threads", "leave them out")
        source.opened(_read)  # a damaged file is refused here, and not only by load
        return Match(True, "an .npy file")

    def describe(self, source: Source, signature: str | None) -> Metadata:
        x, y = _tensors(source.opened(_read))
        return Metadata("", "", "", (x,), (y,))

    def availability(self) -> Availability:
        return Availability(True, f"NumPy {np.__version__}")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        return [Device(self.name, "cpu", "cpu", "CPU")]

    def load(self, source: Source, options: LoadOptions) -> RuntimeModel:
        return Linear(source.opened(_read), options)


class Linear(RuntimeModel):
    """One model."""

    def __init__(self, matrix: Any, options: LoadOptions) -> None:
        self._matrix = matrix
        x, y = _tensors(matrix)
        super().__init__("linear_npy", [x], [y], RuntimeInfo("NumPy", np.__version__, "cpu"), options)

    def execute(self, feeds: list[Any]) -> list[Any]:  # arrays of the model's dtypes and shapes
        return [feeds[0] @ self._matrix]


def _read(content: Any, name: str) -> Any:
    try:
        matrix = np.load(io.BytesIO(content))
    except Exception as error:  # of many kinds
        raise ModelError(f"{name} is damaged: {error}", "save it again by numpy.save") from error
    if matrix.ndim != 2 or matrix.dtype != np.float32:
        raise ModelError(f"{name} holds {matrix.dtype}{list(matrix.shape)}", "wanted a matrix of float32")
    return matrix


def _tensors(matrix: Any) -> tuple[TensorInfo, TensorInfo]:
    return TensorInfo("x", shape=matrix.shape[:1]), TensorInfo("y", shape=matrix.shape[1:])
