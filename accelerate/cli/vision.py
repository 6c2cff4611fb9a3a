"""What the commands say of a model's vision task: as objects that ``--json`` prints, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..calls.pixels import pixel_normalization
from ..vision import Classifier, Detector, PoseEstimator, Segmenter, VisionTask
from ..vision.preparation import Preparation
from .terms import as_options

__all__ = ["describe_preparation", "numbers", "preparation_fields", "task_name"]

_NAMES: Mapping[type, str] = {
    Classifier: "classifier",
    Detector: "detector",
    PoseEstimator: "pose estimator",
    Segmenter: "segmenter",
}
_SAYS = {
    "metadata": "by the model's metadata",
    "exporter": "by what its exporter wrote",
    "assumed": "assumption: nothing says so",
    "usual": "as usual: nothing says otherwise",
    "user": "as given",
}


def task_name(task: VisionTask[Any]) -> str:
    """Return "classifier", "detector", "pose estimator" or "segmenter"."""
    return next(name for kind, name in _NAMES.items() if isinstance(task, kind))


def describe_preparation(done: Preparation) -> dict[str, Any]:
    """Return what is done to frames, and who says each: "sources".

    Without a "normalization" an integer "data_type" holds a picture's levels; of a float nobody knows what it holds.
    """
    n = pixel_normalization(done.info)
    return {
        "resize": done.resize,
        "anchor": done.anchor,
        "fill": done.fill,
        "color": done.info.color or "RGB",
        "data_type": done.info.data_type,
        "normalization": None if n is None else {"mean": list(n.mean), "std": list(n.std)},
        "sources": dict(done.sources),
    }


def preparation_fields(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each part of what `describe_preparation` returned with who says it; what has no effect is left out."""
    for key in ("resize", "anchor", "fill", "color"):
        if (key == "fill" and said["resize"] != "letterbox") or (key == "anchor" and said["resize"] == "stretch"):
            continue
        yield key, f"{said[key]}, {_source(said, key)}"
    if (n := said["normalization"]) is not None:
        formula = f"(pixel - {numbers(n['mean'])}) / {numbers(n['std'])}"
        yield "normalization", f"{formula}, {_source(said, 'normalization')}"
    elif said["data_type"].startswith("float"):
        yield "normalization", as_options("nothing says it: give load(..., normalization=(mean, std)) to `run`")
    else:
        yield "normalization", "none: the model takes levels"


def _source(said: Mapping[str, Any], key: str) -> str:
    source = said["sources"][key]
    return _SAYS.get(source, f"by {source}")


def numbers(values: Iterable[float]) -> str:
    """Return one number where all are the same, else all of them."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"
