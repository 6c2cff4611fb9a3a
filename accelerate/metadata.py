"""What a model says about itself: its tensors, their meaning, and its labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from ._records import record

__all__ = ["AssociatedFile", "LabelFile", "Metadata", "Normalization", "Quantization", "TensorInfo", "printable"]


@record(frozen=True)
class Quantization:
    """Affine quantisation: ``real = (q - zero_point) * scale``.

    Attributes
    ----------
    scale : tuple of float
        One value, or one per index along `axis`.
    zero_point : tuple of int
        As many as `scale`.
    axis : int or None
        The quantised dimension; None means per tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@record(frozen=True)
class Normalization:
    """What the model expects done to pixels: ``real = (pixel - mean) / std``.

    Attributes
    ----------
    mean, std : tuple of float
        One value, or one per colour channel, in units of 0..255.
    source : str
        Where it comes from: "metadata", "user", or "assumed" (nobody said so).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


@record(frozen=True)
class AssociatedFile:
    """A file that the model's metadata associates with a tensor.

    Attributes
    ----------
    name, description : str
    label_type : str
        "tensor_axis", "tensor_value" or "unspecified".
    """

    name: str
    description: str = ""
    label_type: str = "unspecified"


@record(frozen=True)
class TensorInfo:
    """One input or output of a model.

    Attributes
    ----------
    name : str
        The canonical name: what `infer` returns and `metadata` lists.
    aliases : tuple of str
        Other names that `infer` accepts for this tensor.
    description : str
    data_type : str
        A NumPy dtype name, or "string".
    shape : tuple of int
        -1 is a dynamic dimension.
    quantization : Quantization or None
    normalization : Normalization or None
        For image inputs: how pixels become the values that the model wants.
    layout : str
        "NHWC", "NCHW", "HWC" or "CHW" for an image tensor, else "".
    color : str
        "RGB" or "GRAYSCALE" where known, else "".
    associated_files : tuple of AssociatedFile
    labels : tuple of str
        Of an output that has a label file of its own in the model: these, "" for a class without a name.
    extra : Mapping
        What has no field of its own: ``labels`` (the path that the user gave), ``boxOrder``, ``boxType``,
        ``boxCoordinates``, ``stats``, ``scoreThreshold``, ``scoreCalibration``, ``num_classes``, names of symbolic
        dimensions, ``optional`` for an input that may be left out, ...
    """

    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    data_type: str = "float32"
    shape: tuple[int, ...] = ()
    quantization: Quantization | None = None
    normalization: Normalization | None = None
    layout: str = ""
    color: str = ""
    associated_files: tuple[AssociatedFile, ...] = ()
    labels: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def optional(self) -> bool:
        """Whether it is an input that may be left out, for which the model has a value of its own."""
        return bool(self.extra.get("optional"))

    def __str__(self) -> str:
        shape = "[shape unknown]" if "rank" in self.extra and not self.shape else list(self.shape)
        parts = [f"{self.name}: {self.data_type}{shape}"]
        if self.optional:
            parts.append("optional")
        if self.layout:
            parts.append(f"image {self.layout}{' ' + self.color if self.color else ''}")
        if self.quantization:
            q = self.quantization
            scale, zero = (f"{q.scale[0]:.6g}", q.zero_point[0]) if q.axis is None else (f"per axis {q.axis}", "...")
            parts.append(f"scale {scale} zero_point {zero}")
        if self.normalization:
            n = self.normalization
            parts.append(f"(pixel - {_short(n.mean)}) / {_short(n.std)} [{n.source}]")
        if self.aliases:
            parts.append("also " + ", ".join(repr(a) for a in self.aliases))
        return printable("  ".join(parts))


@record(frozen=True)
class Metadata:
    """What is known about a model.

    Attributes
    ----------
    name, type, description : str
        `type` uses Viam's words ("tflite_detector", "tflite_classifier", ...); "" when unknown.
    inputs, outputs : tuple of TensorInfo
        In the model's own order.
    labels : tuple of str
        Class names, from ``label_path``, else the packed file of the output that holds the classes, else the names that
        the exporter wrote into the model; "" for a class without a name, empty when there are none.
    stateful : bool
        Whether the model itself keeps values from one call to the next; ``{"command": "reset"}`` clears them.
    extra : Mapping
        What has no field of its own: ``author``, ``license``, ``version``; what the exporter wrote, as text
        (``imgsz``, ``stride``, ``task``, ``names``, ...); ``type_guessed`` is True where only the outputs' shapes and
        names tell the type.
    """

    name: str
    type: str
    description: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    labels: tuple[str, ...] = ()
    stateful: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def required_inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs that every call gives: all but the optional ones."""
        return tuple(tensor for tensor in self.inputs if not tensor.optional)

    @property
    def takes_pictures(self) -> bool:
        """Whether the one input that has to be given is an image."""
        required = self.required_inputs
        return len(required) == 1 and bool(required[0].layout)

    def label(self, index: int) -> str:
        """Return the name of a class, or its index as text where it has none."""
        return (self.labels[index] if 0 <= index < len(self.labels) else "") or str(index)

    def __str__(self) -> str:
        kind = f"{self.type} (guessed)" if self.extra.get("type_guessed") else self.type
        title = " · ".join(part for part in (self.name, kind, self.description) if part)
        lines = [title or "(no name in the model)"]
        lines += [f"  in   {tensor}" for tensor in self.inputs]
        lines += [f"  out  {tensor}" for tensor in self.outputs]
        if self.stateful:
            lines.append("  keeps state from one call to the next (reset clears it)")
        if self.labels:
            shown = " | ".join(self.labels[:5]) + (" | ..." if len(self.labels) > 5 else "")
            lines.append(f"  {len(self.labels)} labels: {shown}")
        return "\n".join(map(printable, lines))


@record(frozen=True)
class LabelFile:
    """What a label file says: each way to read it, the usual one first."""

    readings: tuple[tuple[str, ...], ...]

    def labels(self, classes: Collection[int] = ()) -> tuple[str, ...]:
        """Return the reading that fits a number of classes that the model may have, else the usual one.

        A class without a label is "".
        """
        return next((one for one in self.readings if len(one) in classes), self.readings[0])


def printable(line: str) -> str:
    """Return a line that no text from a model file can break or make a terminal act on."""
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _short(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"
