"""Gathers what ``edge-accelerate inspect`` shows, as the object that ``--json`` prints. Needs no runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..api import plan
from ..calls.normalization import with_image_meaning
from ..calls.shapes import Shapes, check_shapes, settle
from ..errors import ModelError, OptionError
from ..formats.beside import Beside, path_beside, read_beside, with_described
from ..formats.classes import with_labels
from ..formats.description import describe_source
from ..formats.onnx.file import ModelFile as ONNXFile
from ..formats.openvino.file import ModelFile as OpenVINOFile
from ..formats.tflite.assumptions import ASSUMED_NORMALIZATION
from ..formats.tflite.file import ModelFile
from ..metadata import Metadata, Normalization, TensorInfo
from ..source import Source
from ..vision import task_for
from ..vision.describing import describe
from ..vision.outputs import picture_input
from .vision import describe_preparation, task_name

__all__ = ["description_of", "inspect_model"]

_ABOUT = ("name", "description", "version", "author", "license", "min_parser_version")


def inspect_model(model: str, shapes: Shapes | None = None) -> dict[str, Any]:
    """Describe a model, a path or URL: its file, what the file says about itself, and who would run it here.

    Parameters
    ----------
    model : str
    shapes : optional
        As for `load`; the main graph is shown with them.

    Returns
    -------
    dict
        ``file`` (None for a URL or a folder), ``content`` (None for a format that nobody here reads), ``vision`` (None
        for a model that takes no picture, and where the file does not tell), ``plan``.
    """
    source = registry.recognize(Source(model))
    decided = plan(model, shapes=shapes)
    if source.format in ("", "directory") and not decided.candidates:
        raise source.no_model()
    settled = check_shapes(shapes)
    beside = None if source.path is None else read_beside(source.path)
    with source.kept_open():
        main = describe_source(source)
        content = (
            _strangers_content(source, settled) if main is None else _READERS[source.format](source, main, settled)
        )
    if content is not None and source.path is not None and beside is not None and beside.labels is not None:
        # which are the model's wherever it is loaded
        content["labels"] = {"file": path_beside(source.path).name, "count": len(beside.labels.labels())}
    vision = None if main is None else _vision(_as_loaded(source, main, beside, settled))
    return {"file": _file(source), "content": content, "vision": vision, "plan": asdict(decided)}


def _vision(described: Metadata) -> dict[str, Any] | None:
    """Say what the main graph is for, by what, and how its frames are prepared; "task" is None where nobody can tell.

    "layout" is None where only an answer's shapes can tell it.
    """
    if picture_input(described) is None:
        return None
    try:
        task = task_for(described)
    except OptionError as error:
        return {"task": None, "reason": error.reason}
    layout = task.layout
    return {
        "task": task_name(task),
        "layout": None if layout is None else str(layout),
        "layout_source": None if layout is None else layout.source,
        "preparation": describe_preparation(task.preparation),
    }


def _as_loaded(source: Source, main: Metadata, beside: Beside | None, shapes: Shapes) -> Metadata:
    """Return what file and description say of the graph that runs, as a model that is loaded says it."""
    user = None if beside is None else beside.normalization
    assumed = ASSUMED_NORMALIZATION if source.format == "tflite" else None
    described = replace(main, inputs=_inputs(main, user, assumed, shapes))
    if beside is not None:
        described = with_labels(with_described(described, beside.vision), beside.labels)
    return described


def description_of(model: str, shapes: Shapes | None = None) -> tuple[Path, dict[str, Any]]:
    """Return what a description of a model file would say, and the path where it would stand.

    Raises
    ------
    OptionError
        There is no file, it takes no picture, or it has a description.
    """
    source = registry.recognize(Source(model))
    if source.path is None or source.format == "directory":
        raise OptionError(f"a description stands beside a model file, and {source} is none", "give the file's path")
    path = path_beside(source.path)
    if path.exists():
        raise OptionError(f"there is a description already: {path}", "edit it, or remove it first")
    with source.kept_open():
        main = describe_source(source)
    if main is None:
        raise OptionError(f"{source} is of a format that cannot be read here without its runtime")
    return path, describe(_as_loaded(source, main, None, check_shapes(shapes)))


def _file(source: Source) -> dict[str, Any] | None:
    if source.path is None or source.format == "directory":
        return None
    size = source.path.stat().st_size
    return {"path": str(source.path), "format": source.format, "size": size, "sha256": source.digest()}


def _onnx_content(source: Source, described: Metadata, shapes: Shapes) -> dict[str, Any]:
    file = source.opened(ONNXFile)
    shown = _without_names(file.properties)
    versions = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in file.opsets.items())
    return {
        "schema_version": file.ir_version,
        "description": described.description,
        "operators": dict(file.operators),
        "custom_operators": [name for name in file.operators if "::" in name],
        "metadata": {
            "name": described.name,
            "producer": " ".join(filter(None, file.producer)),
            "operator sets": versions,
            **shown,
        },
        "external_files": list(file.external_files),
        "labels": {"file": "the property 'names'", "count": len(described.labels)} if described.labels else None,
        "signatures": [],
        "graphs": [_graph(0, [], described, None, shapes)],
        "problems": [],
    }


def _openvino_content(source: Source, described: Metadata, shapes: Shapes) -> dict[str, Any]:
    file = source.opened(OpenVINOFile)
    weights, problem = "", ""
    try:
        weights = ", ".join(source.other_files())
    except ModelError as error:
        problem = str(error)
    shown = {key: text for key, text in file.properties.items() if key != "labels"}
    return {
        "schema_version": file.version,
        "description": described.description,
        "operators": dict(file.operators),
        "custom_operators": [],
        "metadata": {"name": file.name, "producer": file.producer, **shown},
        "external_files": [weights] if weights else [],
        "labels": {"file": "the property 'labels'", "count": len(described.labels)} if described.labels else None,
        "signatures": [],
        "graphs": [_graph(0, [], described, None, shapes)],
        "problems": [problem] if problem else [],
    }


def _tflite_content(source: Source, main: Metadata, shapes: Shapes) -> dict[str, Any]:
    """Describe a .tflite file; damage that does not keep the model from running is listed as a problem."""
    file = source.opened(ModelFile)
    metadata, labels = file.metadata.metadata, file.packed_labels()
    packed, unpackable = _packed_files(file)
    problems = (file.metadata.problem, unpackable, file.exported.problem, *(one.problem for one in labels))
    about = {} if metadata is None else {field: getattr(metadata, field) for field in _ABOUT}
    about |= {key: text for key, text in _without_names(file.exported.properties).items() if not about.get(key)}
    return {
        "schema_version": file.version,
        "description": file.description,
        "operators": dict(file.operators),
        "custom_operators": list(file.custom_operators),
        "metadata": about or None,
        "packed_files": packed,
        "external_files": [],
        "labels": _labels(main, file),
        "signatures": [asdict(signature) for signature in file.signatures],
        "graphs": list(_graphs(source, main, file, shapes)),
        "problems": list(dict.fromkeys(filter(None, problems))),
    }


def _without_names(properties: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in properties.items() if key != "names"}  # the labels have a line of their own


def _strangers_content(source: Source, shapes: Shapes) -> dict[str, Any] | None:
    """Describe a file of a format that only a backend reads; its failure is no reason to show nothing."""
    owner = next((one for one in registry.backends().values() if source.format in one.formats), None)
    if owner is None:
        return None
    problem, described = "", None
    try:
        told = owner.describe(source, None)
        described = None if told is None else registry.checked(told, Metadata, "describe")
    except (Exception, SystemExit) as error:
        problem = str(registry.failure(owner, error))
    if described is None and not problem:
        return None
    return {
        "description": described.description if described else "",
        "metadata": {"name": described.name} if described and described.name else None,
        "external_files": [],
        "labels": {"file": "the model", "count": len(described.labels)} if described and described.labels else None,
        "signatures": [],
        "graphs": [_graph(0, [], described, None, shapes)] if described else [],
        "problems": [problem] if problem else [],
    }


def _packed_files(file: ModelFile) -> tuple[list[str], str]:
    try:
        return list(file.packed.names), ""
    except ModelError as error:
        return [], str(error)


def _labels(described: Metadata, file: ModelFile) -> dict[str, Any] | None:
    """Say how many labels the model has, and where they come from."""
    if not described.labels:
        return None
    names = (reading.file for reading, output in zip(file.packed_labels(), described.outputs, strict=True)
             if output.labels == described.labels)  # fmt: skip
    return {"file": next(names, file.exported.file), "count": len(described.labels)}


def _graphs(source: Source, main: Metadata, file: ModelFile, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Describe the graphs that a program can call, the first and those of signatures, by the names of one of these."""
    keys: dict[int, list[str]] = {0: []}
    for signature in file.signatures:
        keys.setdefault(signature.subgraph, []).append(signature.key)
    for index, callable_by in sorted(keys.items()):
        described = describe_source(source, callable_by[0]) if index else main
        assert described is not None, "its format is read here"
        yield _graph(index, callable_by, described, ASSUMED_NORMALIZATION, {} if index else shapes)


def _graph(
    index: int, signatures: list[str], described: Metadata, assumed: Normalization | None, shapes: Shapes
) -> dict[str, Any]:
    return {
        "index": index,
        "signatures": signatures,
        "type": described.type,
        "type_guessed": described.extra.get("type_guessed", False),
        "inputs": [asdict(t) for t in _inputs(described, None, assumed, shapes)],
        "outputs": [asdict(t) for t in described.outputs],
    }


def _inputs(
    described: Metadata, user: Normalization | None, assumed: Normalization | None, shapes: Shapes
) -> tuple[TensorInfo, ...]:
    return tuple(with_image_meaning(t, user, assumed) for t in settle(described.inputs, shapes))


_READERS = {"onnx": _onnx_content, "openvino": _openvino_content, "tflite": _tflite_content}
