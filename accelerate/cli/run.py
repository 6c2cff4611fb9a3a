"""``edge-accelerate run``: one model, one input, what came out, and what ran it."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from ..api import load
from ..calls.conversion import Array
from ..metadata import Metadata, TensorInfo
from ..model import Model
from .inputs import read_input
from .parameters import POSITIVE
from .rendering import print_heading, print_line, print_table

__all__ = ["run"]

_FIRST_VALUES = 4
_OWN_PLACE = {
    "source": "MODEL",
    "backend": "--backend",
    "device": "--device",
    "label_path": "--labels",
    "num_threads": "--threads",
}


def _parse_options(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{item!r}; wanted KEY=VALUE")
        if key in _OWN_PLACE:
            raise click.BadParameter(f"{key} is given by {_OWN_PLACE[key]}")
        options[key] = _parse_value(text)
    return options


def _parse_value(text: str) -> Any:
    """Read JSON, or else what an error message of `load` shows: a Python literal such as ``(127.5, 127.5)``."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return parse(text)
    return text


@click.command(short_help="Run a model on a picture or on arrays.")
@click.argument("model")
@click.argument("input_path", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--backend", default="auto", show_default=True, help="A backend that `doctor` lists.")
@click.option("--device", help="A device that `doctor` lists.")
@click.option("--labels", "label_path", metavar="PATH", help="A label file.")
@click.option("--threads", "num_threads", metavar="N", type=click.IntRange(min=1), help="CPU threads of the runtime.")
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=5, show_default=True, help="Results to show.")
@click.option("--timeout", metavar="SECONDS", type=POSITIVE, help="Limit of each call.")
@click.option(
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_parse_options,
    help="Another argument of accelerate.load(), such as dequantize=true; VALUE is JSON, a Python literal or text. "
    "Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def run(
    model: str,
    input_path: Path,
    top: int,
    timeout: float | None,
    options: Mapping[str, Any],
    as_json: bool,
    **load_arguments: Any,
) -> int:
    """Run MODEL on INPUT and show the results and what ran.

    INPUT is a picture (stretched to the model's size), an .npy file for a model with one input, or an .npz file with an
    array for each input by name. The model is called twice: a first call often pays for what later ones do not.
    """
    started = perf_counter()
    with load(model, **load_arguments, **options) as loaded:
        load_ms = (perf_counter() - started) * 1e3
        metadata = loaded.metadata()
        tensors = read_input(input_path, metadata.required_inputs)
        outputs, first_ms = _timed_call(loaded, tensors, timeout)
        _, second_ms = _timed_call(loaded, tensors, timeout)
        report = {
            "model": model,
            "input": str(input_path),
            "results": _results(outputs, metadata, top),
            "outputs": [_describe_output(t, outputs[t.name]) for t in metadata.outputs],
            "backend": loaded.backend,
            "device": loaded.device,
            "engine": loaded.runtime.name,
            "engine_version": loaded.runtime.version,
            "milliseconds": {"load": load_ms, "first_call": first_ms, "second_call": second_ms},
        }
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        _print(report, with_labels=bool(metadata.labels))
    return 0


def _timed_call(model: Model, tensors: Any, timeout: float | None) -> tuple[dict[str, Array], float]:
    started = perf_counter()
    outputs = model.infer(tensors, timeout=timeout, dequantize=True)
    return outputs, (perf_counter() - started) * 1e3


def _results(outputs: Mapping[str, Array], metadata: Metadata, top: int) -> list[dict[str, Any]] | None:
    """Return the best classes, or None where the model's answer does not look like class scores."""
    if len(outputs) != 1:
        return None
    (scores,) = outputs.values()
    if scores.dtype.kind != "f" or scores.size < 2 or scores.shape not in ((scores.size,), (1, scores.size)):
        return None
    flat = scores.ravel()
    best = np.argsort(-flat, kind="stable")[:top].tolist()
    return [{"index": i, "label": metadata.label(i), "score": _plain(flat[i].item())} for i in best]


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


def _print(report: Mapping[str, Any], *, with_labels: bool) -> None:
    if report["results"] is not None:
        _print_results(report["results"], with_labels)
    else:
        _print_outputs(report["outputs"])
    ms = report["milliseconds"]
    print_heading(
        f"Ran on {report['backend']}, device {report['device']}, {report['engine']} {report['engine_version']}"
    )
    print_line(
        f"first call {ms['first_call']:.3f} ms, second call {ms['second_call']:.3f} ms; "
        f"runtime and model loaded in {ms['load']:.1f} ms"
    )


def _print_results(results: Sequence[Mapping[str, Any]], with_labels: bool) -> None:
    columns = ("score", "index", "label") if with_labels else ("score", "index")
    rows = [(_short(r["score"]), str(r["index"]), r["label"])[: len(columns)] for r in results]
    print_table(columns, rows, wrap=["label"])


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
