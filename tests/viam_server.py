"""A server of Viam's own SDK with ML model services over small models: ``python tests/viam_server.py PORT [FOLDER]``.

With a folder that holds a certificate it wants TLS and a key. Real models run in LiteRT; what no file of a model here
can do (fail, take long, describe nothing) is Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ROOT

from accelerate.contract import Array

if TYPE_CHECKING:
    from typing_extensions import Self

Arrays = dict[str, Array]
Function = Callable[[Arrays], Arrays]
DIGITS = ROOT / "accelerate" / "data" / "digits_float.tflite"


def tensor(name: str, dtype: str, *shape: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": dtype, "shape": shape, **more}


def _double(x: Arrays) -> Arrays:
    return {"y": x["x"] + x["x"]}


def _same(x: Arrays) -> Arrays:
    return {"y": x["x"]}


def _picky(x: Arrays) -> Arrays:
    if x["x"].max() > 1:
        raise ValueError("boom: it is larger than 1")
    return {"y": x["x"]}


def _slow(x: Arrays) -> Arrays:
    time.sleep(0.3)
    return {"y": x["x"]}


_cancelled = 0


def _count(_: Arrays) -> Arrays:
    return {"y": np.array([_cancelled])}


@functools.cache
def _interpreter() -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(DIGITS), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def digits(x: Arrays) -> Arrays:
    interpreter = _interpreter()
    (image,) = x.values()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return {"scores": interpreter.get_tensor(interpreter.get_output_details()[0]["index"])}


_F = ("float32", 2, 3)
_MOST_TYPES = ("float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
#: name -> the function, and what its metadata says of inputs and outputs
MODELS: dict[str, tuple[Function, Sequence[dict[str, Any]], Sequence[dict[str, Any]]]] = {
    "plain": (lambda x: {"y": x["a"] + x["b"]}, [tensor("a", *_F), tensor("b", *_F)], [tensor("y", *_F)]),
    "batched": (_double, [tensor("x", "float32", 1, 4)], [tensor("y", "float32", 1, 4)]),
    "dynamic": (_double, [tensor("x", "float32", -1, 3)], [tensor("y", "float32", -1, 3)]),
    "nonzero": (
        lambda x: {"y": np.flatnonzero(x["x"] > 0)},
        [tensor("x", "float32", 6)],
        [tensor("y", "int64", -1)],
    ),
    "picky": (_picky, [tensor("x", "float32", 3)], [tensor("y", "float32", 3)]),
    "slow": (_slow, [tensor("x", "float32", 3)], [tensor("y", "float32", 3)]),
    "cancelled": (_count, [tensor("x", "float32", 1)], [tensor("y", "int64", 1)]),
    "digits": (digits, [tensor("image", "float32", 1, 8, 8, 1)], [tensor("scores", "float32", 1, 10)]),
    "mean": (
        lambda x: {"y": x["image"].mean((1, 2))},
        [tensor("image", "float32", 1, 8, 8, 3)],
        [tensor("y", "float32", 1, 3)],
    ),
    **{f"same_{t}": (_same, [tensor("x", t, 2, 3)], [tensor("y", t, 2, 3)]) for t in ("float32", *_MOST_TYPES)},
    # services that say little, or what is not so
    "silent": (lambda x: {"b": x["tensor"] * 2, "a": x["tensor"][0]}, [tensor("", "uint8", 1, 2)], [tensor("", "")]),
    "typeless": (_same, [tensor("x", "int16", 3)], [tensor("y", "", 3)]),
    "unknown_type": (_same, [tensor("x", "", 3)], [tensor("y", "float32", 3)]),
    "doubled": (_same, [tensor("x", "float32", 3)], [tensor("y", "float32", 3), tensor("y", "float32", 3)]),
    "liar": (lambda x: {"z": x["x"]}, [tensor("x", "float32", 3)], [tensor("y", "float32", 3)]),
    "talker": (lambda x: {"y": x["x"], "z": x["x"]}, [tensor("x", "float32", 3)], [tensor("y", "float64", 3)]),
    "empty": (lambda x: {"y": x["x"][:0]}, [tensor("x", "float32", 3)], [tensor("y", "float32", -1)]),
    "shapeless": (_same, [tensor("x", "float32", 3)], [tensor("y", "float32")]),
    "nothing": (_same, [], []),
    "words": (_same, [tensor("x", "string", 3)], [tensor("y", "float32", 3)]),
    "twins": (_same, [tensor("x", "float32", 3), tensor("x", "float32", 3)], [tensor("y", "float32", 3)]),
    "impossible": (_same, [tensor("x", "float32", -5)], [tensor("y", "float32", 3)]),
}


def services(described: Mapping[str, Mapping[str, Any]] | None = None) -> list[Any]:
    """Return an MLModel of the SDK for each model; `described` has more fields for the Metadata of some."""
    from viam.proto.service.mlmodel import Metadata, TensorInfo
    from viam.services.mlmodel import MLModel

    class Service(MLModel):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.function, self.inputs, self.outputs = MODELS[name]

        async def infer(self, input_tensors: Any, *, extra: Any = None, timeout: float | None = None, **_: Any) -> Any:
            try:
                if self.function is _slow:  # which can be cancelled, other than a thread
                    await asyncio.sleep(0.3)
                    return {"y": input_tensors["x"]}
                return await asyncio.get_running_loop().run_in_executor(None, self.function, input_tensors)
            except asyncio.CancelledError:
                global _cancelled
                _cancelled += 1
                raise

        async def metadata(self, *, extra: Any = None, timeout: float | None = None, **_: Any) -> Any:
            return Metadata(
                **{"name": self.name, **(described or {}).get(self.name, {})},
                input_info=[TensorInfo(**info) for info in self.inputs],
                output_info=[TensorInfo(**info) for info in self.outputs],
            )

    return [Service(name) for name in MODELS]


KEY_ID, KEY = "01234567-89ab-cdef-0123-456789abcdef", "right"


async def serve(port: int) -> None:
    from viam.rpc.server import Server

    server = Server(services())
    await server._server.start("127.0.0.1", port)
    print("ready", flush=True)
    await server._server.wait_closed()


async def serve_guarded(port: int, folder: Path) -> None:
    """Serve with TLS, to those who have `KEY` and have got a token for it, as a machine of the Viam app does."""
    from grpclib import GRPCError, Status
    from grpclib.events import RecvRequest, listen
    from grpclib.server import Server
    from viam.proto.rpc.auth import AuthenticateResponse, AuthServiceBase
    from viam.resource.manager import ResourceManager
    from viam.services.mlmodel.service import MLModelRPCService

    class Auth(AuthServiceBase):
        async def Authenticate(self, stream: Any) -> None:
            request = await stream.recv_message()
            if (request.entity, request.credentials.type, request.credentials.payload) != (KEY_ID, "api-key", KEY):
                raise GRPCError(Status.UNAUTHENTICATED, "invalid credentials")
            await stream.send_message(AuthenticateResponse(access_token="token"))

    async def check(event: RecvRequest) -> None:
        if "Authenticate" not in event.method_name and event.metadata.get("authorization") != "Bearer token":
            raise GRPCError(Status.UNAUTHENTICATED, "no token")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2"])
    server = Server([Auth(), MLModelRPCService(ResourceManager(services()))])
    listen(server, RecvRequest, check)
    await server.start("127.0.0.1", port, ssl=context)
    print("ready", flush=True)
    await server.wait_closed()


def make_certificate(folder: Path) -> None:
    """Write cert.pem and key.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


class ViamServer:
    """The server in a process of its own, on a loopback port that it keeps when it is started again."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None

    def url(self, service: str) -> str:
        return f"viam://127.0.0.1:{self.port}/{service}"

    def start(self) -> Self:
        assert self._process is None, "the server is running"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                return self
            said.append(line)
        self.kill()
        raise RuntimeError(f"the server has not started:\n{''.join(said)[-4000:]}")

    def kill(self) -> None:
        """SIGKILL. The server can be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        given_port = int(sys.argv[1])
        asyncio.run(serve_guarded(given_port, Path(sys.argv[2])) if sys.argv[2:] else serve(given_port))
