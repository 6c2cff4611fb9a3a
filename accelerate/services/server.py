"""The attributes of Viam's Triton module, which runs the server inside itself; here it is one beside the program."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelNotFoundError, OptionError

__all__ = ["ATTRIBUTES", "BACKEND", "server_arguments"]

BACKEND = "triton"
#: What it takes beside the arguments of `load`.
ATTRIBUTES = (
    "backend_directory",
    "model_config",
    "model_name",
    "model_repository_path",
    "model_version",
    "preferred_input_memory_type",
    "preferred_input_memory_type_id",
)
_VARIABLE = "EDGE_ACCELERATE_TRITON_URL"
_MEMORY = {"cpu": "cpu", "cpu-pinned": "cpu", "gpu": "gpu"}
_KINDS = {"KIND_CPU": "cpu", "KIND_GPU": "gpu", "KIND_AUTO": None}
#: What a file is called in a model repository, by which it is found; and what else may be there, which is not one file.
_FILES = ("model.onnx", "model.plan", "model.pt", "model.xml", "model.tflite")
_NOT_SHIPPED = {
    "saved_model.pb": "a SavedModel",
    "model.savedmodel": "a SavedModel",
    "model.graphdef": "a TensorFlow graph",
    "model.py": "a model written in Python",
}

_log = logging.getLogger("accelerate")


def server_arguments(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return source and arguments of `load` for a model on a server, or one that is to be shipped there.

    Raises
    ------
    OptionError, ModelNotFoundError
    """
    rest = dict(given)
    path, repository, name = (_path(rest, key) for key in ("model_path", "model_repository_path", "model_name"))
    version = _version(rest.pop("model_version", None))
    if path and repository:
        raise OptionError("model_path and model_repository_path are given, each of which says where the model is",
                          "leave one out")  # fmt: skip
    rest = _without_memory(rest)
    rest = _without_configuration(rest, shipped=bool(path or repository), name=name)
    if path and "://" in path:
        return path, rest
    url = rest.pop("url", None) or os.environ.get(_VARIABLE)
    if not url:
        folder = repository or "DIR"
        raise OptionError(
            f"there is no url, nor {_VARIABLE} in the environment: the server runs beside the program",
            f'start one, edge-accelerate sidecar run --repository {folder}, and write "url": "localhost:8001"',
        )
    if path:
        file = _model_file(Path(path), name or "NAME") if os.path.isdir(path) else path
        return str(file), {**rest, "url": url}
    if not name:
        raise OptionError("there is no model_name", 'write "model_name": what the model is called on the server')
    if repository:
        return str(_in_repository(Path(repository), name, version)), {**rest, "url": url}
    return _on_server(url, name, version), rest


def _path(rest: dict[str, Any], key: str) -> str:
    value = rest.pop(key, None)
    if value is None:
        return ""
    if isinstance(value, str) and value:
        return value
    raise OptionError(f"{key} is {value!r:.60}; wanted a text", f'write "{key}": "...", or leave it out')


def _version(value: Any) -> str:
    if value is None or value == -1:  # as Viam's module calls the newest one
        return ""
    if type(value) is int and value >= 1:
        return str(value)
    raise OptionError(
        f"model_version is {value!r:.60}; wanted a whole number from 1", "leave it out to have the newest version"
    )


def _without_memory(rest: dict[str, Any]) -> dict[str, Any]:
    """Put `device` in the place of where the module had the tensors, by which one chose the CPU or the GPU."""
    memory, which = rest.pop("preferred_input_memory_type", None), rest.pop("preferred_input_memory_type_id", 0)
    if which != 0 or isinstance(which, bool):
        raise OptionError(
            f"preferred_input_memory_type_id is {which!r:.40}, and which GPU runs a model its configuration on the "
            "server says",
            "leave it out",
        )
    if memory is None:
        return rest
    if not isinstance(memory, str) or memory not in _MEMORY:
        raise OptionError(
            f"preferred_input_memory_type is {memory!r:.60}; wanted one of {', '.join(_MEMORY)}",
            'write "device": "cpu" or "gpu" in its place',
        )
    return _with_device(rest, _MEMORY[memory], "preferred_input_memory_type")


def _with_device(rest: dict[str, Any], device: str, by: str) -> dict[str, Any]:
    if rest.get("device", device) != device:
        raise OptionError(f"{by} means {device!r}, and device is {rest['device']!r:.40}", f"leave {by} out")
    return {**rest, "device": device}


def _without_configuration(rest: dict[str, Any], *, shipped: bool, name: str) -> dict[str, Any]:
    """Put `device` in the place of a configuration that only says CPU or GPU; anything else is the server's."""
    if "backend_directory" in rest:
        raise OptionError(
            "backend_directory is the server's own",
            "leave it out, and start the server with it: edge-accelerate sidecar run --repository DIR -- "
            "--backend-directory=...",
        )
    config = rest.pop("model_config", None)
    if config is None:
        return rest
    if not isinstance(config, Mapping):
        raise OptionError(f"model_config is {config!r:.60}; wanted an object", "leave it out")
    groups = config.get("instance_group", [])
    simple = (
        isinstance(groups, list)
        and len(groups) < 2
        and all(isinstance(one, Mapping) and one.keys() <= {"kind", "count"} for one in groups)
        and all(one.get("kind", "KIND_AUTO") in _KINDS and one.get("count", 1) == 1 for one in groups)
    )
    others = [key for key in config if key != "instance_group"] + ([] if simple else ["instance_group"])
    if others:
        how = "cannot be shipped with the model" if shipped else "is not this program's to change on the server"
        raise OptionError(
            f"model_config says {', '.join(map(repr, others[:10]))}, which {how}; only an instance_group of one "
            "KIND_CPU or KIND_GPU can be said from here",
            f"write it into {name or 'NAME'}/config.pbtxt of the server's repository, start edge-accelerate sidecar "
            "run --repository DIR, and give url and model_name alone",
        )
    device = _KINDS[groups[0].get("kind", "KIND_AUTO")] if groups else None
    return rest if device is None else _with_device(rest, device, "model_config")


def _in_repository(repository: Path, name: str, version: str) -> Path:
    if not {"", ".", ".."}.isdisjoint(re.split(r"[/\\]", name)) or re.search(r"[/\\\0]", name):
        raise OptionError(f"model_name is {name!r:.80}; wanted the name of a folder", "write it without a path")
    folder = repository / name
    try:
        inside = sorted(os.listdir(folder))
    except (OSError, ValueError) as error:
        try:
            there = ", ".join(sorted(os.listdir(repository))[:8]) or "nothing"
        except (OSError, ValueError):
            there = "no such folder"
        raise ModelNotFoundError(
            f"model_repository_path is {str(repository)!r}, which has no model {name!r}: there is {there}",
            "correct model_repository_path or model_name",
        ) from error
    versions = sorted((one for one in inside if one.isascii() and one.isdigit()), key=int)
    if not versions or (version and version not in versions):
        wanted = f"version {version}" if version else "version"
        raise ModelNotFoundError(
            f"{str(folder)!r} has no {wanted}: there is {', '.join(versions or inside) or 'nothing'}",
            "correct model_version" if versions else "put the model into a folder 1 there",
        )
    return _model_file(folder / (version or versions[-1]), name)


def _model_file(folder: Path, name: str) -> Path:
    """Return the model in the folder of a version."""
    for file in _FILES:
        if (folder / file).is_file():
            if (folder.parent / "config.pbtxt").is_file() and file not in ("model.pt", "model.xml"):
                _log.warning(
                    "%s is not shipped with %s: the model says what is in it", folder.parent / "config.pbtxt", file
                )
            return folder / file
    inside = sorted(os.listdir(folder))
    what = next((what for file, what in _NOT_SHIPPED.items() if file in inside), "")
    raise OptionError(
        f"{str(folder)!r} holds {what or ', '.join(inside[:8]) or 'nothing'}, which cannot be shipped to a server; "
        f"what can is one file: {', '.join(_FILES)}",
        "put it into the server's own repository, start edge-accelerate sidecar run --repository DIR, and give url and "
        f"model_name {name} alone",
    )


def _on_server(url: Any, name: str, version: str) -> str:
    from urllib.parse import quote

    if not isinstance(url, str) or "/" in url.rpartition("://")[2].rstrip("/"):
        raise OptionError("url is no server without a model", 'write "url": "host:8001", or "tritons://host:8001"')
    scheme, _, hosts = url.rpartition("://")
    tail = f"/{version}" if version else ""
    return f"{scheme or BACKEND}://{hosts.rstrip('/')}/{quote(name, safe='')}{tail}"
