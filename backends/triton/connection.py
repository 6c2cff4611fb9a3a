"""The connection to a server or a fleet: channel options, TLS, headers, and what happens to it in a forked child."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from accelerate.contract import HeldOpen, LoadOptions, suggestion
from accelerate.errors import BackendNotAvailableError, OptionError
from accelerate.formats.open_inference import library, messages

from .address import Address, Target
from .errors import timed_out, translate

__all__ = ["Connection", "Deadline", "Parameter", "Settings", "import_grpc"]

Parameter = bool | int | float | str  # what an InferParameter holds

_DEFAULTS: dict[str, int | str] = {
    # a frame is larger than gRPC's 4 MiB; what a server may send is bounded by its own memory, as with every client
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    # gRPC waits up to two minutes between two tries; a robot wants its answer as soon as the server is back
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 500,
    # no ping is sent that often (servers end connections for it): with a finite time, gRPC has the kernel give up a
    # connection whose other end has not acknowledged data for the timeout, as when the server's machine lost power
    "grpc.keepalive_time_ms": 600_000,
    "grpc.keepalive_timeout_ms": 5_000,
}
#: Calls go round the servers that are connected and, where they tell (grpc.health.v1), healthy.
_FLEET = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})
_SSL_KEYS = ("ca", "certificate", "key")
_FOREVER = 1e8  # seconds; gRPC counts nanoseconds, and takes a larger number for a time that has passed
_INT_END = 1 << 31  # gRPC's options are C ints
_INT64_END = 1 << 63
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")


def import_grpc() -> Any:
    """Import gRPC, or say how to install it."""
    try:
        return library.import_grpc()
    except ImportError as error:
        raise BackendNotAvailableError(
            f"triton needs tritonclient and grpcio: {error}", 'pip install "edge-accelerate[triton]"'
        ) from error


@dataclass(frozen=True)
class Settings:
    """The options of `load` that concern the connection, and what is sent over it."""

    shared_memory: str | None = None  # "system", "none", or None to find out
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # sent with every call
    #: "ca", "certificate" and "key": the content of these PEM files
    ssl: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    channel_args: Mapping[str, int | str] = field(default_factory=dict)  # gRPC's own options, over `_DEFAULTS`
    parameters: Mapping[str, Parameter] = field(default_factory=dict)  # of every inference request
    sequence_id: int | str | None = None  # the sequence that the calls are to belong to

    @classmethod
    def parse(cls, options: LoadOptions, address: Address) -> Settings:
        """Check the options."""
        given = options.backend_options
        memory = given.get("shared_memory")
        if memory not in (None, "system", "none"):
            raise OptionError(f"shared_memory is {memory!r:.60}; wanted 'system', 'none', or None to find out")
        if given.get("ssl") and not address.secure:
            raise OptionError(f"ssl= is for TLS, and {address} is without", "write tritons://")
        parameters = _parameters(given.get("parameters"))
        sequence_id = _identifier(parameters.pop("sequence_id", None))
        return cls(
            memory,
            tuple(_headers(given.get("headers"))),
            _certificates(given.get("ssl")),
            _arguments(given.get("channel_args")),
            parameters,
            sequence_id,
        )


def _headers(given: Any) -> Iterator[tuple[str, str]]:
    for name, value in _mapping("headers", given, "{'authorization': 'Bearer ...'}").items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name.lower()) or name.lower().endswith("-bin"):
            raise OptionError(f"headers: {name!r} is no name of a text header; wanted letters, digits, '-', '_', '.'")
        if name.lower().startswith("grpc-"):
            raise OptionError(f"headers: {name!r} is gRPC's own", "leave it out")
        # the value may be a secret: no message shows it
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise OptionError(f"headers: the value of {name!r} is no printable ASCII text")
        yield name.lower(), value


def _certificates(given: Any) -> dict[str, bytes]:
    files = {}
    for key, path in _mapping("ssl", given, "{'ca': path, 'certificate': path, 'key': path}").items():
        if key not in _SSL_KEYS:
            raise OptionError(f"ssl has no {key!r}{suggestion(str(key), _SSL_KEYS)}; known: {', '.join(_SSL_KEYS)}")
        try:
            files[key] = Path(path).read_bytes()
        except (OSError, TypeError, ValueError) as error:
            # a key that was given instead of its file is a secret
            told = f" ({error})" if isinstance(path, (str, os.PathLike)) and "-----" not in str(path) else ""
            raise OptionError(f"ssl[{key!r}] cannot be read{told}; wanted the path of a PEM file") from error
        if b"-----BEGIN" not in files[key]:
            raise OptionError(f"ssl[{key!r}] = {str(path)!r} is no PEM file (it has no '-----BEGIN' line)")
    if ("certificate" in files) != ("key" in files):
        missing = "key" if "certificate" in files else "certificate"
        raise OptionError("ssl: a client certificate needs both 'certificate' and 'key'", f"add {missing!r}")
    return files


def _arguments(given: Any) -> dict[str, int | str]:
    arguments = _mapping("channel_args", given, "{'grpc.max_receive_message_length': 1 << 20}")
    for name, value in arguments.items():
        if not _is_text(name) or not (_is_text(value) or (isinstance(value, int) and -_INT_END <= value < _INT_END)):
            raise OptionError(
                f"channel_args: {name!r}: {value!r} is no gRPC option; wanted a name with a number of 32 bits or text"
            )
    return dict(arguments)


def _parameters(given: Any) -> dict[str, Parameter]:
    parameters = _mapping("parameters", given, "{'priority': 1}")
    for name, value in parameters.items():
        if name in ("sequence_start", "sequence_end"):
            raise OptionError(
                f"parameters: {name!r} is sent when it is time: a model's first call begins a sequence, and close() or "
                "do_command({'command': 'reset'}) end it",
                "leave it out",
            )
        number = isinstance(value, float) or (isinstance(value, int) and -_INT64_END <= value < _INT64_END)
        if not _is_text(name) or not (number or _is_text(value)):
            raise OptionError(
                f"parameters: {name!r}: {value!r:.60} is none; wanted a name with text, True, False, or a number of 64 "
                "bits"
            )
    return dict(parameters)


def _identifier(given: Parameter | None) -> int | str | None:
    if isinstance(given, (bool, float)) or given == "" or (isinstance(given, int) and not 0 < given < _INT64_END):
        raise OptionError(f"parameters: sequence_id is {given!r}; wanted a whole number from 1, or text")
    return given


def _is_text(given: object) -> bool:
    try:
        return isinstance(given, str) and b"\0" not in given.encode()
    except UnicodeEncodeError:  # a part of a surrogate pair
        return False


def _mapping(option: str, given: Any, example: str) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"{option} is {type(given).__name__}; wanted a mapping such as {example}")
    return given


class Deadline:
    """A point in time, and the timeout that it came from."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._at = monotonic() + min(timeout, _FOREVER)

    def left(self, who: str) -> float:
        """Return the seconds that are left."""
        left = self._at - monotonic()
        if left <= 0:
            raise timed_out(who, self.timeout)
        return left

    def pause(self, seconds: float, who: str) -> None:
        """Sleep, though not beyond the deadline."""
        sleep(min(seconds, self.left(who)))


class Connection(HeldOpen):
    """One gRPC channel. It is closed when `close` was called and the last call in flight has ended.

    Attributes
    ----------
    server : str
        Hosts and ports, or a socket's path, for messages.
    pid : int
        The process that built it: in a forked child the threads and sockets behind it are not the child's.
    """

    def __init__(self, address: Address, target: Target, settings: Settings) -> None:
        grpc = import_grpc()
        super().__init__(f"the model {address}")
        self.address, self.target, self.settings = address, target, settings
        self.server = ", ".join(f"{host}:{port}" if port else host for host, port in address.hosts)
        self.pid = os.getpid()
        arguments: dict[str, int | str] = {**_DEFAULTS}
        if target.fleet:
            arguments["grpc.service_config"] = _FLEET
        if target.authority:
            arguments["grpc.default_authority"] = target.authority
        if target.loopback:  # the environment's proxy cannot reach this machine's own loopback
            arguments["grpc.enable_http_proxy"] = 0
        arguments.update(settings.channel_args)
        if address.secure:
            credentials = grpc.ssl_channel_credentials(*map(settings.ssl.get, ("ca", "key", "certificate")))
            self._channel = grpc.secure_channel(target.name, credentials, [*arguments.items()])
        else:
            self._channel = grpc.insecure_channel(target.name, [*arguments.items()])
        # bytes in, bytes out: the request is put together without copies of our own
        self._infer = self._channel.unary_unary(f"/{messages.SERVICE}/ModelInfer", None, None)
        self._methods: dict[str, Callable[..., Any]] = {}

    def renewed(self) -> Connection:
        """Return another connection like this one, for a forked child."""
        return Connection(self.address, self.target, self.settings)

    def infer(self, request: bytes, timeout: float | None) -> bytes:
        """Send a serialised ModelInferRequest; return the serialised answer, or raise `grpc.RpcError`.

        The caller is within `held`.
        """
        answer: bytes = self._infer(request, timeout=timeout, metadata=self.settings.headers)
        return answer

    def ask(self, method: str, request: Any, timeout: float | None) -> Any:
        """Call any other method of the service with and for protobuf messages; raises `grpc.RpcError`."""
        with self.held():
            return self._method(method)(request, timeout=timeout, metadata=self.settings.headers)

    def server_metadata(self, timeout: float) -> Any:
        """Ask the server for its name, version and extensions; a server that does not tell has none of them.

        KServe's ModelMesh is one: it passes on what concerns models, and nothing else. Raises `grpc.RpcError`.
        """
        return self.optional("ServerMetadata", messages.ServerMetadataRequest(), timeout) or (
            messages.ServerMetadataResponse()
        )

    def optional(self, method: str, request: Any, timeout: float) -> Any | None:
        """Call a method as `ask` does; None where the server does not have it."""
        import grpc

        try:
            return self.ask(method, request, timeout)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            return None

    def answer(self, method: str, request: Any, timeout: float, who: str, doing: str) -> Any:
        """Call a method as `ask` does, and raise what goes wrong as an error of ours."""
        import grpc

        try:
            return self.ask(method, request, timeout)
        except grpc.RpcError as error:
            raise translate(error, who, doing, timeout=timeout) from error

    def let_go(self) -> None:
        if self.pid == os.getpid():  # a child leaves the parent's channel alone
            self._channel.close()

    def _method(self, name: str) -> Callable[..., Any]:
        if name not in self._methods:
            answer = getattr(messages, f"{name}Response")
            self._methods[name] = self._channel.unary_unary(
                f"/{messages.SERVICE}/{name}", lambda message: message.SerializeToString(), answer.FromString
            )
        return self._methods[name]
