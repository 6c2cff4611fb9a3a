"""The functions a program calls: `load`, `plan`, `list_backends`, `list_devices`."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import registry
from .errors import OptionError, one_line
from .loading import decision, load_one
from .model import Model
from .planning import summarize
from .reports import BackendInfo, Device, LoadOptions, Plan

if TYPE_CHECKING:
    from .combined.failover.entries import Entry

__all__ = ["list_backends", "list_devices", "load", "plan"]


def load(
    source: Any,
    *,
    backend: str | Sequence[str] = "auto",
    device: str | None = None,
    label_path: str | PathLike[str] | None = None,
    num_threads: int | None = None,
    signature: str | None = None,
    tensor_names: Mapping[str, Mapping[str, str]] | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    normalization: Any = None,
    dequantize: bool = False,
    strict: bool = False,
    replicas: int = 1,
    failover: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    isolation: str | None = None,
    **backend_options: Any,
) -> Model:
    """Load a model and make it ready to run.

    Parameters
    ----------
    source : path, bytes, URL, or runtime object
        A model file (its kind is told by its content), or an existing interpreter or session. A description beside a
        file (``model.tflite.json``, see docs/vision.md) says what the arguments here do not.
    backend : str or sequence of str
        A name from `list_backends`, or several in order; "auto" takes the first that can run the model here (see
        `plan`).
    device : str, optional
        A device id from `list_devices`, or a kind of device ("gpu"); it is used, or an error is raised.
    label_path : path, optional
        A file with one label a line, or of another format that docs/programs.md lists; default: the labels packed in
        the model, else the names that its exporter wrote into it.
    num_threads : int, optional
        Of each replica. Default: the backend's own (1 for TFLite on the CPU, elsewhere a share of the CPUs).
    signature : str, optional
        Which of the model's signatures to run.
    tensor_names : mapping, optional
        ``{"inputs": {theirs: mine}, "outputs": {theirs: mine}}``; `theirs` may be any alias.
    shapes : mapping of str to sequence of int, or sequence of int, optional
        ``{input name: shape}``, by any of its names, or the shape of the only input: settles its dynamic dimensions for
        good.
    normalization : (mean, std), Normalization, or mapping from input name to one, optional
        How uint8 pixels become the model's values, ``(pixel - mean) / std`` in 0..255 units; goes before the model's
        own metadata.
    dequantize : bool
        Return quantised outputs as float32, unless a call of `infer` says otherwise.
    strict : bool
        Convert no input's values: the dtype must be the model's.
    replicas : int
        How many copies of the model run side by side, for callers in several threads.
    failover : sequence of str or mapping
        What answers where this model cannot, in order: names of backends, or dicts of arguments of `load`. What they
        leave open is as given here, but for `backend`, `device` and the backend's own. See docs/programs.md.
    isolation : "process", optional
        Run the model in a child process, each replica in one of its own: a crash of its runtime is an `InferenceError`,
        and the next call gets a new child. Linux only. See docs/programs.md.
    **backend_options
        What only one backend knows, such as ``engine=``.

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
    arguments = dict(locals())  # a tracer goes on writing to the one that `locals` returns
    del arguments["failover"]
    folder = _working_folder()
    entries: list[Entry] = []
    model: Model
    if _is_given(failover):
        from .combined.failover.entries import load_failover, read

        first, *entries = read(arguments, failover, folder)
        again, model = first.again, load_failover([first, *entries])
    else:
        found, model = load_one(arguments)
        again = found.again
    del arguments["source"]
    given = {**arguments.pop("backend_options"), **arguments}
    model.loaded_by = functools.partial(_reduce, again, folder, given, entries)
    return model


def plan(
    source: Any,
    *,
    backend: str | Sequence[str] = "auto",
    device: str | None = None,
    label_path: str | PathLike[str] | None = None,
    num_threads: int | None = None,
    signature: str | None = None,
    tensor_names: Mapping[str, Mapping[str, str]] | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    normalization: Any = None,
    dequantize: bool = False,
    strict: bool = False,
    replicas: int = 1,
    failover: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    isolation: str | None = None,
    **backend_options: Any,
) -> Plan:
    """Say what `load` with the same arguments would choose, and why; the model is not loaded.

    Raises
    ------
    ModelNotFoundError, ModelError, OptionError, BackendNotAvailableError
        Where `load` would raise before it chooses.
    """
    arguments = dict(locals())
    del arguments["failover"]
    if _is_given(failover):
        from .combined.failover.entries import plan_failover, read

        return plan_failover(read(arguments, failover, _working_folder()))
    decided = decision(**arguments)
    with decided.source.kept_open():
        return summarize(list(decided.rows))


def list_backends() -> Mapping[str, BackendInfo]:
    """Return every installed backend by name, with whether it can build a model here, why, and what would help."""
    return registry.info()


def list_devices() -> list[Device]:
    """Return the devices of every available backend, those that are not ready with reason and remedy."""
    found: list[Device] = []
    for name, backend in registry.backends().items():
        if registry.availability(backend).available:
            try:
                found += registry.devices(backend, LoadOptions())
            except (Exception, SystemExit) as error:
                refused = registry.failure(backend, error)
                found.append(Device(name, "-", "", "", False, refused.reason, refused.remedy))
    return found


def _is_given(failover: object) -> bool:
    return failover is not None and not (isinstance(failover, (list, tuple)) and not failover)


def _working_folder() -> str:
    """Return the folder from which relative paths go out; "" where somebody has removed it: then none is one."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""


def _reduce(
    again: Callable[[str], Any], folder: str, arguments: Mapping[str, Any], failover: Sequence[Entry]
) -> tuple[Any, ...]:
    """Return what a model is pickled as: `load` and its arguments. Paths are those from the folder of that time."""
    import pickle

    given = {name: value for name, value in arguments.items() if value is not None}
    if "label_path" in given:
        given["label_path"] = os.path.join(folder, os.fsdecode(given["label_path"]))
    if failover:
        given["failover"] = [entry.portable(folder) for entry in failover]
    for name, value in given.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever the class of a stranger's object raises
            raise OptionError(
                f"the model cannot be pickled or copied, as {name}= of its load cannot: {one_line(error)}",
                "load it where it is to run: in the worker",
            ) from error
    return functools.partial(load, **given), (again(folder),)
