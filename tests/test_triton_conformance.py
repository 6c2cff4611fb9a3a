"""The conformance suite over triton, with tensors in shared memory and in messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from triton_server import TritonServer, triton  # noqa: F401 - the fixture

from accelerate.calls.conversion import Array
from accelerate.testing import BackendConformance, Case

pytest.importorskip("tritonclient.grpc")


def _same(x: dict[str, Array]) -> dict[str, Array]:
    return {"y": x["x"]}


def _double(x: dict[str, Array]) -> dict[str, Array]:
    return {"y": x["x"] + x["x"]}


_MODELS: Mapping[str, tuple[str, Callable[[dict[str, Array]], dict[str, Array]]]] = {
    "plain": ("add", lambda x: {"y": x["a"] + x["b"]}),
    "several": ("add", lambda x: {"y": x["a"] + x["b"]}),
    "image": ("sink_f32", lambda x: {"y": x["x"].ravel()[:4]}),
    "dynamic": ("dynamic", _double),
    "integers": ("identity_int32", _same),
    "strings": ("identity_bytes", _same),
    "batched": ("double_float32", _double),
    "slow": ("slow", lambda x: {"y": x["seconds"]}),
}


class _OverTriton(BackendConformance):
    backend = "triton"
    memory: ClassVar[str]
    transport: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _with_server(self, triton: TritonServer) -> None:  # noqa: F811
        self.server = triton

    def cases(self) -> Mapping[str, Case]:
        for name, _ in _MODELS.values():
            self.server.load(name)
        return {
            role: Case(f"triton://{self.server.url}/{name}", reference, {"shared_memory": self.memory})
            for role, (name, reference) in _MODELS.items()
        }

    def test_travels_as_it_was_told(self, opened: Any) -> None:
        model, _ = opened("plain")
        assert model.runtime.details["transport"] == self.transport


class TestSharedMemory(_OverTriton):
    memory, transport = "system", "system-shared-memory"


class TestMessages(_OverTriton):
    memory, transport = "none", "message"


del _OverTriton, BackendConformance  # pytest collects what a module holds
