"""Placeholders in attributes: the folders of packages on this machine, and environment variables.

Viam's own rules are in config/placeholder_replacement.go of github.com/viamrobotics/rdk; its documentation has each
package in a folder of its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..calls.names import suggestion
from ..errors import ModelNotFoundError, OptionError

__all__ = ["Packages"]

_PLACEHOLDER = re.compile(r"\$\{([^}]*)(\}?)")
_PACKAGE = re.compile(r"packages(?:\.([^.]+))?\.([\w:/-]+)")
_VARIABLE = re.compile(r"environment\.([\w:/-]+)")
_KNOWN = "${packages.ml_model.NAME}, ${packages.NAME} and ${environment.NAME}"
_MODELS = "ml_model"
# 20231004123310, 2023-10-04T12-33-10, 1_2_0, v3_0_0-rc1: what follows the name of a package, and no longer name does
_VERSION = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)\w*|v?(\d+(?:_\d+)*)(?:-?([A-Za-z]\w*))?")


class Packages:
    """The `packages` of a services file.

    A package of version "latest" stays what it is at the first question, so that a model and its labels belong
    together.
    """

    def __init__(self, entries: Any) -> None:
        self._entries = entries
        self._latest: dict[tuple[str, str], Path] = {}

    def fill(self, value: Any, attribute: str, where: str) -> Any:
        """Return an attribute's value with every placeholder replaced, however deep in it.

        Raises
        ------
        OptionError, ModelNotFoundError
        """
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: self._replaced(found, f"{where}: {attribute}"), value)
        if isinstance(value, Mapping):
            return {key: self.fill(item, attribute, where) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, attribute, where) for item in value]
        return value

    def _replaced(self, found: re.Match[str], place: str) -> str:
        if not found[2]:
            raise OptionError(f"{place} has {found[0]!r:.120}, a placeholder without its end", "write the '}'")
        if variable := _VARIABLE.fullmatch(found[1]):
            value = os.environ.get(variable[1])
            if value is None:
                raise OptionError(
                    f"{place} has {found[0]}, and there is no environment variable {variable[1]!r}",
                    "set it before the program starts, or write the value itself",
                )
            return value
        if package := _PACKAGE.fullmatch(found[1]):
            return str(self._folder(package[1] or _MODELS, package[2], f"{place} has {found[0]}"))
        raise OptionError(f"{place} has the unknown placeholder {found[0]!r:.120}", f"known: {_KNOWN}")

    def _folder(self, kind: str, name: str, place: str) -> Path:
        """Return the folder of the package with this local name."""
        root = _root(place)
        documented = _inside(root, name, f"{place}: the package's name")
        _inside(root, kind, f"{place}: the package's type", parts=1)
        entry = self._entry(kind, name, place)
        if entry is None:
            if documented.is_dir():
                return documented
            raise OptionError(
                f"{place}, and there is no package {name!r} among the packages of the file{self._near(name)}, nor a "
                f"folder {documented}",
                f'write "packages": [{{"package": "org/name", "version": "latest", "name": "{name}", '
                f'"type": "{kind}"}}], or the path itself',
            )
        package, version = (_text(entry, key, f"{place}: package {name!r}") for key in ("package", "version"))
        _inside(root, package, f"{place}: the package of {name!r}")
        _inside(root, version, f"{place}: the version of {name!r}", parts=1)
        if version != "latest" and not re.search(r"\d", version):  # YYYYMMDDHHMMSS, as the documentation has it
            raise OptionError(
                f"{place}, whose package has the version {version!r:.60}",
                'write the version that it has, such as "20231004123310", or "latest"',
            )
        prefix = f"{package.replace('/', '-')}-"
        folder = root / "data" / kind
        there = _versions(folder, prefix)
        if version == "latest":
            as_it_is = self._latest.get((kind, name)) or (folder / f"{prefix}{there[-1]}" if there else None)
        else:
            as_it_is = folder / f"{prefix}{version.replace('.', '_')}"
        if as_it_is is not None and as_it_is.is_dir():
            self._latest[kind, name] = as_it_is
            return as_it_is
        if documented.is_dir():
            return documented
        raise ModelNotFoundError(
            f"{place}, and package {package!r} of version {version!r} is not on this machine: there is neither "
            f"{as_it_is or folder / f'{prefix}VERSION'} nor {documented}",
            f'there is version {", ".join(there)}: write one of these, or "latest"'
            if there
            else "let viam-server fetch it for this user (it goes by HOME), or write the path itself",
        )

    def _entry(self, kind: str, name: str, place: str) -> Mapping[str, Any] | None:
        if self._entries is None:
            return None
        if not isinstance(self._entries, list) or not all(isinstance(one, Mapping) for one in self._entries):
            raise OptionError(
                f"{place}, and the packages of the file are {self._entries!r:.60}; wanted a list of objects",
                'write "packages": [{"package": "org/name", "version": "latest", "name": ..., "type": "ml_model"}]',
            )
        found = [one for one in self._entries if one.get("name") == name]
        if len(found) > 1:
            raise OptionError(f"{place}, and {len(found)} packages have this name", "give each another name")
        if found and (its := found[0].get("type", _MODELS)) != kind:
            raise OptionError(
                f"{place}, which looks for a package of type {kind!r:.40}, and {name!r} is of type {its!r:.40}",
                f"write ${{packages.{its}.{name}}}" if isinstance(its, str) else f'write "type": "{kind}"',
            )
        return found[0] if found else None

    def _near(self, name: str) -> str:
        names = [one["name"] for one in self._entries or () if isinstance(one.get("name"), str)]
        return suggestion(name, names) or (f" ({', '.join(names[:10])})" if names else "")


def _root(place: str) -> Path:
    try:
        return Path.home() / ".viam" / "packages"
    except RuntimeError as error:
        raise OptionError(f"{place}, and this user has no home folder", "set HOME") from error


def _inside(root: Path, name: str, place: str, parts: int = 0) -> Path:
    """Return the folder below `root` with this name, which must not lead out of it."""
    split = re.split(r"[/\\]", name)
    path = root / name if "\0" not in name else root
    if not {"", ".", ".."}.isdisjoint(split) or root not in path.parents or (parts and len(split) > parts):
        raise OptionError(
            f"{place} is {name!r:.80}, which could lead out of {root}", "write it without '..' and without a path"
        )
    return path


def _text(entry: Mapping[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    example = {"package": "org/name", "version": "latest"}[key]
    if isinstance(value, str) and value and not re.search("[<>]", value):
        return value
    said = f"{key} {value!r:.60}" if key in entry else f"no {key}"
    raise OptionError(f"{place} has {said}; wanted a text", f'write "{key}": such as "{example}"')


def _versions(folder: Path, prefix: str) -> list[str]:
    """Return the versions of a package that are in a folder, the newest last."""
    try:
        names = [name.removeprefix(prefix) for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return []
    found = [(_age(match), name) for name in names if (match := _VERSION.fullmatch(name))]
    return [name for _, name in sorted(found) if (folder / f"{prefix}{name}").is_dir()]


def _age(match: re.Match[str]) -> tuple[tuple[int, ...], bool, str]:
    """Return what sorts versions: dates as one number, as most of them are written; what is not final goes before."""
    if match[1]:
        return (int("".join(match.groups()[:6])),), True, ""
    return tuple(int(part[:30]) for part in match[7].split("_")), not match[8], match[8] or ""
