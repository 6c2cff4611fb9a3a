"""A TFLite model, some of whose operators a delegate runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accelerate.contract import LoadOptions, Source
from accelerate.errors import AccelerateError, ClosedError, InferenceError, one_line

from ..calls import Calls
from ..engines import Engine
from ..model import TFLiteModel
from .library import DelegateLibrary
from .share import DELEGATE_NODE, Share, share_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DelegatedModel"]

_log = logging.getLogger("accelerate")


class DelegatedModel(TFLiteModel):
    """See the module. Use `open`, or `adopt` for an interpreter that has a delegate already.

    A Binding copies. Sharing would need a second interpreter with a delegate of its own, for which a driver compiles
    the model once more, for seconds or minutes, or has no memory, or no second context; and what goes to a device is
    copied on its way anyway.
    """

    def __init__(self, engine: Engine, interpreter: Any, *arguments: Any) -> None:
        self._library: DelegateLibrary | None = None  # None for an interpreter that its owner has made
        self._delegate_options: Mapping[str, str] = {}
        super().__init__(engine, interpreter, *arguments)

    @classmethod
    def open(
        cls,
        engine: Engine,
        library: DelegateLibrary,
        source: Source,
        options: LoadOptions,
        delegate_options: Mapping[str, str],
        delegate: Any,
    ) -> Self:
        """Build an interpreter with a delegate of a library; the model has been tried in a child process."""
        model = cls.build(engine, source, options, verified=True, delegates=[delegate])
        model._library, model._delegate_options = library, delegate_options
        model.runtime = replace(model.runtime, details={**model.runtime.details, "library": library.path})
        if model._share is not None:
            model._tell(model._share)
        return model

    @classmethod
    def adopt(cls, engine: Engine, source: Source, options: LoadOptions) -> Self:
        model = super().adopt(engine, source, options)
        if model._share is not None:
            model._tell(model._share)
        return model

    @classmethod
    def _share_of(cls, interpreter: Any, *, adopted: bool = False) -> Share | None:
        return share_of(interpreter)

    def _tell(self, share: Share) -> None:
        """Say which operators stay on the CPU."""
        if share.others:
            _log.warning(
                "%s: %d of %d operators run on the CPU: %s",
                self._source, len(share.others), share.total, ", ".join(dict.fromkeys(share.others)),
            )  # fmt: skip

    def delegate_failed(self, said: str) -> bool:
        """Tell whether it was the delegate that failed, and not an operator on the CPU, by what the engine has said."""
        node = re.search(r"Node number (\d+) \((\w+)\)", said)
        if node is None or self._share is None:
            return node is not None and node[2] == DELEGATE_NODE
        return int(node[1]) in self._share.nodes

    def translate(self, error: Exception) -> AccelerateError:
        if self.delegate_failed(str(error)):
            library = self.runtime.details.get("library")
            return InferenceError(f"the delegate{f' of {library}' if library else ''} failed: {one_line(error)}")
        return super().translate(error)

    def _another(self, shapes: Sequence[tuple[int, ...]]) -> Calls | None:
        return None

    def _new_delegates(self) -> Sequence[Any]:
        root = self._parent or self
        assert isinstance(root, DelegatedModel), "a signature is of its model's class"
        if root._library is None:
            raise ClosedError(f"this {self.backend} model is closed", "load it again")
        return [root._library.create(root._delegate_options)]
