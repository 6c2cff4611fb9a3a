"""The conformance suite over triton, with tensors in shared memory and in messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
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
    "dynamic_output": ("nonzero", lambda x: {"y": np.flatnonzero(x["x"])}),
    "passthrough": ("identity_int32", _same),
    "optional": ("biased", lambda x: {"y": x["x"] + x.get("bias", np.float32(100))}),
    "labels": ("classifier", lambda x: {"scores": x["x"]}),
    "failing": ("picky", _same),
    "slow": ("slow", lambda x: {"y": x["seconds"]}),
}
_MORE: Mapping[str, Mapping[str, Any]] = {
    "labels": {"labels": ("cat", "dog", "bird")},
    "failing": {"fails_on": {"x": np.full(3, 9, np.float32)}},
}
_THE_SERVERS_WORD = "the names and shapes are the server's, which plan does not ask"


class _OverTriton(BackendConformance):
    backend = "triton"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "device: the server's CPU": {"device": "cpu"},
        "device: the server's GPU": {"device": "gpu"},
        "shared_memory: either": {"shared_memory": None},
        "shared_memory: unknown": {"shared_memory": "bogus"},
        "headers": {"headers": {"authorization": "Bearer x"}},
        "headers: a number": {"headers": 5},
        "headers: gRPC's own": {"headers": {"grpc-timeout": "1S"}},
        "ssl: without TLS": {"ssl": {"ca": "/etc/ssl/ca.pem"}},
        "ssl: empty": {"ssl": {}},
        "ssl: a number": {"ssl": 5},
        "channel_args": {"channel_args": {"grpc.max_receive_message_length": 1 << 24}},
        "channel_args: a number": {"channel_args": 5},
        "channel_args: not gRPC's": {"channel_args": {"grpc.max_receive_message_length": 1.5}},
        "parameters": {"parameters": {"who": "camera 3", "priority": 1}},
        "parameters: a number": {"parameters": 5},
        "parameters: no identifier": {"parameters": {"sequence_id": -1}},
        "url: beside a URL": {"url": "localhost:8001"},
        "source: a user in the URL": {"source": "triton://me:secret@host/model"},
        "source: a URL without a model": {"source": "triton://host"},
        "source: a version that is none": {"source": "triton://host/model/latest"},
    }
    known_when_loaded: ClassVar[Mapping[str, str]] = {
        "device: the server's GPU": "only the server knows where its models run",
        "tensor_names: an unknown input": _THE_SERVERS_WORD,
        "tensor_names: an unknown output": _THE_SERVERS_WORD,
        "normalization: of no input": _THE_SERVERS_WORD,
        "shapes: of no input": _THE_SERVERS_WORD,
        "shapes: of one input twice": _THE_SERVERS_WORD,
        "shapes: another rank": _THE_SERVERS_WORD,
        "shapes: other sizes": _THE_SERVERS_WORD,
        "shapes: without a name": _THE_SERVERS_WORD,
    }
    memory: ClassVar[str]
    transport: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _with_server(self, triton: TritonServer) -> None:  # noqa: F811
        self.server = triton

    def cases(self) -> Mapping[str, Case]:
        for name, _ in _MODELS.values():
            self.server.load(name)
        return {
            role: Case(
                f"triton://{self.server.url}/{name}", reference, {"shared_memory": self.memory}, **_MORE.get(role, {})
            )
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
