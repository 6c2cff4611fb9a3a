"""The conformance suite: what every backend keeps, as tests that any backend's own test file subclasses.

::

    class TestMine(BackendConformance):
        backend = "mine"

        def cases(self):
            return {"plain": Case("double.mine", lambda x: {"y": 2 * x["x"]})}

Only "plain" is required. A test that needs a model of another kind is skipped, with that reason, where `cases` has
none. Needs the extra ``testing``.
"""

from __future__ import annotations

import pytest

_PARTS = ("arguments", "calling", "cases", "casting", "children", "deciding", "ending", "memory", "naming", "values")
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))  # a failure shows its values

from .arguments import ArgumentTests  # noqa: E402
from .calling import CallingTests  # noqa: E402
from .casting import CastingTests  # noqa: E402
from .deciding import DecidingTests  # noqa: E402
from .ending import EndingTests  # noqa: E402
from .memory import MemoryTests  # noqa: E402
from .naming import NamingTests  # noqa: E402
from .roles import ROLES, Case  # noqa: E402
from .values import ValueTests  # noqa: E402

__all__ = ["ROLES", "BackendConformance", "Case"]


class BackendConformance(
    DecidingTests, ArgumentTests, NamingTests, ValueTests, MemoryTests, CallingTests, EndingTests, CastingTests
):  # pytest runs the last one's tests first
    """Subclass it, set `backend`, and supply `cases`."""
