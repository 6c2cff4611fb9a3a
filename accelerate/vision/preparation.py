"""How a frame becomes the tensor of a vision model: as it was trained, as far as anybody says how that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._records import record
from ..calls.pixels import warn_outside
from ..errors import OptionError
from ..metadata import Metadata, Normalization, TensorInfo
from .layout import Layout
from .outputs import picture_input

__all__ = ["Preparation", "preparation_for", "warn_of"]

_COLORS = ("RGB", "BGR")


@record(frozen=True)
class Preparation:
    """What is done to a frame.

    Attributes
    ----------
    info : TensorInfo
        The image input, with the order of colours and the normalisation that hold.
    resize, anchor, fill
        As for `accelerate.image.to_tensor`.
    sources : mapping of str to str
        Where each of "resize", "anchor", "fill", "color" and "normalization" comes from: "user", a file's name,
        "metadata", "exporter"; "assumed" where it is usual for models of this family; "usual" where it is so for all.
    """

    info: TensorInfo
    resize: str
    anchor: str
    fill: int | Sequence[int]
    sources: Mapping[str, str]

    @property
    def assumed(self) -> tuple[str, ...]:
        """What nobody says, in words."""
        n = self.info.normalization
        if n is not None and n.source == "assumed":  # of every model of the format: it has a warning of its own
            n = None
        words = {
            "resize": f"resize={self.resize!r}",
            "anchor": f"anchor={self.anchor!r}",
            "fill": f"fill={self.fill!r}",
            "color": f"input_color={self.info.color or 'RGB'!r}",
            "normalization": "" if n is None else f"normalization={(_one(n.mean), _one(n.std))}",
        }
        if self.resize != "letterbox":
            del words["fill"]
        if self.resize == "stretch":
            del words["anchor"]
        return tuple(word for key, word in words.items() if word and self.sources[key] == "assumed")


#: What is usual for families of models, by the form of their boxes; nobody says it of a file that shows it.
_YOLOX = {"resize": "letterbox", "anchor": "top-left", "fill": 114, "color": "BGR", "normalization": (0.0, 1.0)}
_NANODET = {
    "resize": "letterbox",
    "color": "BGR",
    "normalization": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}
_ULTRALYTICS = {"resize": "letterbox", "fill": 114, "color": "RGB", "normalization": (0.0, 255.0)}
_PLAIN = {"resize": "stretch", "anchor": "center", "fill": 0, "color": "RGB"}


def preparation_for(metadata: Metadata, given: Mapping[str, Any], layout: Layout | None) -> Preparation:
    """Settle what is done to the frames of a model.

    Parameters
    ----------
    metadata : Metadata
    given : mapping
        What the user says: "resize", "anchor", "fill", "color" (of the model); None where nothing is said.
    layout : Layout or None
        That of the outputs, by which families of models are known.

    Raises
    ------
    OptionError
        The model has another input than one image.
    """
    info = picture_input(metadata)
    if info is None:
        wanted = ", ".join(f"{t.name!r} {t.data_type}{list(t.shape)}" for t in metadata.required_inputs)
        raise OptionError(
            f"the model takes no picture: its inputs are {wanted}",
            "say which is one: load(..., normalization=…)" if wanted else "",
        )
    if given.get("color") not in (None, *_COLORS):
        raise OptionError(f"input_color is {given['color']!r:.60}; wanted 'RGB' or 'BGR'")
    described = metadata.extra.get("vision", {})
    levels: list[tuple[str, Mapping[str, Any]]] = [
        ("user", given),
        (Path(described.get("file", "")).name, described),
        ("metadata", {"color": info.color if info.color in _COLORS else None}),
        ("exporter", _exporters(metadata)),
        ("assumed", _family(layout)),
        ("usual", _PLAIN),
    ]
    values, sources = {}, {}
    for key in _PLAIN:
        source, values[key] = next((name, some[key]) for name, some in levels if some.get(key) is not None)
        sources[key] = source
    n, sources["normalization"] = _normalization(info, levels)
    color = values["color"] if info.color != "GRAYSCALE" else info.color
    return Preparation(
        replace(info, color=color, normalization=n), values["resize"], values["anchor"], values["fill"], sources
    )


def _normalization(
    info: TensorInfo, levels: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[Normalization | None, str]:
    """Return the input's own normalisation, else the first one that is usual, and who says so."""
    n = info.normalization
    if info.data_type.startswith("float") and (n is None or n.source == "assumed"):
        for name, some in levels:
            if name in ("exporter", "assumed") and "normalization" in some:
                mean, std = (part if isinstance(part, tuple) else (part,) for part in some["normalization"])
                return Normalization(mean, std, "user"), name
    return n, "" if n is None else n.source


def _exporters(metadata: Metadata) -> Mapping[str, Any]:
    """Return how Ultralytics' exporter has the frames prepared, where it wrote the file."""
    said = metadata.extra
    if said.get("author") != "Ultralytics" and not {"task", "names", "imgsz", "stride"} <= said.keys():
        return {}
    task = said.get("task")
    if task == "classify":
        return {"resize": "crop", "color": "RGB"}
    return {**_ULTRALYTICS, "anchor": "center"} if task in ("detect", "segment", "pose", "obb") else {}


def _family(layout: Layout | None) -> Mapping[str, Any]:
    if layout is None or layout.kind not in ("dense", "rows"):
        return {}
    if layout.boxes in ("grid", "") and layout.kind == "dense":
        return _YOLOX
    if layout.boxes == "bins" and any("cls_pred" in name or "dis_pred" in name for name in layout.names("boxes")):
        return _NANODET
    queries = layout.kind == "dense" and layout.nms_done
    plain = layout.boxes in ("cxcywh", "bins", "anchors") or (layout.kind == "rows" and len(layout.columns) == 6)
    return _ULTRALYTICS if plain and not queries else {}


def warn_of(preparation: Preparation, what: str) -> None:
    """Say what is assumed of the frames."""
    if preparation.assumed:
        warn_outside(
            f"input {preparation.info.name!r}: nothing says how a frame becomes its tensor; as is usual for {what}, "
            f"this assumes {', '.join(preparation.assumed)}. To confirm it, and end this warning, have it written to a "
            "file beside the model, and check that: `edge-accelerate inspect MODEL --write-description`. A program may "
            "give these arguments as well: the normalization to load, the others to the vision task"
        )


def _one(values: Sequence[float]) -> Any:
    return values[0] if len(set(values)) == 1 else tuple(values)
