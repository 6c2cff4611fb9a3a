"""Models as a Triton model repository on the disk has them: a folder each, with the configuration as text."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate.errors import ModelError, OptionError

from .package import CONFIG, Package

__all__ = ["to_pbtxt", "write_repository"]


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


def write_repository(folder: Path, packages: Iterable[Package]) -> list[Path]:
    """Write models into a model repository; a model is there whole or not at all.

    Returns
    -------
    list of pathlib.Path
        The models' folders.

    Raises
    ------
    OptionError
        Two of the models have one name, or the repository has a model of that name.
    ModelError
        The folder cannot be written.
    """
    made_of = list(packages)
    names = [one.name for one in made_of]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two of the models would be {folder / name}; rename the file of one")
        if (folder / name).exists():
            raise OptionError(f"{folder / name} is there already; remove it, or name another --repository")
    written = []
    for one in made_of:
        place = folder / one.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as scratch:
                made = Path(scratch) / one.name
                for path, content in {**one.files, CONFIG: _config_text(one).encode()}.items():
                    (made / path).parent.mkdir(parents=True, exist_ok=True)
                    (made / path).write_bytes(content)
                os.rename(made, place)
        except OSError as error:
            raise ModelError(f"{place} cannot be written: {error.strerror or error}") from error
        written.append(place)
    return written


def _config_text(one: Package) -> str:
    if not one.pbtxt:
        return to_pbtxt(one.name, one.config)
    # what the user wrote stands; what it may leave open is added where it is not there
    own = {key: value for key, value in {"name": one.name, **one.config}.items() if not _has(one.pbtxt, key)}
    return "".join(f"{line}\n" for line in _fields(own, "")) + one.pbtxt


def _has(pbtxt: str, field: str) -> bool:
    also = "|platform" if field == "backend" else ""
    return re.search(rf"(?m)^\s*({field}{also})\s*[:{{\[]", pbtxt) is not None
