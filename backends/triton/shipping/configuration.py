"""A package's configuration in the forms that Triton reads, and packages in a model repository on the disk."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate.errors import ModelError, OptionError

from .formats import CONFIG
from .package import Package

__all__ = ["to_json", "to_pbtxt", "write_repository"]


def to_json(name: str, package: Package) -> str:
    """Return the configuration as the load API of a server takes it; what the user wrote goes before ours.

    Raises
    ------
    ModelError
        What the user wrote is no configuration.
    """
    if not package.pbtxt:
        return json.dumps({"name": name, **package.config})
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    try:
        theirs = text_format.Parse(package.pbtxt, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(
            f"{package.origin}: the {CONFIG} beside it is no model configuration: {error}", "correct it"
        ) from error
    complete = text_format.Parse(to_pbtxt(name, package.config), model_config_pb2.ModelConfig())
    if theirs.instance_group and "instance_group" not in package.config:
        complete.ClearField("instance_group")
    complete.MergeFrom(theirs)
    complete.name = name
    return str(json_format.MessageToJson(complete, preserving_proto_field_name=True))


def to_pbtxt(name: str, config: Mapping[str, Any]) -> str:
    """Return the configuration as the protobuf text that a model repository has."""
    return "".join(f"{line}\n" for line in _fields({"name": name, **config}, ""))


def _fields(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in message.items():
        # the one map of ModelConfig that is used here: text has an entry of key and value for each
        values = [{"key": k, "value": v} for k, v in value.items()] if key == "parameters" else value
        if isinstance(values, list) and values and isinstance(values[0], dict):
            for one in values:
                yield from _message(key, one, indent)
        elif isinstance(values, dict):
            yield from _message(key, values, indent)
        else:
            yield f"{indent}{key}: {_value(values)}"


def _message(key: str, message: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{key} {{"
    yield from _fields(message, indent + "  ")
    yield f"{indent}}}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str) and not value.startswith(("TYPE_", "KIND_")):
        # a pair of \u escapes for one character, as JSON has it, is an error in protobuf text
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def write_repository(root: Path, packages: Iterable[Package]) -> list[Path]:
    """Write models into a model repository, whole or not at all each, and return their folders.

    Raises
    ------
    OptionError
        Two of the models have one name, or the repository has a model of that name.
    ModelError
        The folder cannot be written.
    """
    every = list(packages)
    names = [package.name for package in every]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two of the models would be {root / name}", "rename the file of one")
        if (root / name).exists():
            raise OptionError(f"{root / name} is there already", "remove it, or name another --repository")
    return [_write(root, package) for package in every]


def _write(root: Path, package: Package) -> Path:
    folder = root / package.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=root) as scratch:
            written = Path(scratch) / package.name
            for path, content in {**package.files, CONFIG: _text_of(package).encode()}.items():
                (written / path).parent.mkdir(parents=True, exist_ok=True)
                (written / path).write_bytes(content)
            os.rename(written, folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _text_of(package: Package) -> str:
    if not package.pbtxt:
        return to_pbtxt(package.name, package.config)
    # what the user wrote stands; what it may leave open is added where it is not there
    complete = {"name": package.name, **package.config}
    ours = {key: value for key, value in complete.items() if not _has(package.pbtxt, key)}
    return "".join(f"{line}\n" for line in _fields(ours, "")) + package.pbtxt


def _has(pbtxt: str, field: str) -> bool:
    also = "|platform" if field == "backend" else ""
    return re.search(rf"(?m)^\s*({field}{also})\s*[:{{\[]", pbtxt) is not None
