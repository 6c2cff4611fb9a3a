"""A services file: its text, its entries, and what is still to be filled in."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._records import record
from ..calls.names import suggestion
from ..errors import ModelNotFoundError, OptionError
from .arguments import KNOWN, OURS, is_ours
from .packages import Packages

__all__ = ["Service", "ServicesFile", "parse"]

_SIZE_LIMIT = 4 << 20
_MOST_LEVELS = 32  # of attributes
_TYPE, _API = "mlmodel", "rdk:service:mlmodel"
# a text goes on to the end where its quotation mark is missing: then json says so, and nothing is searched twice
_TEXT = r'"(?:\\.|[^"\\])*"?'
_OTHERS = re.compile(rf"{_TEXT}|//[^\n]*|(?:\.\.\.|…)(?:\s*,)?|<[^<>\"\n]{{1,80}}>", re.S)
_COMMAS = re.compile(rf"{_TEXT}|,(?=\s*[\]}}])", re.S)
_UNFILLED = re.compile(r"<[^<>\"\n]{1,80}>")
_TO_WRITE = {
    "name": "a name of your choice, such as fruit_classifier",
    "model": "tflite_cpu",
    "model_path": "the path of the model file",
    "label_path": "the path of the label file, or leave it out",
    "num_threads": "a whole number from 1, such as 1",
}

_log = logging.getLogger("accelerate")


@record(frozen=True)
class Service:
    """A service with a model.

    Attributes
    ----------
    name : str
    model : str
        Which implementation: ``tflite_cpu``, or a triplet.
    attributes : mapping
        Without placeholders.
    where : str
        What it is called in messages.
    """

    name: str
    model: str
    attributes: Mapping[str, Any]
    where: str


def parse(text: str) -> Any:
    """Read JSON as documentation shows it.

    The braces around all of it may be missing, ``// comments``, ``...`` and a comma behind the last item are passed
    over, and ``<what to write>`` is a text without quotation marks.

    Raises
    ------
    OptionError
        A key that stands twice in one object.
    ValueError
        It is no JSON.
    """
    text = _OTHERS.sub(_plain, text.lstrip("\ufeff"))
    if text.lstrip().startswith('"'):
        text = f"{{{text}}}"
    text = _COMMAS.sub(lambda found: found[0] if found[0] != "," else " ", text)
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)


def _plain(found: re.Match[str]) -> str:
    if found[0].startswith('"'):
        return found[0]
    return f'"{found[0]}"' if found[0].startswith("<") else re.sub(r"[^\n]", " ", found[0])


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise OptionError(f"an object has the key {twice!r:.80} twice", "leave one out, or make one of both")
    return made


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


class ServicesFile:
    """A services file that was read.

    Raises
    ------
    ModelNotFoundError, OptionError
        There is no such file, or it cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._name = os.fsdecode(path)
        except TypeError:
            raise OptionError(f"load_services() was given {path!r:.60}; wanted the path of a JSON file") from None
        said = self._parsed(self._read())
        if not isinstance(said, Mapping) or "services" not in said:
            keys = ", ".join(map(repr, list(said)[:5])) if isinstance(said, Mapping) else ""
            holds = f"the keys {keys}" if keys else f"{said!r:.40}"
            raise self._wrong(f"has no services, but {holds}", 'write {"services": [...]}')
        services = said["services"]
        if not isinstance(services, list):
            raise self._wrong(f"has services {services!r:.40}; wanted a list", 'write "services": [{...}, {...}]')
        self._entries: list[tuple[str, Mapping[str, Any]]] = []
        for place, entry in enumerate(services):
            if not isinstance(entry, Mapping):
                raise self._wrong(
                    f"has {entry!r:.40} as services[{place}]; wanted an object",
                    'write {"name": ..., "type": "mlmodel", "model": "tflite_cpu", "attributes": {...}}',
                )
            self._entries.append((f"services[{place}]", entry))
        self._packages = Packages(said.get("packages"))

    def mlmodels(self) -> Iterator[Service]:
        """Yield the services with a model, each as soon as it is known to be right.

        Raises
        ------
        OptionError, ModelNotFoundError
        """
        entries = [(place, entry) for place, entry in self._entries if self._has_model(place, entry)]
        names = [self._name_of(place, entry) for place, entry in entries]
        for name in names:
            self._check_single(name, names)
        for place, entry in entries:
            if self._is_known(place, entry):
                yield self._service(place, entry)

    def named(self, name: str) -> Service:
        """Return the service with this name.

        Raises
        ------
        OptionError, ModelNotFoundError
        """
        called = [(place, entry) for place, entry in self._entries if entry.get("name") == name]
        found = [(place, entry) for place, entry in called if self._has_model(place, entry)]
        if not found:
            raise self._no_service(name, [entry for _, entry in called])
        self._check_single(name, [name] * len(found))
        place, entry = found[0]
        if not self._is_known(place, entry, quiet=True):
            raise OptionError(
                f"{self._where(place, entry)} has the model {entry['model']!r}, which is none of this package",
                f"write one of {_known()}",
            )
        return self._service(place, entry)

    def _read(self) -> bytes:
        try:
            if os.path.exists(self._name) and not os.path.isfile(self._name):
                raise self._wrong("is no file", "give the path of a JSON file")
            with open(self._name, "rb") as file:
                data = file.read(_SIZE_LIMIT + 1)
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"there is no services file {self._name}", "check the path") from error
        except (OSError, ValueError) as error:
            if isinstance(error, OptionError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise self._wrong(f"cannot be read: {reason}", "check the path and its permissions") from error
        if len(data) > _SIZE_LIMIT:
            raise self._wrong(
                f"has more than {_SIZE_LIMIT >> 20} MiB", "give the file with the configuration, not what it names"
            )
        return data

    def _parsed(self, data: bytes) -> Any:
        try:
            return parse(data.decode("utf-8"))
        except OptionError as error:
            raise error.about(f"the services file {self._name}") from None
        except UnicodeDecodeError as error:
            raise self._wrong("is no text in UTF-8", "write it as UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"is no JSON: {error}", "correct it there") from error

    def _wrong(self, what: str, remedy: str) -> OptionError:
        return OptionError(f"the services file {self._name} {what}", remedy)

    def _where(self, place: str, entry: Mapping[str, Any]) -> str:
        name = entry.get("name")
        return f"service {name!r:.80} in {self._name}" if isinstance(name, str) and name else f"{place} in {self._name}"

    def _name_of(self, place: str, entry: Mapping[str, Any]) -> str:
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            said = f"the name {name!r:.40}" if "name" in entry else "no name"
            raise OptionError(f"{self._where(place, entry)} has {said}", f'write "name": {_TO_WRITE["name"]}')
        return name

    def _check_single(self, name: str, names: Sequence[str]) -> None:
        if names.count(name) > 1:
            raise self._wrong(f"has {names.count(name)} services of the name {name!r:.80}", "give each another name")

    def _has_model(self, place: str, entry: Mapping[str, Any]) -> bool:
        kind = entry.get("api", entry.get("type"))
        if kind in (_TYPE, _API):
            return True
        model = entry.get("model")
        if isinstance(model, str) and (model in KNOWN or is_ours(model)):  # what else it says is a mistake
            said = f"the type {kind!r:.60}" if kind is not None else "no type"
            raise OptionError(f"{self._where(place, entry)} has {said}", f'of model {model!r} it is "type": "{_TYPE}"')
        return False

    def _is_known(self, place: str, entry: Mapping[str, Any], *, quiet: bool = False) -> bool:
        model, where = entry.get("model"), self._where(place, entry)
        if not isinstance(model, str) or not model:
            said = f"the model {model!r:.60}" if "model" in entry else "no model"
            raise OptionError(f"{where} has {said}", f'write "model": one of {_known()}')
        if model in KNOWN or is_ours(model) or _UNFILLED.search(model):
            return True
        if ":" not in model or model.startswith("rdk:builtin:"):  # Viam has one that is not a module's
            raise OptionError(
                f"{where} has the model {model!r:.80}{suggestion(model, KNOWN)}", f"write one of {_known()}"
            )
        if not quiet:
            _log.warning("%s is left out: its model %r is none of this package, which has %s", where, model, _known())
        return False

    def _no_service(self, name: str, called: Sequence[Mapping[str, Any]]) -> OptionError:
        names = [
            str(entry["name"]) for place, entry in self._entries if "name" in entry and self._has_model(place, entry)
        ]
        there = f"it has {', '.join(names[:20])}" if names else f'none in it has "type": "{_TYPE}"'
        if not called:
            return self._wrong(f"has no service {name!r:.80}{suggestion(name, names)}", there)
        attributes = called[0].get("attributes")
        of = attributes.get("mlmodel_name") if isinstance(attributes, Mapping) else None
        kind = called[0].get("api", called[0].get("type"))
        return self._wrong(
            f"has a service {name!r:.80} of type {kind!r:.60}; wanted one of type {_TYPE!r}",
            f"its model is {of}" if isinstance(of, str) and of in names else there,
        )

    def _service(self, place: str, entry: Mapping[str, Any]) -> Service:
        where = self._where(place, entry)
        attributes = entry.get("attributes")
        if attributes is None:
            attributes = {}
        if not isinstance(attributes, Mapping):
            raise OptionError(
                f"{where} has attributes {attributes!r:.60}; wanted an object",
                'write "attributes": {"model_path": "..."}',
            )
        texts = list(_texts(attributes, where))
        own = [(key, entry[key]) for key in ("name", "model")]
        if unfilled := [(at, found) for at, text in (*own, *texts) for found in _UNFILLED.findall(text)]:
            raise OptionError(
                f"{where} ({place}) is still to be filled in: "
                + ", ".join(f"{found} in {at}" for at, found in dict.fromkeys(unfilled)),
                "; ".join(
                    f"{at} is {_TO_WRITE.get(at, 'up to you')}" for at in dict.fromkeys(at for at, _ in unfilled)
                ),
            )
        filled = {key: self._packages.fill(value, key, where) for key, value in attributes.items()}
        return Service(entry["name"], entry["model"], filled, where)


def _texts(attributes: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Yield every text in the attributes, with the attribute that it is in."""
    for name, value in attributes.items():
        values = [(value, 1)]
        for item, level in values:
            if level > _MOST_LEVELS:
                raise OptionError(f"{where}: {name} has more than {_MOST_LEVELS} levels", "correct it there")
            if isinstance(item, str):
                yield name, item
            elif isinstance(item, (list, Mapping)):
                inner = item.values() if isinstance(item, Mapping) else item
                values += ((one, level + 1) for one in inner)


def _known() -> str:
    return ", ".join((*KNOWN, f"{OURS}NAME with the name of a backend, or auto"))
