"""The conformance suite over models of which the same one stands by: what holds for one holds for a failover."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import engines
import pytest
import test_conformance_tflite

from accelerate.testing import BackendConformance, Case

pytestmark = pytest.mark.long

#: State is refused, and so are other signatures of one interpreter.
_LEFT_OUT = ("existing", "stateful", "signatures")

if "litert" in engines.INSTALLED:

    class TestLiteRT(BackendConformance):
        backend = "tflite_cpu"

        @functools.cached_property
        def _cases(self) -> Mapping[str, Case]:
            cases = test_conformance_tflite._cases("litert")
            entry = {"backend": "tflite_cpu", "engine": "litert"}
            return {
                role: replace(case, options={**case.options, "failover": [entry]})
                for role, case in cases.items()
                if role not in _LEFT_OUT
            }

        def cases(self) -> Mapping[str, Case]:
            return self._cases

        # looks into the replicas, which are each model's here
        test_replicas_answer_like_one: Any = None
        # a thread that keeps deadlines is there, and has to say so
        test_says_when_an_abandoned_call_has_ended: Any = None
        # it is the first model's alone: the other one answers
        test_unknown_device_is_an_error: Any = None


del BackendConformance  # pytest collects what a module holds
