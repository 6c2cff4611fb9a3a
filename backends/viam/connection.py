"""The way to one ML model service: a channel of our own, or of an existing object of the SDK. Any thread may use it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

from accelerate.contract import HeldOpen
from accelerate.errors import AccelerateError, ClosedError, OptionError, ServerError

from .address import Address, Credentials
from .errors import TIMEOUTS, timed_out, translate
from .loop import keep, own_loop, submit
from .sdk import import_sdk

__all__ = ["Connection", "borrowed", "dialed"]

_FOREVER = 9e7  # seconds; gRPC writes a timeout with eight digits
_GRACE = 1.0  # seconds that a loop may be late before its caller leaves by itself


class Connection(HeldOpen):
    """Calls of one service. Its channel is closed when `close` was called and the last call in flight has ended.

    Attributes
    ----------
    who : str
        The service, as a URL, for messages.
    pid : int
        The process that made it.
    """

    def __init__(self, who: str, service: str) -> None:
        super().__init__(f"the model {who}")
        self.who, self.service = who, service
        self.pid = os.getpid()
        self._metadata: dict[str, str] | None = None  # of every call

    def infer(self, tensors: bytes, timeout: float) -> bytes:
        """Send a serialised FlatTensors; return that of the answer."""
        from viam.proto.service.mlmodel import InferRequest

        request = InferRequest(name=self.service)
        request.input_tensors.MergeFromString(tensors)
        answer: bytes = self._call("Infer", request, timeout).output_tensors.SerializeToString()
        return answer

    def metadata(self, timeout: float) -> Any:
        """Ask for the service's metadata."""
        from viam.proto.service.mlmodel import MetadataRequest

        return self._call("Metadata", MetadataRequest(name=self.service), timeout, loading=True).metadata

    def renewed(self) -> Connection:
        """Return a connection like this one, for a forked child."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Close the channel now (on its loop)."""

    def _loop(self) -> asyncio.AbstractEventLoop:
        raise NotImplementedError

    async def _channel(self) -> Any:
        """Return the channel, connected or about to be (on its loop)."""
        raise NotImplementedError

    def _forget(self, error: BaseException) -> None:
        """Note that a call has failed."""

    def let_go(self) -> None:
        """Close the channel."""

    def _call(self, method: str, request: Any, timeout: float, *, loading: bool = False) -> Any:
        if timeout <= 0:
            raise timed_out(self.who, timeout)
        with self.held():
            future = submit(lambda: self._ask(method, request, min(timeout, _FOREVER)), self._running_loop())
            try:
                return future.result(min(timeout + _GRACE, threading.TIMEOUT_MAX))
            except AccelerateError:
                raise
            except Exception as error:
                future.cancel()
                self._forget(error)
                raise translate(error, self.who, loading=loading, timeout=timeout) from error
            except BaseException:  # Ctrl-C
                future.cancel()
                raise

    async def _ask(self, method: str, request: Any, timeout: float) -> Any:
        from viam.proto.service.mlmodel import MLModelServiceStub

        async def ask() -> Any:
            stub = MLModelServiceStub(await self._channel())
            return await getattr(stub, method)(request, timeout=timeout, metadata=self._metadata)

        return await asyncio.wait_for(ask(), timeout)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:
                raise OptionError(
                    f"{self.who}: this call would wait for the very event loop that carries it",
                    "await model.infer_async(...), and asyncio.to_thread(...) for load() and the others",
                )
        if not loop.is_running():
            raise ServerError(
                f"{self.who}: the event loop that the existing object belongs to is not running",
                "keep it running, in another thread than the callers', or give load() a viam:// URL",
            )
        return loop


class _Dialed(Connection):
    """A channel of our own, on the backend's loop. grpclib connects it anew where the connection has broken."""

    def __init__(self, address: Address, credentials: Credentials | None) -> None:
        super().__init__(str(address), address.service)
        self._address, self._credentials = address, credentials
        self._open: Any = None  # a grpclib Channel, or the SDK's ViamChannel where it has proved who we are
        self._dialing = asyncio.Lock()
        keep(self)

    def renewed(self) -> Connection:
        return _Dialed(self._address, self._credentials)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return own_loop()

    async def _channel(self) -> Any:
        async with self._dialing:
            if self._open is None:
                self._open = await self._dial()
            return getattr(self._open, "channel", self._open)

    async def _dial(self) -> Any:
        from grpclib.client import Channel

        address, credentials = self._address, self._credentials
        if credentials is None:
            return Channel(address.host, address.port)
        if address.is_numeric:  # the SDK would wait for it without asyncio, and leave open what has refused the key
            return await self._dial_with_key(credentials)
        from viam.rpc.dial import DialOptions, dial

        options = DialOptions.with_api_key(credentials.api_key, credentials.api_key_id)
        options.initial_connection_attempts = 1
        return await dial(str(address).removeprefix("viam://").partition("/")[0], options)

    async def _dial_with_key(self, credentials: Credentials) -> Any:
        import ssl

        from grpclib.client import Channel
        from viam.proto.rpc.auth import AuthenticateRequest, AuthServiceStub
        from viam.proto.rpc.auth import Credentials as TheirCredentials

        address = self._address
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if address.is_local:  # nobody can be between, and no certificate is this machine's own
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        channel = Channel(address.host, address.port, ssl=context)
        key = TheirCredentials(type="api-key", payload=credentials.api_key)
        try:
            request = AuthenticateRequest(entity=credentials.api_key_id, credentials=key)
            answer = await AuthServiceStub(channel).Authenticate(request)
        except BaseException as error:
            channel.close()
            plain = isinstance(error, (ssl.SSLError, ConnectionResetError))
            if not plain or isinstance(error, ssl.SSLCertVerificationError):
                raise
            if credentials.ambient and address.is_local:  # nobody has given a key for this connection
                return Channel(address.host, address.port)
            raise ServerError(
                f"{self.who}: there is no TLS, and the API key would be sent in the clear",
                "give no api_key where the machine wants none; else the port that has TLS",
            ) from error
        self._metadata = {"authorization": f"Bearer {answer.access_token}"}
        return channel

    def _forget(self, error: BaseException) -> None:
        status = getattr(getattr(error, "status", None), "name", None)
        if self._credentials is None or isinstance(error, TIMEOUTS) or status not in (None, "UNAUTHENTICATED"):
            return
        with suppress(RuntimeError):  # a token may be out of date, and the SDK's own proxy be gone: dial again
            submit(self.shut, self._loop())

    def let_go(self) -> None:
        if self.pid == os.getpid():  # a child leaves the parent's channel alone
            with suppress(RuntimeError):  # the program is ending
                submit(self.shut, self._loop())

    async def shut(self) -> None:
        channel, self._open = self._open, None
        if channel is not None:
            channel.close()


class _Borrowed(Connection):
    """The channel of an existing object, on the loop that it was made on; it stays its owner's."""

    def __init__(self, given: Any, service: str) -> None:
        super().__init__(f"the service {service!r} by the existing {type(given).__name__}", service)
        self._given = given

    def renewed(self) -> Connection:
        return _Lost(self.who, self.service)

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._current()._loop  # grpclib has no public name for it
        return loop

    async def _channel(self) -> Any:
        return self._current()

    def _current(self) -> Any:
        # a RobotClient that has lost its machine dials again and has another channel then
        given = self._given
        if given is None:  # closed, while a call that nobody waits for any more had not begun
            raise ClosedError(f"{self.who} was closed", "load it again")
        return getattr(given, "_channel", None) or getattr(given, "channel", None) or given

    def let_go(self) -> None:
        self._given = None


class _Lost(Connection):
    """What a forked child has of an object whose loop runs in its parent."""

    def renewed(self) -> Connection:
        return self

    def _loop(self) -> asyncio.AbstractEventLoop:
        raise ClosedError(f"{self.who} belongs to the process that this one was forked off", "connect anew here")


def dialed(address: Address, credentials: Credentials | None) -> Connection:
    """Return a connection that is opened by its first call."""
    import_sdk()
    return _Dialed(address, credentials)


def borrowed(given: Any, service: str) -> Connection:
    """Return a connection over a RobotClient, ViamChannel, Channel or MLModelClient."""
    import_sdk()
    return _Borrowed(given, service)
