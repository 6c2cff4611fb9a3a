"""The conformance suite over viam, against a server of Viam's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from viam_server import MODELS, ViamServer

pytestmark = pytest.mark.slow

_ROLES = {
    "plain": "plain",
    "several": "plain",
    "image": "mean",
    "dynamic": "dynamic",
    "integers": "same_int32",
    "batched": "batched",
    "dynamic_output": "nonzero",
    "passthrough": "same_int32",
    "failing": "picky",
    "slow": "slow",
}
_MORE: Mapping[str, Mapping[str, Any]] = {
    "failing": {"fails_on": {"x": np.full(3, 9, np.float32)}},
    "image": {"rtol": 1e-5},
}
_THE_SERVICES_WORD = "the names and shapes are the service's, which plan does not ask"
_KEY = "01234567-89ab-cdef-0123-456789abcdef"


class TestViam(BackendConformance):
    backend = "viam"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "api_key: without its ID": {"api_key": "secret"},
        "api_key_id: without its key": {"api_key_id": _KEY},
        "api_key_id: no UUID": {"api_key": "secret", "api_key_id": "mine"},
        "api_key: a number": {"api_key": 5, "api_key_id": _KEY},
        "api_key: two lines": {"api_key": "a\nb", "api_key_id": _KEY},
        "service: beside a URL": {"service": "plain"},
        "source: a user in the URL": {"source": "viam://me:secret@host/service"},
        "source: a URL without a service": {"source": "viam://host"},
        "source: a URL with two": {"source": "viam://host/service/3"},
        "source: a URL with a query": {"source": "viam://host/service?key=secret"},
        "source: no port": {"source": "viam://host:0/service"},
        "source: no number for a port": {"source": "viam://host:http/service"},
    }
    known_when_loaded: ClassVar[Mapping[str, str]] = {
        "tensor_names: an unknown input": _THE_SERVICES_WORD,
        "tensor_names: an unknown output": _THE_SERVICES_WORD,
        "normalization: of no input": _THE_SERVICES_WORD,
        "shapes: of no input": _THE_SERVICES_WORD,
        "shapes: of one input twice": _THE_SERVICES_WORD,
        "shapes: another rank": _THE_SERVICES_WORD,
        "shapes: other sizes": _THE_SERVICES_WORD,
        "shapes: without a name": _THE_SERVICES_WORD,
    }

    @pytest.fixture(autouse=True)
    def _with_server(self, viam_server: ViamServer, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        from grpclib.client import Channel
        from viam.services.mlmodel import MLModelClient

        async def connect() -> Any:
            return MLModelClient("plain", Channel("127.0.0.1", viam_server.port))

        async def close() -> None:
            self.client.channel.close()

        self.server = viam_server
        self.client = asyncio.run_coroutine_threadsafe(connect(), loop).result(10)
        yield
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)

    def cases(self) -> Mapping[str, Case]:
        cases = {
            role: Case(self.server.url(name), MODELS[name][0], **_MORE.get(role, {})) for role, name in _ROLES.items()
        }
        cases["slow"] = Case(self.server.url("slow"), lambda x: {"y": x["x"]})
        return {**cases, "existing": Case(self.client, MODELS["plain"][0])}


del BackendConformance  # pytest collects what a module holds
