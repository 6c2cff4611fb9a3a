"""Gathers what ``edge-accelerate inspect`` shows, as the object that ``--json`` prints. Needs no runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..api import plan
from ..conventions import ASSUMED_NORMALIZATION
from ..errors import ModelError
from ..formats.onnx import ModelFile as ONNXFile
from ..formats.onnx_description import describe as describe_onnx
from ..formats.onnx_description import tensor_info
from ..formats.tflite import ModelFile
from ..formats.tflite_description import describe
from ..formats.tflite_graph import Tensor
from ..metadata import TensorInfo
from ..names import name_tensors
from ..source import Source
from ..tensors import with_image_meaning

__all__ = ["inspect_model"]

_ABOUT = ("name", "description", "version", "author", "license", "min_parser_version")


def inspect_model(model: str) -> dict[str, Any]:
    """Describe a model: its file, what the file says about itself, and who would run it here.

    Parameters
    ----------
    model : str
        A path or URL.

    Returns
    -------
    dict
        ``file`` (None for a URL or a folder), ``content`` (None for a format that is not read here), ``plan``.

    Raises
    ------
    ModelNotFoundError, ModelError
        The file is missing, damaged, or no model.
    """
    source = Source(model)
    decided = plan(model)
    if source.format in ("", "directory") and not decided.candidates:
        raise source.no_model()
    return {
        "file": _file(source),
        "content": _READERS[source.format](source) if source.format in _READERS else None,
        "plan": asdict(decided),
    }


def _file(source: Source) -> dict[str, Any] | None:
    if source.path is None or source.format == "directory":
        return None
    size = source.path.stat().st_size
    return {"path": str(source.path), "format": source.format, "size": size, "sha256": source.digest()}


def _onnx_content(source: Source) -> dict[str, Any]:
    file = ONNXFile(source.buffer(), str(source))
    inputs, outputs = (tuple(map(tensor_info, side)) for side in (file.inputs, file.outputs))
    described = describe_onnx(file.name, file.description, file.properties, inputs, outputs)
    shown = {key: value for key, value in file.properties.items() if key != "names"}  # the labels have their own line
    versions = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in file.opsets.items())
    graph = {
        "index": 0,
        "signatures": [],
        "type": described.type,
        "type_guessed": False,
        "inputs": [asdict(with_image_meaning(t, None, None)) for t in described.inputs],
        "outputs": [asdict(t) for t in described.outputs],
    }
    return {
        "schema_version": file.ir_version,
        "description": described.description,
        "operators": dict(file.operators),
        "custom_operators": [name for name in file.operators if "::" in name],
        "metadata": {"name": described.name, "producer": file.producer, "operator sets": versions, **shown},
        "external_files": list(file.external_files),
        "labels": {"file": "the property 'names'", "count": len(described.labels)} if described.labels else None,
        "signatures": [],
        "graphs": [graph],
        "problems": [],
    }


def _tflite_content(source: Source) -> dict[str, Any]:
    """Describe a .tflite file; damage that does not keep the model from running is listed as a problem."""
    file = ModelFile(source.buffer(), str(source))
    metadata, labels = file.metadata.metadata, file.packed_labels()
    packed, unpackable = _packed_files(file)
    problems = (file.metadata.problem, unpackable, labels.problem)
    return {
        "schema_version": file.version,
        "description": file.description,
        "operators": dict(file.operators),
        "custom_operators": list(file.custom_operators),
        "metadata": metadata and {field: getattr(metadata, field) for field in _ABOUT},
        "packed_files": packed,
        "external_files": [],
        "labels": {"file": labels.file, "count": len(labels.labels)} if labels.file else None,
        "signatures": [asdict(signature) for signature in file.signatures],
        "graphs": _graphs(file),
        "problems": list(dict.fromkeys(filter(None, problems))),
    }


def _packed_files(file: ModelFile) -> tuple[list[str], str]:
    try:
        return list(file.packed.names), ""
    except ModelError as error:
        return [], str(error)


def _graphs(file: ModelFile) -> list[dict[str, Any]]:
    """Describe the graphs that a program can call: the first, and those of signatures."""
    indices = sorted({0, *(signature.subgraph for signature in file.signatures)})
    if indices[-1] >= len(file.subgraphs):
        raise ModelError(f"{file.where}: there is no graph {indices[-1]}; the file is damaged")
    return [_graph(file, index) for index in indices]


def _graph(file: ModelFile, index: int) -> dict[str, Any]:
    graph, names = file.subgraphs[index], file.metadata_names(index)
    signatures = [s for s in file.signatures if s.subgraph == index]
    described = describe(
        file,
        index,
        _tensors(graph.inputs, names.inputs, [s.inputs for s in signatures]),
        _tensors(graph.outputs, names.outputs, [s.outputs for s in signatures]),
        labels=False,
    )
    return {
        "index": index,
        "signatures": [s.key for s in signatures],
        "type": described.type,
        "type_guessed": described.extra.get("type_guessed", False),
        "inputs": [asdict(with_image_meaning(t, None, ASSUMED_NORMALIZATION)) for t in described.inputs],
        "outputs": [asdict(t) for t in described.outputs],
    }


def _tensors(
    tensors: Sequence[Tensor], metadata_names: Sequence[str], signatures: Sequence[Mapping[str, int]]
) -> list[TensorInfo]:
    """Name the inputs, or the outputs, of one graph like a backend does: metadata, then signatures, then graph."""
    by_index = [{place: name for name, place in signature.items()} for signature in signatures]
    candidates = [
        (named, *(names.get(tensor.index, "") for names in by_index), tensor.name)
        for tensor, named in zip(tensors, metadata_names, strict=True)
    ]
    return [
        TensorInfo(name, aliases, "", tensor.data_type, tensor.shape, tensor.quantization)
        for tensor, (name, aliases) in zip(tensors, name_tensors(candidates), strict=True)
    ]


_READERS = {"onnx": _onnx_content, "tflite": _tflite_content}
