"""``edge-accelerate inspect``: what a model file says about itself, and who would run it here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from ..errors import OptionError
from .inspection import description_of, inspect_model
from .parameters import shape_option
from .rendering import print_fields, print_heading, print_line, print_table
from .terms import as_options
from .vision import numbers, preparation_fields

__all__ = ["inspect"]

_LAYOUT_SOURCES = {
    "metadata": "the model's metadata",
    "graph": "the operators of the graph",
    "exporter": "what the exporter wrote",
    "names": "the outputs' names",
    "shapes": "the outputs' shapes",
}
_SOURCES = {"metadata": "the model's metadata", "assumed": "assumption: nothing says so"}


@click.command(short_help="Show a model's file, tensors and plan.")
@click.argument("model")
@shape_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--write-description",
    "write",
    is_flag=True,
    help="Write what is known of the model's pictures and outputs to a file beside it, for you to edit.",
)
def inspect(model: str, shapes: Any, as_json: bool, write: bool) -> int:
    """Show what MODEL says about itself, and the plan: who would run it here, who would not, and why.

    No runtime is needed.
    """
    if write:
        path, description = description_of(model, shapes)
        try:
            path.write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise OptionError(f"the description {path} cannot be written: {error.strerror}") from error
        print_line(f"wrote {path}: {', '.join(list(description)[1:]) or 'nothing is known'}; load() and vision read it")
        return 0
    report = inspect_model(model, shapes)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return 0
    content = report["content"] or {}
    print_fields([*_file_fields(model, report["file"]), *_content_fields(content)])
    if content.get("metadata"):
        print_heading("Metadata")
        print_fields((key.replace("_", " "), value) for key, value in content["metadata"].items() if value)
    for graph in content.get("graphs", ()):
        _print_tensors(graph, alone=len(content["graphs"]) == 1)
    if (vision := report["vision"]) is not None:
        print_heading("Vision")
        print_fields(_vision_fields(vision))
    _print_plan(report["plan"])
    return 0


def _file_fields(model: str, file: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if file is None:
        yield "model", model
        if "://" in model:
            yield "content", "no server is asked for it here; `edge-accelerate run` asks"
        return
    yield "file", file["path"]
    yield "format", f"{file['format'] or 'unknown'}, {file['size']:,} bytes"
    yield "SHA-256", file["sha256"] or "unknown without all of its files"


def _content_fields(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not content:
        return
    yield "description", content["description"] or "none"
    if "operators" in content:
        yield "operators", _listing(f"{name} ({count})" for name, count in content["operators"].items())
        yield "custom ops", _listing(content["custom_operators"])
    if content["signatures"]:
        yield "signatures", _listing(signature["key"] for signature in content["signatures"])
    if content["metadata"] is None:
        yield "metadata", "none"
    if "packed_files" in content:
        yield "packed files", _listing(content["packed_files"])
    if content["external_files"]:
        yield "weights in", _listing(content["external_files"])
    yield "type", _listing(_type(graph) for graph in content["graphs"] if graph["type"])
    labels = content["labels"]
    yield "labels", f"{labels['count']} in {labels['file']}" if labels else "none"
    yield from (("problem", problem) for problem in content["problems"])


def _type(graph: Mapping[str, Any]) -> str:
    return f"{graph['type']} (guessed from the outputs)" if graph["type_guessed"] else str(graph["type"])


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _print_tensors(graph: Mapping[str, Any], *, alone: bool) -> None:
    called = "" if alone else f" of graph {graph['index']}, called by {_listing(graph['signatures'])}"
    for side in ("inputs", "outputs"):
        print_heading(side.capitalize() + called)
        print_fields((tensor["name"], *_about(tensor)) for tensor in graph[side])


def _about(tensor: Mapping[str, Any]) -> Iterator[str]:
    image = " ".join(filter(None, (", image", tensor["layout"], tensor["color"]))) if tensor["layout"] else ""
    # a scalar, and an output whose shape the converter left to the runtime, look the same in the file
    shape = str(list(tensor["shape"])) if tensor["shape"] else "[] (a scalar, or known only to the runtime)"
    yield f"{tensor['data_type']} {shape}{image}"
    if tensor["extra"].get("optional"):
        yield "may be left out"
    if usual := tensor["extra"].get("default_shape"):
        yield f"exported for {list(usual)}"
    if q := tensor["quantization"]:
        if q["axis"] is None:
            yield f"scale {q['scale'][0]:.6g}, zero point {q['zero_point'][0]}"
        else:
            yield f"{len(q['scale'])} scales along axis {q['axis']}"
    if n := tensor["normalization"]:
        yield f"(pixel - {numbers(n['mean'])}) / {numbers(n['std'])}, by {_SOURCES[n['source']]}"
    for file in tensor["associated_files"]:
        yield f"file {file['name']} ({file['label_type']})"
    if tensor["labels"]:
        yield f"{len(tensor['labels'])} labels of its own"
    for alias in tensor["aliases"]:
        yield f"also named {alias}"


def _vision_fields(vision: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    if vision["task"] is None:
        yield "task", f"not recognised: {vision['reason']}"
        return
    yield "task", vision["task"]
    if vision["layout"] is None:
        yield "outputs", "only an answer can tell"
    else:
        source = vision["layout_source"]
        yield "outputs", vision["layout"], f"by {_LAYOUT_SOURCES.get(source, source)}"
    yield from preparation_fields(vision["preparation"])


def _print_plan(plan: Mapping[str, Any]) -> None:
    rows = [("chosen" if c == plan["chosen"] else "can", c) for c in plan["candidates"]]
    rows += [("cannot", c) for c in plan["skipped"]]
    print_heading("Plan")
    if not rows:
        print_line("no backend is installed")
        return
    cells = [
        (verdict, names, device, reason)
        for (verdict, device, reason), names in _by_what((v, c["device"], c["reason"], c["backend"]) for v, c in rows)
    ]
    print_table(("", "backend", "device", "why"), cells, wrap=["why"], names=["backend"])
    if remedies := _by_what((c["remedy"], c["backend"]) for _, c in rows if c["remedy"]):
        print_heading("Remedies")
        print_fields((names, as_options(remedy)) for (remedy,), names in remedies)


def _by_what(said: Iterable[tuple[str, ...]]) -> Sequence[tuple[tuple[str, ...], str]]:
    """Return what is said of backends, each once, with the names of all of which it is: the last of each tuple."""
    found: dict[tuple[str, ...], list[str]] = {}
    for *what, name in said:
        found.setdefault(tuple(what), []).append(name)
    return [(what, ", ".join(dict.fromkeys(names))) for what, names in found.items()]
