"""A package's configuration, Triton's ModelConfig, in the forms that servers read; and model repositories on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate.errors import ModelError, OptionError
from accelerate.formats.open_inference import messages

from ..connection import import_grpc
from .formats import CONFIG
from .package import Package

__all__ = ["configuration", "to_json", "write_repository"]


def to_json(name: str, package: Package) -> str:
    """Return the configuration as the load API of a server takes it."""
    from google.protobuf import json_format

    return str(json_format.MessageToJson(configuration(name, package), preserving_proto_field_name=True))


def configuration(name: str, package: Package) -> Any:
    """Return the ModelConfig; what the user wrote goes before ours."""
    import_grpc()
    from google.protobuf import json_format, text_format

    complete = json_format.ParseDict(package.config, messages.ModelConfig())
    try:
        theirs = text_format.Parse(package.pbtxt, messages.ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(
            f"{package.origin}: the {CONFIG} beside it is no model configuration: {error}", "correct it"
        ) from error
    for field, _ in theirs.ListFields():
        complete.ClearField("backend" if field.name == "platform" else field.name)
    complete.MergeFrom(theirs)
    complete.name = name
    return complete


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
    complete = configuration(package.name, package)
    from google.protobuf import text_format

    text, folder = text_format.MessageToString(complete, as_utf8=True), root / package.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=root) as scratch:
            written = Path(scratch) / package.name
            for path, content in {**package.files, CONFIG: text.encode()}.items():
                (written / path).parent.mkdir(parents=True, exist_ok=True)
                (written / path).write_bytes(content)
            os.rename(written, folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder
