"""Models out of the configuration of a machine: the `services` and `packages` that Viam's documentation shows.

`load_services` loads all of a file's models, `load_service` one of them; `load_arguments` says what a service's
attributes are as arguments of `load`, for whoever gets them in another way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..api import load
from ..errors import AccelerateError
from ..model import Model
from .arguments import OURS, load_arguments
from .file import Service, ServicesFile

__all__ = ["load_arguments", "load_service", "load_services"]

_NONE: Mapping[str, Any] = MappingProxyType({})


def load_services(path: str | os.PathLike[str]) -> dict[str, Model]:
    """Load every model that a services file configures.

    Parameters
    ----------
    path : path
        A JSON file with the list ``services``, and the list ``packages`` where attributes speak of packages; with the
        braces around them or without. See docs/viam.md.

    Returns
    -------
    dict of str to Model
        By the services' names, in the order of the file. Services of other types, vision services among them, are not
        in it. Each model is to be closed.

    Raises
    ------
    ModelNotFoundError
        There is no such file; or a model's file, or the package that it is in, is not on this machine.
    OptionError
        The file, a service or one of its attributes is wrong. The error names the service and the attribute.
    AccelerateError
        What `load` raises, with the service's name. Models that were loaded before are closed.
    """
    models: dict[str, Model] = {}
    try:
        for service in ServicesFile(path).mlmodels():
            models[service.name] = _loaded(service)
    except BaseException:
        for model in models.values():
            model.close()
        raise
    return models


def load_service(
    path: str | os.PathLike[str], name: str, attributes: Mapping[str, Any] = _NONE, *, backend: str | None = None
) -> Model:
    """Load one model of a services file; nothing is asked of the others.

    Parameters
    ----------
    path : path
    name : str
        The service's.
    attributes : mapping, optional
        Those in the place of the file's; where one is None, the file's own stays.
    backend : str, optional
        In the place of the one that the service's `model` means; the attributes must then be its own.

    Raises
    ------
    The errors of `load_services`.
    """
    service = ServicesFile(path).named(name)
    given = {**service.attributes, **{key: value for key, value in attributes.items() if value is not None}}
    if backend is None:
        return _loaded(Service(name, service.model, given, service.where))
    given.pop("backend", None)
    return _loaded(Service(name, f"{OURS}{backend}", given, service.where))


def _loaded(service: Service) -> Model:
    source, arguments = load_arguments(service.model, service.attributes, service.where)
    try:
        return load(source, **arguments)
    except AccelerateError as error:
        raise error.about(service.where) from error.__cause__
