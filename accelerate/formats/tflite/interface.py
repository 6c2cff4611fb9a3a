"""Tells which graph of a .tflite file runs, and what its tensors are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...calls.names import name_tensors, suggestion
from ...errors import OptionError
from ...metadata import TensorInfo
from ..interface import Interface
from .file import ModelFile
from .graph import Signature, Tensor

__all__ = ["choose_signature", "interface", "name_graph"]

# Values smaller than a byte, and floats of one, are handed out by the runtimes as bytes; handles as objects.
_HANDED_OUT = {
    "int2": "int8", "int4": "int8", "float8_e4m3fn": "int8", "float8_e5m2": "int8", "uint4": "uint8",
    "resource": "object", "variant": "object",
}  # fmt: skip


def interface(file: ModelFile, signature: str | None = None) -> Interface:
    """Return the tensors of the graph that runs; `signature` is as for `choose_signature`.

    Their types are those that a runtime hands out; ``extra["data_type"]`` is the file's where that is another.
    """
    chosen = choose_signature(file.signatures, signature)
    graph, names = file.subgraph(chosen.subgraph), file.metadata_names(chosen.subgraph)
    return Interface(
        chosen.key,
        chosen.subgraph,
        name_graph(graph.inputs, chosen.inputs, names.inputs),
        name_graph(graph.outputs, chosen.outputs, names.outputs),
        tuple(tensor.index for tensor in graph.inputs),
        tuple(tensor.index for tensor in graph.outputs),
        names.problem,
    )


def choose_signature(signatures: Sequence[Signature], wanted: str | None) -> Signature:
    """Return the signature that runs: the one named, else the main graph's, "serving_default" first.

    Without any it is one of the main graph that has no key and names nothing.
    """
    if wanted is None:
        main = (one for one in signatures if one.subgraph == 0)
        return min(main, key=lambda one: one.key != "serving_default", default=Signature("", 0, {}, {}))
    for one in signatures:
        if one.key == wanted:
            return one
    known = sorted(one.key for one in signatures)
    if not known:
        raise OptionError(f"the model has no signature {wanted!r}, nor any other", "leave the option out")
    raise OptionError(
        f"the model has no signature {wanted!r}{suggestion(wanted, known)}",
        f"choose one of its signatures: {', '.join(map(repr, known))}",
    )


def name_graph(
    tensors: Sequence[Tensor], signed: Mapping[str, int], described: Sequence[str] = ()
) -> tuple[TensorInfo, ...]:
    """Describe the inputs, or the outputs, of a graph: metadata names go before signature names, and those before own.

    `signed` has the index of the tensor that each of the signature's names is given to. A tensor that has several and
    is listed as often goes by each of them in turn, in alphabetical order, which is the interpreters'; else by the
    first, and the others are aliases. `described` has the metadata's names, of as many tensors or none.
    """
    indices, names_of = [tensor.index for tensor in tensors], dict[int, list[str]]()
    for name in sorted(signed):
        names_of.setdefault(signed[name], []).append(name)
    candidates = []
    for n, tensor in enumerate(tensors):
        before, again = indices[:n].count(tensor.index), tensor.index in indices[n + 1 :]
        names = names_of.get(tensor.index, ())
        candidates.append((*described[n : n + 1], *names[before : before + 1 if again else None], tensor.name))
    return tuple(_described(tensor, *named) for tensor, named in zip(tensors, name_tensors(candidates), strict=True))


def _described(tensor: Tensor, name: str, aliases: tuple[str, ...]) -> TensorInfo:
    data_type = _HANDED_OUT.get(tensor.data_type, tensor.data_type)
    extra = {} if data_type == tensor.data_type else {"data_type": tensor.data_type}
    if not tensor.ranked:
        extra["rank"] = "unknown"
    return TensorInfo(name, aliases, "", data_type, tensor.shape, tensor.quantization, extra=extra)
