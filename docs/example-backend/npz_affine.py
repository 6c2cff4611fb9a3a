"""A whole backend: affine models, y = a x + b, that lie in .npz files and are run by NumPy.

What `plan`, `load`, `infer`, `bind`, deadlines, replicas, conversions and errors need beside this, the core does.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from accelerate.contract import (
    Array,
    Availability,
    Backend,
    Device,
    LoadOptions,
    Match,
    RuntimeInfo,
    RuntimeModel,
    Source,
)
from accelerate.errors import ModelError, OptionError, one_line
from accelerate.metadata import Metadata, TensorInfo

_REMEDY = "save it by numpy.savez(a=, b=, shape=)"


class NpzAffine(Backend):
    """Found through the entry point in pyproject.toml."""

    name = "npz_affine"
    description = "affine models in .npz files, by NumPy"
    extra = ""
    formats: ClassVar[Mapping[str, str]] = {"npz": "an .npz file"}

    @classmethod
    def sniff(cls, head: bytes) -> str:
        """Tell an .npz file: a zip archive whose first file is an array."""
        return "npz" if head[:4] == b"PK\3\4" and b".npy" in head[:64] else ""

    def match(self, source: Source, options: LoadOptions) -> Match:
        """Judge by the content alone; a refusal names the source and says what to do."""
        if source.format != "npz":
            return Match(False, f"{source} is {source.likeness}, not an .npz file", _REMEDY)
        if options.signature is not None or options.num_threads is not None:  # what is not done is refused
            raise OptionError("an .npz file has no signatures, and NumPy takes no num_threads", "leave them out")
        source.opened(_read)  # another's .npz file, or a damaged one, is refused here, and not only by `load`
        return Match(True, "an .npz file")

    def availability(self) -> Availability:
        """Say whether the runtime works here: a real one imports it and computes something."""
        return Availability(True, f"NumPy {np.__version__}", "NumPy is always here")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        """List what it runs on, preferred first."""
        return [Device(self.name, "cpu", "cpu", "CPU")]

    def load(self, source: Source, options: LoadOptions) -> RuntimeModel:
        """Build the model; `match` has accepted the source, and the core has chosen `options.device`."""
        return AffineModel(*source.opened(_read), options)

    def describe(self, source: Source, signature: str | None) -> Metadata:
        """Say what the file says of itself, by which a plan judges names; ``edge-accelerate inspect`` shows it."""
        *_, x, y = source.opened(_read)
        return Metadata("", "", "", (x,), (y,))


class AffineModel(RuntimeModel):
    """One model. `execute` is all that a runtime must do."""

    def __init__(self, a: Array, b: Array, x: TensorInfo, y: TensorInfo, options: LoadOptions) -> None:
        self._a, self._b = a, b
        super().__init__("npz_affine", [x], [y], RuntimeInfo("NumPy", np.__version__, "cpu"), options)

    def execute(self, feeds: list[Array]) -> list[Array]:
        """Run on arrays of the model's dtypes, and return arrays that are the caller's."""
        return [self._a * feeds[0] + self._b]


def _read(content: Any, name: str) -> tuple[Array, Array, TensorInfo, TensorInfo]:
    """Read a file, which may be anybody's; `Source.opened` does it once for all that ask."""
    try:
        with np.load(io.BytesIO(content)) as file:
            found = {key: np.asarray(file[key]) for key in ("a", "b", "shape") if key in file}
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise ModelError(f"{name} is damaged: {one_line(error)}", _REMEDY) from error
    if missing := [key for key in ("a", "b", "shape") if key not in found]:
        raise ModelError(f"{name} has no array {missing[0]!r}", _REMEDY)
    a, b, shape = found.values()
    if not a.dtype == b.dtype == np.float32 or shape.ndim != 1 or shape.dtype.kind != "i":
        raise ModelError(f"{name} has an array of another kind: wanted float32 a and b, and a list as shape", _REMEDY)
    sizes = tuple(map(int, shape))
    return a, b, TensorInfo("x", shape=sizes), TensorInfo("y", shape=sizes)
