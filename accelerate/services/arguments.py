"""What a service's attributes are as arguments of `load`."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any

from .. import registry
from ..api import load
from ..arguments import whole_number
from ..calls.names import check_tensor_names, suggestion
from ..calls.normalization import mean_and_std
from ..errors import AccelerateError, ModelNotFoundError, OptionError
from . import server

__all__ = ["KNOWN", "OURS", "is_ours", "load_arguments", "whole_floats"]

OURS = "edge-accelerate:mlmodel:"
#: Viam's models, and what they are here: a backend, and what is so unless an attribute says otherwise.
KNOWN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tflite_cpu": ("tflite_cpu", {}),
    "rdk:builtin:tflite_cpu": ("tflite_cpu", {}),
    "viam:mlmodel-tflite:tflite_cpu": ("tflite_cpu", {}),
    "viam:mlmodel:onnx-cpu": ("onnxruntime", {"device": "cpu"}),
    "viam:mlmodelservice:triton": (server.BACKEND, {}),
}
#: What Viam's app writes for itself.
_PASSED_OVER = ("package_reference",)
_MOST_LEVELS = 32
_EXACT = 1 << 53  # floats beyond it are no counts


def is_ours(model: str) -> bool:
    """Return whether a model is named as one of this package."""
    return model.startswith(OURS)


def load_arguments(model: str, attributes: Mapping[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of `load` for a service.

    Parameters
    ----------
    model : str
        ``tflite_cpu`` or another key of `KNOWN`, or ``edge-accelerate:mlmodel:NAME`` with the name of a backend or
        "auto".
    attributes : mapping
        Without placeholders. Numbers may be floats, as Viam's protocol has them.
    where : str
        What the service is called in messages.

    Returns
    -------
    source : str
    arguments : dict
        The others, by name.

    Raises
    ------
    OptionError
        An attribute is unknown, missing or wrong; it and what to write are named.
    ModelNotFoundError
        There is no file at `model_path`.
    BackendNotAvailableError
        No such backend.
    """
    try:
        return _translated(model, attributes)
    except AccelerateError as error:
        raise error.about(where) from error.__cause__


def _translated(model: str, attributes: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    backend, implied = _backend_of(model)
    _check_names(model, backend, attributes)
    given = {
        name: whole_floats(value, name, _MOST_LEVELS)
        for name, value in attributes.items()
        if value is not None and name not in _PASSED_OVER
    }
    if "failover" in given:
        given["failover"] = _entries(given["failover"])
    source, given = _placed(backend, given)
    if source is None:
        raise OptionError("there is no model_path", 'write "model_path": the path of the model file')
    if "://" not in source:
        _check_file({"model_path": source}, "model_path", "the model file", ModelNotFoundError)
    if "providers" in given:  # they say themselves where it runs
        implied = {}
    return source, {"backend": backend, **implied, **given}


def _placed(backend: str, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the source that attributes name, None for none, and the other arguments."""
    if given.get("label_path") == "":  # so Viam's app writes that there is none
        del given["label_path"]
    if given.get("num_threads") is not None:
        given["num_threads"] = whole_number("num_threads", given["num_threads"])
    if "tensor_name_remappings" in given:
        given = _renamed(given)
    if "normalization" in given:
        given["normalization"] = _normalization(given["normalization"])
    if "label_path" in given:
        _check_file(given, "label_path", "the label file, or leave label_path out", OptionError)
    if backend == server.BACKEND:
        return server.server_arguments(given)
    source = _model_path(given)
    return source, {name: value for name, value in given.items() if name != "model_path"}


def _entries(said: Any) -> list[Any]:
    """Return `failover` as `load` takes it: names of backends, or objects with the attributes of a service.

    What an object leaves out is as in the service, the model's file included; one that is not there may come later.
    """
    entries = []
    for position, entry in enumerate(said if isinstance(said, list) else [said]):
        if not isinstance(entry, Mapping):
            entries.append(entry)
            continue
        try:
            entries.append(_entry(entry))
        except AccelerateError as error:
            raise error.about(f"failover[{position}]") from error.__cause__
    return entries


def _entry(attributes: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in attributes.items() if value is not None}
    backend = given.get("backend", "auto")
    one = backend if isinstance(backend, str) else "auto"  # else it is an order, which `load` checks
    _backend_of(f"{OURS}{one}")
    _check_names(f"{OURS}{one}", one, {name: value for name, value in given.items() if name != "backend"})
    on_server = backend == server.BACKEND and given.keys() & {"model_path", *server.ATTRIBUTES}
    source, arguments = _placed(server.BACKEND if on_server else "auto", given)
    return arguments if source is None else {"source": source, **arguments}


def _backend_of(model: str) -> tuple[str, Mapping[str, Any]]:
    if is_ours(model):
        backend = model.removeprefix(OURS)
        if backend != "auto":
            registry.find(backend)
        return backend, {}
    if model not in KNOWN:
        raise OptionError(
            f"the model is {model!r:.80}{suggestion(model, KNOWN)}",
            f"write one of {', '.join(KNOWN)}, or {OURS}NAME with the name of a backend, or auto",
        )
    return KNOWN[model]


def _check_names(model: str, backend: str, attributes: Mapping[str, Any]) -> None:
    considered = registry.backends().values() if backend == "auto" else [registry.find(backend)]
    of_load = {name for name, one in inspect.signature(load).parameters.items() if one.kind is one.KEYWORD_ONLY}
    known = {"model_path", "tensor_name_remappings", *of_load, *(name for one in considered for name in one.options)}
    if backend == server.BACKEND:
        known.update(server.ATTRIBUTES)
    if backend != "auto":
        known.discard("backend")
    for name in attributes:
        if name == "backend" and name not in known:
            raise OptionError(f"backend is said by the model, {model!r}", f"leave it out, or write {OURS}auto as model")
        if name not in known and name not in _PASSED_OVER:
            raise OptionError(
                f"there is no attribute {name!r:.80}{suggestion(name, known)}",
                f"{model} knows {', '.join(sorted(known))}",
            )


def whole_floats(value: Any, name: str, most_levels: float = math.inf, level: int = 1) -> Any:
    """Return a value in which whole numbers are integers, as counts and sizes are: Viam's protocol knows only floats.

    Raises
    ------
    OptionError
        It is nested more than `most_levels` deep; `name` is what it is called.
    """
    if level > most_levels:
        raise OptionError(f"{name} has more than {most_levels} levels", "correct it there")
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_floats(item, name, most_levels, level + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole_floats(item, name, most_levels, level + 1) for item in value]
    return value


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes with Viam's word for `tensor_names`."""
    names = given.pop("tensor_name_remappings")
    if "tensor_names" in given:
        raise OptionError("tensor_name_remappings and tensor_names say the same", "leave one out")
    try:
        return {**given, "tensor_names": check_tensor_names(names)}
    except OptionError as error:
        raise OptionError(
            f"tensor_name_remappings is {names!r:.80}",
            'write {"inputs": {"the model\'s name": "yours"}, "outputs": {"the model\'s name": "yours"}}',
        ) from error


def _normalization(said: Any) -> Any:
    """Return mean and std as `load` takes them, of each input where they are said by name."""
    pair = mean_and_std(said)
    return {name: mean_and_std(one) for name, one in pair.items()} if isinstance(pair, Mapping) else pair


def _model_path(given: Mapping[str, Any]) -> str | None:
    path = given.get("model_path")
    if path is None or (isinstance(path, str) and path):
        return path
    raise OptionError(f"model_path is {path!r:.60}", 'write "model_path": the path of the model file')


def _check_file(given: Mapping[str, Any], name: str, wanted: str, kind: type[AccelerateError]) -> None:
    path = given[name]
    if not isinstance(path, str) or not path:
        raise OptionError(f"{name} is {path!r:.60}; wanted a path", f"write the path of {wanted}")
    if os.path.exists(path):
        return
    folder = os.path.dirname(os.path.abspath(path)) if "\0" not in path else ""
    try:
        files = sorted(os.listdir(folder))
    except (OSError, ValueError):
        there = f"there is no folder {folder!r}"
    else:
        near = suggestion(os.path.basename(path), files)
        there = f"in {folder!r} there is {', '.join(files[:8]) or 'nothing'}{', ...' if files[8:] else ''}{near}"
    raise kind(f"{name} is {path!r}, and there is no such file on this machine: {there}", f"write the path of {wanted}")
