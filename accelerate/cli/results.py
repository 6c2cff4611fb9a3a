"""What ``edge-accelerate run`` shows of an answer: an object that ``--json`` prints, and tables of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..metadata import Metadata, TensorInfo
from ..vision import Classifications, Detections, Poses, Segmentation
from .rendering import print_line, print_table

__all__ = ["MOST_CLASSES", "class_scores", "describe_outputs", "describe_results", "print_answer"]

MOST_CLASSES = 5
_FIRST_VALUES = 4
_DECIMALS = 2  # of a coordinate in pixels
_SURE = 0.5  # a point's score


def describe_results(results: Any, top: int | None) -> dict[str, Any]:
    """Return what a task answered: "results", best first; of a segmentation "classes" with their shares of the frame.

    Parameters
    ----------
    results : Classifications, Detections, Poses or Segmentation
    top : int, optional
        At most so many classes of a segmentation.
    """
    if isinstance(results, Segmentation):
        return {"results": None, "classes": _shares(results)[:top]}
    return {"results": [_result(results, one) for one in results]}


def _result(results: Classifications | Detections | Poses, one: Any) -> dict[str, Any]:
    said = {} if isinstance(results, Poses) else {"index": one.index, "label": one.label}
    said["score"] = _plain(one.score)
    if not isinstance(results, Classifications):
        said["box"] = _numbers(one.box)
    if (points := getattr(one, "keypoints", None)) is not None:
        said["keypoints"] = [[*_numbers(point[:2]), _plain(point[2])] for point in points.tolist()]
    if (corners := getattr(one, "corners", None)) is not None:
        said["corners"] = [_numbers(corner) for corner in corners.tolist()]
    return said


def _numbers(values: Iterable[float]) -> list[Any]:
    return [_plain(round(value, _DECIMALS)) for value in values]


def _shares(found: Segmentation) -> list[dict[str, Any]]:
    numbers, counts = np.unique(found.mask, return_counts=True)
    pairs = sorted(zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
    return [
        {"index": index, "label": found.label(index), "share": count / found.mask.size}
        for index, count in pairs
        if index != found.UNSEEN
    ]


def class_scores(
    outputs: Mapping[str, Array], metadata: Metadata, top: int, min_score: float | None
) -> list[dict[str, Any]] | None:
    """Return the best classes, or None where the model's answer does not look like class scores."""
    if len(outputs) != 1:
        return None
    (scores,) = outputs.values()
    if scores.dtype.kind != "f" or scores.size < 2 or scores.shape not in ((scores.size,), (1, scores.size)):
        return None
    flat = scores.ravel()
    best = [i for i in np.argsort(-flat, kind="stable")[:top].tolist() if min_score is None or flat[i] >= min_score]
    return [{"index": i, "label": metadata.label(i), "score": _plain(flat[i].item())} for i in best]


def describe_outputs(outputs: Mapping[str, Array], infos: Iterable[TensorInfo]) -> list[dict[str, Any]]:
    """Return what is to be seen of the tensors."""
    return [_describe_output(info, outputs[info.name]) for info in infos]


def _describe_output(info: TensorInfo, values: Array) -> dict[str, Any]:
    ordered = values.size > 0 and values.dtype.kind in "biuf"
    return {
        "name": info.name,
        "data_type": info.data_type,
        "shape": list(values.shape),
        "dequantized": info.quantization is not None and values.dtype != np.dtype(info.data_type),
        "min": _plain(values.min().item()) if ordered else None,
        "max": _plain(values.max().item()) if ordered else None,
        "first_values": [_plain(value) for value in values.ravel()[:_FIRST_VALUES].tolist()],
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON has; where it has none, such as for NaN, its text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value


def print_answer(answer: Mapping[str, Any], *, with_labels: bool) -> None:
    """Print what `describe_results` or `class_scores` says of an answer, where both say nothing the tensors."""
    results = answer["results"]
    if "classes" in answer:
        _print_rows(("share", "index", "label"), answer["classes"], with_labels)
    elif results is None:
        _print_outputs(answer["outputs"])
    elif not results:
        print_line("nothing found; --min-score N shows what has a lower score")
    elif "label" not in results[0]:
        columns = ("score", "box (xmin, ymin, xmax, ymax)", f"points with a score of {_SURE} or more")
        print_table(columns, [(_short(r["score"]), _box(r), _points(r)) for r in results], wrap=[])
    elif "box" in results[0]:
        _print_rows(("score", "index", "label", "box (xmin, ymin, xmax, ymax)"), results, with_labels)
    else:
        _print_rows(("score", "index", "label"), results, with_labels)


def _print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], with_labels: bool) -> None:
    """Print results, with the names of their classes where the model has some."""
    shown = [column for column in columns if with_labels or column != "label"]
    cells = {"score": _score, "share": _share, "index": _index, "label": _label}
    print_table(shown, [[cells.get(column, _box)(row) for column in shown] for row in rows], wrap=["label"])


def _score(row: Mapping[str, Any]) -> str:
    return _short(row["score"])


def _share(row: Mapping[str, Any]) -> str:
    return f"{row['share']:.2%}"


def _index(row: Mapping[str, Any]) -> str:
    return str(row["index"])


def _label(row: Mapping[str, Any]) -> str:
    return str(row["label"])


def _box(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{side:.0f}" if isinstance(side, (int, float)) else str(side) for side in row["box"])


def _points(row: Mapping[str, Any]) -> str:
    scores = [score for _, _, score in row["keypoints"]]
    return f"{sum(isinstance(score, float) and score >= _SURE for score in scores)} of {len(scores)}"


def _print_outputs(outputs: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (o["name"], o["data_type"], str(o["shape"]), _short(o["min"]), _short(o["max"]), _first_values(o))
        for o in outputs
    ]
    print_table(("output", "dtype", "shape", "min", "max", "values"), rows, wrap=["output", "values"])
    if any(o["dequantized"] for o in outputs):
        print_line("Quantised outputs are shown as the real values that they stand for.")


def _first_values(output: Mapping[str, Any]) -> str:
    more = ", ..." if math.prod(output["shape"]) > _FIRST_VALUES else ""
    return ", ".join(map(_short, output["first_values"])) + more


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
