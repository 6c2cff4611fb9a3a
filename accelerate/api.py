"""The functions a program calls: `load`, `plan`, `list_backends`, `list_devices`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from . import registry
from .contract import Backend, whole_number
from .errors import ModelError, NoBackendError, OptionError, UnsupportedModelError
from .model import Model
from .planning import check_options, make_plan
from .reports import BackendInfo, Device, LoadOptions, Plan
from .source import Source

# far above what any machine gains from; a runtime that is asked for more may take the process down
_MOST_THREADS = 1024
_MOST_REPLICAS = 256

__all__ = ["list_backends", "list_devices", "load", "plan"]

_log = logging.getLogger("accelerate")


def load(
    source: Any,
    *,
    backend: str = "auto",
    device: str | None = None,
    label_path: str | PathLike[str] | None = None,
    num_threads: int | None = None,
    signature: str | None = None,
    tensor_names: Mapping[str, Mapping[str, str]] | None = None,
    normalization: Any = None,
    dequantize: bool = False,
    strict: bool = False,
    replicas: int = 1,
    **backend_options: Any,
) -> Model:
    """Load a model and make it ready to run.

    Parameters
    ----------
    source : path, bytes, URL, or runtime object
        A model file (its kind is told by its content), or an existing interpreter or session.
    backend : str
        A name from `list_backends`; "auto" takes the first that can run the model here (see `plan`).
    device : str, optional
        A device id from `list_devices`; it is used, or an error is raised.
    label_path : path, optional
        A file with one label a line; default: the labels packed in the model.
    num_threads : int, optional
        Of each replica. Default: the backend's own (1 for ``tflite_cpu``, elsewhere a share of the CPUs).
    signature : str, optional
        Which of the model's signatures to run.
    tensor_names : mapping, optional
        ``{"inputs": {theirs: mine}, "outputs": {theirs: mine}}``; `theirs` may be any alias.
    normalization : (mean, std), Normalization, or mapping from input name to one, optional
        How uint8 pixels become the model's values, ``(pixel - mean) / std`` in 0..255 units; goes before the model's
        own metadata.
    dequantize : bool
        Return quantised outputs as float32, unless a call of `infer` says otherwise.
    strict : bool
        Convert no input's values: the dtype must be the model's.
    replicas : int
        How many copies of the model run side by side, for callers in several threads.
    **backend_options
        What only one backend knows, such as ``engine=`` of ``tflite_cpu``.

    Returns
    -------
    Model

    Raises
    ------
    ModelNotFoundError, ModelError, UnsupportedModelError
        About the file.
    BackendNotAvailableError, DeviceNotFoundError, NoBackendError
        About this machine. `NoBackendError.plan` has every reason and remedy.
    OptionError
        About an argument.
    """
    found, considered, options = _prepare(
        source,
        backend,
        device=device,
        label_path=label_path,
        num_threads=num_threads,
        signature=signature,
        tensor_names={} if tensor_names is None else tensor_names,
        normalization=normalization,
        dequantize=dequantize,
        strict=strict,
        replicas=replicas,
        backend_options=backend_options,
    )
    with found.kept_open():
        if backend != "auto":
            return _load_with(considered[backend], found, options)
        decided = make_plan(found, options, considered)
        return _load_first(found, options, considered, decided)


def plan(
    source: Any,
    *,
    backend: str = "auto",
    device: str | None = None,
    label_path: str | PathLike[str] | None = None,
    num_threads: int | None = None,
    signature: str | None = None,
    tensor_names: Mapping[str, Mapping[str, str]] | None = None,
    normalization: Any = None,
    dequantize: bool = False,
    strict: bool = False,
    replicas: int = 1,
    **backend_options: Any,
) -> Plan:
    """Say what `load` with the same arguments would choose, and why; the model is not loaded.

    Raises
    ------
    ModelNotFoundError, ModelError, OptionError, BackendNotAvailableError
        Where `load` would raise before it chooses.
    """
    found, considered, options = _prepare(
        source,
        backend,
        device=device,
        label_path=label_path,
        num_threads=num_threads,
        signature=signature,
        tensor_names={} if tensor_names is None else tensor_names,
        normalization=normalization,
        dequantize=dequantize,
        strict=strict,
        replicas=replicas,
        backend_options=backend_options,
    )
    with found.kept_open():
        return make_plan(found, options, considered)


def list_backends() -> Mapping[str, BackendInfo]:
    """Return every installed backend by name, with whether it can build a model here, why, and what would help."""
    return registry.info()


def list_devices() -> list[Device]:
    """Return the devices of every available backend, those that are not ready with reason and remedy."""
    found: list[Device] = []
    for name, backend in registry.backends().items():
        if registry.availability(backend).available:
            try:
                found += backend.devices()
            except (Exception, SystemExit) as error:  # a stranger's code: its failure is an answer
                found.append(Device(name, "-", "", "", False, f"devices() raised {type(error).__name__}: {error}"))
    return found


def _prepare(source: Any, backend: str, **options: Any) -> tuple[Source, Mapping[str, Backend], LoadOptions]:
    if not isinstance(backend, str):
        raise OptionError(f"backend is {backend!r}; wanted 'auto' or a name from list_backends()")
    considered = registry.backends() if backend == "auto" else {backend: registry.find(backend)}
    check_options(options["backend_options"], considered)
    if options["num_threads"] is not None:
        options["num_threads"] = whole_number("num_threads", options["num_threads"], _MOST_THREADS)
    options["replicas"] = whole_number("replicas", options["replicas"], _MOST_REPLICAS)
    for name in ("device", "signature"):
        if options[name] is not None and not (isinstance(options[name], str) and options[name]):
            raise OptionError(f"{name} is {options[name]!r:.60}; wanted a text, or None")
    for name in ("dequantize", "strict"):
        if not isinstance(options[name], (bool, np.bool_)):
            raise OptionError(f"{name} is {options[name]!r:.60}; wanted True or False")
    found = Source(source)
    if options["replicas"] > 1 and found.format == "object":
        raise OptionError("an existing interpreter or session cannot be copied: give the model file, or replicas=1")
    return found, considered, LoadOptions(**options)


def _load_with(backend: Backend, source: Source, options: LoadOptions) -> Model:
    if options.replicas == 1:
        return backend.load(source, options)
    from .pool import ReplicatedModel

    models: list[Model] = []
    try:
        for _ in range(options.replicas):
            models.append(backend.load(source, options))  # noqa: PERF401 - those before a failure must be closed
        return ReplicatedModel(models, options)
    except BaseException:
        for model in models:
            model.close()
        raise


def _load_first(source: Source, options: LoadOptions, considered: Mapping[str, Backend], decided: Plan) -> Model:
    """Load with the first candidate that can; falling to a later one is said aloud."""
    failures: list[str] = []
    for candidate in decided.candidates:
        try:
            model = _load_with(considered[candidate.backend], source, options)
        except OptionError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            if len(decided.candidates) == 1:
                raise
            failures.append(f"{candidate.backend}: {type(error).__name__}: {error}")
            continue
        if failures:
            _log.warning("auto chose %s after: %s", candidate.backend, "; ".join(failures))
        else:
            _log.debug("auto chose %s on %s: %s", candidate.backend, candidate.device, candidate.reason)
        return model
    if not decided.candidates:
        _raise_what_is_clear(source, options, considered)
        if source.format in ("", "directory"):
            raise source.no_model()
    table = (
        str(decided) if decided.skipped or decided.candidates else "no backend is installed: reinstall edge-accelerate"
    )
    tried = "".join(f"\n{failure}" for failure in failures)
    raise NoBackendError(f"no backend here can run {source}\n{table}{tried}", decided)


def _raise_what_is_clear(source: Source, options: LoadOptions, considered: Mapping[str, Backend]) -> None:
    """Raise what a backend says of a damaged file of its own format, or of a wrong option: no other would help."""
    for backend in considered.values():
        if not set(options.backend_options) <= set(backend.options):
            continue
        try:
            backend.configured(options).match(source)
        except UnsupportedModelError:
            continue
        except (ModelError, OptionError):
            raise
        except (Exception, SystemExit):  # a stranger's code; the plan has told it
            continue
