"""IsolatedModel: a RuntimeModel whose runtime is in a child process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ...calls.binding import Binding
from ...calls.conversion import Array
from ...calls.deadlines import left
from ...contract import Backend
from ...metadata import Metadata
from ...model import Model
from ...reports import LoadOptions, RuntimeInfo
from ...runtime_model import Command, RuntimeModel
from ...source import Source
from .binding import IsolatedBinding
from .coding import decode_error
from .link import Link
from .specification import Specification

__all__ = ["IsolatedModel", "load_isolated"]


class IsolatedModel(RuntimeModel):
    """See the module. What is known about the model came with its load; conversions are made here.

    Parameters
    ----------
    link : Link
        To the child that has loaded it.
    told : Mapping
        What the child says of it.
    backend : str
    options : LoadOptions
    """

    concurrent = True  # the link has them wait: Bindings, and models of other signatures, share the child
    survives_fork = True

    def __init__(self, link: Link, told: Mapping[str, Any], backend: str, options: LoadOptions) -> None:
        self._link = link
        self._told = told
        self._root: IsolatedModel | None = None  # of which this is another signature
        self._views: weakref.WeakSet[IsolatedModel] = weakref.WeakSet()
        self.assumed_normalization = told["assumed"]
        # the child has given them the user's names and shapes
        settled = replace(options, tensor_names={}, shapes={})
        super().__init__(backend, told["inputs"], told["outputs"], told["runtime"], settled)
        self._target = link.target(told["model"], self.inputs, self.outputs)

    def execute(self, feeds: list[Array]) -> list[Array]:
        outputs: list[Array] = self._link.run(self._target, feeds, None)
        return outputs

    def execute_within(self, feeds: list[Array], timeout: float) -> list[Array]:
        self.check_open()
        outputs: list[Array] = self._link.run(self._target, feeds, timeout)
        return outputs

    @property
    def runtime(self) -> RuntimeInfo:
        """As the child told last, with its process."""
        told: RuntimeInfo = self._link.runtime if self._root is None else self._told["runtime"]
        return replace(told, details={**told.details, "isolation": "process", "pid": self._link.pid})

    @runtime.setter
    def runtime(self, info: RuntimeInfo) -> None:
        raise AttributeError("the child says what it runs on")

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        self.check_open()
        metadata: Metadata | None = self._told["metadata"]
        if metadata is None:
            raise decode_error(self._told["problem"])
        return metadata

    def commands(self) -> Mapping[str, Command]:
        return dict.fromkeys(("warmup", "reset", *self._told["commands"]), self._command)

    def _command(self, command: Mapping[str, Any], until: float | None) -> dict[str, Any]:
        timeout = left(until)
        done: dict[str, Any] = self._link.ask(
            "command", timeout, model=self._told["model"], command=dict(command), seconds=timeout
        )
        return done

    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        if not self._told["phases"]:
            return None
        found: Mapping[str, tuple[int, float]] | None = self._link.ask("phases", model=self._told["model"])
        return found

    def signature(self, name: str) -> Model:
        self.check_open()
        root = self._root or self
        told = self._link.signature(name)
        given = root.options.normalization
        options = replace(root.options, signature=name, normalization=None if isinstance(given, Mapping) else given)
        view = IsolatedModel(self._link, told, self.backend, options)
        view._root = root
        root._views.add(view)
        return view

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        target = self._link.target(self._told["model"], self.inputs, self.outputs, bound=True, shapes=shapes)
        return IsolatedBinding(self, self._link, target)

    def when_idle(self, callback: Callable[[], None]) -> None:
        self._link.when_idle(callback)

    def forked(self) -> None:
        super().forked()
        self.turn.forked(busy=self._link.part_from_parent())

    def release(self) -> None:
        for view in tuple(self._views):
            view.close()
        if self._root is None:
            self._link.close()


def load_isolated(backend: Backend, source: Source, options: LoadOptions, devices: Sequence[str]) -> list[Model]:
    """Load a model in as many children as there are devices, all at the same time.

    Raises
    ------
    AccelerateError
        As the backend's load; ModelError where a child dies of it, BackendNotAvailableError where none can be started.
    """
    with ExitStack() as stack:  # closes those before a failure
        links = []
        for device in devices:
            links.append(Link(Specification(backend, source, replace(options, device=device))))
            stack.callback(links[-1].close)
            links[-1].begin()
        models: list[Model] = []
        for link in links:
            link.finish()
            models.append(IsolatedModel(link, link.described, backend.name, options))
        stack.pop_all()
    return models
