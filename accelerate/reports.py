"""The answers of the registry, of a plan and of a model, and the options of `load`: frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from os import PathLike
from typing import Any

from ._records import record
from .metadata import LabelFile, Normalization

__all__ = ["KINDS", "Availability", "BackendInfo", "Candidate", "Device", "LoadOptions", "Match", "Plan", "RuntimeInfo"]

#: What a device can be, in the order in which `auto` takes them.
KINDS = ("tpu", "gpu", "npu", "cpu", "server")


@record(frozen=True)
class Availability:
    """Whether a backend can build a model on this machine.

    Attributes
    ----------
    available : bool
    version : str
        The runtime and its version, such as "Runtime 2.3.0"; "" when there is none.
    reason : str
        Why, or why not.
    remedy : str
        The one command or action that makes it available; of one that is, what to do where its reason has a "but".
    """

    available: bool
    version: str = ""
    reason: str = ""
    remedy: str = ""


@record(frozen=True)
class Device:
    """What a backend can run a model on.

    Attributes
    ----------
    backend : str
    id : str
        What ``load(..., device=...)`` takes: "cpu", "cuda:0", "usb:0", ...
    kind : str
        One of `KINDS`; ``load(..., device=kind)`` takes any of that kind.
    name : str
        What a person calls it.
    ready : bool
    reason, remedy : str
        Why it is not ready and what makes it so; of one that is, what it computes wrongly and what to do, else "".
    aliases : tuple of str
        Other words for it that ``load(..., device=...)`` takes.
    """

    backend: str
    id: str
    kind: str
    name: str
    ready: bool = True
    reason: str = ""
    remedy: str = ""
    aliases: tuple[str, ...] = ()


@record(frozen=True)
class Match:
    """Whether a backend takes a source with the options of `load`, judged by its content and without loading it.

    Attributes
    ----------
    accepts : bool
    reason : str
        Why, or why not.
    remedy : str
        What to do where it does not, or where the device is missing: another way to run the same model.
    named : bool
        The user has named the server that would run it, in an option or the environment: it ranks right behind GPUs.
    """

    accepts: bool
    reason: str = ""
    remedy: str = ""
    named: bool = False


@record(frozen=True)
class LoadOptions:
    """The arguments of `load` that a backend and its Model see. See `api.load` for their meaning.

    A backend builds one model, whatever `replicas` says: it is there so that a default number of threads can be a share
    of the CPUs (`contract.default_threads`).

    Attributes
    ----------
    device : str or None
        What the user asked for while `match` and `devices` are asked; the id of the chosen device when it comes to
        `load`.
    asked : str or None
        What the user asked for, always.
    labels : LabelFile or None
        What `label_path` says.
    shapes : mapping of str to tuple of int, or tuple of int
        Of inputs by any of their names, or of the only input; `RuntimeModel` has applied it to its `inputs`.
    described : mapping
        What a description beside the model says of its picture and its outputs.
    passed_over : tuple of str
        What `auto` preferred, and why it could not load there.
    tuned : str
        When `tune` found this device the best for the model; "" where it did not.
    """

    device: str | None = None
    label_path: str | PathLike[str] | None = None
    num_threads: int | None = None
    signature: str | None = None
    tensor_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] | tuple[int, ...] = field(default_factory=dict)
    normalization: Mapping[str, Normalization] | Normalization | None = None
    dequantize: bool = False
    strict: bool = False
    replicas: int = 1
    isolation: str | None = None
    backend_options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold a token
    asked: str | None = None
    labels: LabelFile | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    tuned: str = ""


@record(frozen=True)
class RuntimeInfo:
    """What a model really runs on.

    Attributes
    ----------
    name, version : str
        The runtime, such as "Runtime" and "2.3.0".
    device : str
    delegated, total : int or None
        How many of the model's operators the device runs; None where the runtime does not tell.
    details : Mapping
        What only this runtime knows (threads, signature, providers, transport, ...). ``passed_over``: what `auto`
        preferred, and why it could not load there. ``tuned``: when `tune` measured that this is the best for the model.
    """

    name: str
    version: str
    device: str
    delegated: int | None = None
    total: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)


@record(frozen=True)
class BackendInfo:
    """One row of `list_backends`.

    Attributes
    ----------
    name, description : str
    available : bool
        Whether it can build a model here.
    version : str
        Of the runtime; "" when there is none.
    reason, remedy : str
        Why, and what would make it available.
    """

    name: str
    description: str
    available: bool
    version: str
    reason: str
    remedy: str


@record(frozen=True)
class Candidate:
    """A backend and device that were considered.

    Attributes
    ----------
    backend, device : str
    reason : str
        Why it can run the model, or why not.
    remedy : str
        What would change that; "" where it can.
    kind : str
        Which of `KINDS` the device is; "" where it cannot run the model.
    """

    backend: str
    device: str
    reason: str
    remedy: str = ""
    kind: str = ""


@record(frozen=True)
class Plan:
    """What `load` would do, and why.

    Attributes
    ----------
    chosen : Candidate or None
        The first of `candidates`.
    candidates : tuple of Candidate
        Every device of every backend that can run the model here, preferred first.
    skipped : tuple of Candidate
        Everything that cannot, each with its reason and remedy.
    """

    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    skipped: tuple[Candidate, ...]

    def __str__(self) -> str:
        rows = [("", "backend", "device", "why")]
        rows += [("->" if c is self.chosen else "ok", c.backend, c.device, c.reason) for c in self.candidates]
        for c in self.skipped:
            rows.append(("no", c.backend, c.device, c.reason))
            if c.remedy:  # on a line of its own: a terminal is 80 columns wide
                rows.append(("", "", "", f"remedy: {c.remedy}"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join((*map(str.ljust, row, widths), row[3])) for row in rows]
        return "\n".join(line.rstrip() for line in lines)
