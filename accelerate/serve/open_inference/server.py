"""The server: gRPC's own, bound to an address, with the models of its caller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from ...errors import AccelerateError, OptionError
from ...model import Model
from .address import Address
from .served import Served
from .service import MOST_CALLS, Service

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Server"]

_log = logging.getLogger("accelerate")
_LARGEST_MESSAGE = 64 << 20  # two frames of 1080p in float32
_MORE_CALLS = 16  # threads for what is no inference: whether the server lives has to be answered while all others wait
_LONGEST_NAME = 200


class Server:
    """Serves Models over gRPC. It runs from `start`, or the beginning of a with-block, until `stop`.

    Parameters
    ----------
    models : mapping of str to Model or AccelerateError
        By the names that clients use. They stay the caller's, to be closed after `stop`. An error stands for a model
        that could not be loaded: it is listed, not ready, and its calls are told the error.
    host, port : str and int
        Where to listen; port 0 takes a free one. The default is for this machine's programs alone.
    socket_path : str, optional
        A unix socket in the place of host and port, private to this user.
    certificate, key, client_ca : path, optional
        PEM files for TLS: the server's chain and key, and the authority whose certificates clients have to show.
    largest_message : int
        In bytes, of a request and of an answer.

    Attributes
    ----------
    address : str
        As clients write it: "127.0.0.1:8001", or "unix:/run/user/1000/models.sock".

    Raises
    ------
    OptionError
    ServerError
        It cannot listen there.
    UnsupportedModelError
        A model cannot be served.
    """

    def __init__(
        self,
        models: Mapping[str, Model | AccelerateError],
        *,
        host: str = "127.0.0.1",
        port: int = 8001,
        socket_path: str | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        client_ca: str | Path | None = None,
        largest_message: int = _LARGEST_MESSAGE,
    ) -> None:
        for name in models:
            if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or "/" in name:
                raise OptionError(f"{name!r:.80} is no name of a model; wanted printable text without '/'")
        self._address = Address(host, port, socket_path)
        credentials = _credentials(certificate, key, client_ca)
        self._service = Service(
            {
                name: model if isinstance(model, AccelerateError) else Served(name, model)
                for name, model in models.items()
            }
        )
        self._pool = ThreadPoolExecutor(MOST_CALLS + _MORE_CALLS, "accelerate-serve")
        self._server = grpc.server(
            self._pool,
            handlers=(self._service,),
            options=[
                ("grpc.max_receive_message_length", largest_message),
                ("grpc.max_send_message_length", largest_message),
                ("grpc.so_reuseport", 0),  # else a second server would share the port in silence
                # a client whose machine is gone is found out; its calls are then cancelled
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                # clients may ask as often whether the server is there; the default ends their connections for it
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        self._address.bind(self._server, credentials)
        self._service.peers.port = self._address.port
        self._started = False
        self._is_open = not self._address.is_local and client_ca is None
        self._secure = credentials is not None
        self._stopped = threading.Event()
        self._stopping = threading.Lock()

    @property
    def address(self) -> str:
        """Where it listens, as clients of gRPC write it."""
        return str(self._address)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._address.port

    @property
    def busy(self) -> int:
        """How many inferences run or wait, those included whose callers have left while a runtime works on them."""
        return self._service.running

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        self._started = True
        if self._is_open:
            _log.warning(
                "%s is open to the network: whoever reaches it can run the models%s",
                self._address,
                "; give the authority that clients' certificates must be of"
                if self._secure
                else " and read what others send; give certificates, or listen on 127.0.0.1",
            )
        self._service.ready = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `stop` has ended; return whether it has."""
        return self._stopped.wait(timeout)

    def stop(self, grace: float = 10.0) -> bool:
        """Take no more calls, let running ones end within so many seconds, and cancel the others.

        Returns
        -------
        bool
            Whether all calls have ended: a runtime may still be at work for one that was cancelled.
        """
        with self._stopping:
            if self._stopped.is_set():
                return not self.busy
            self._service.ready = False
            if not self._started:
                self._server.start()  # gRPC closes the sockets of no other server
                grace = 0
            # a unix socket's file goes at the beginning of this, before another server can have the path
            self._server.stop(min(grace, threading.TIMEOUT_MAX)).wait()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._service.regions.close()
            self._stopped.set()
        return not self.busy

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _credentials(
    certificate: str | Path | None, key: str | Path | None, client_ca: str | Path | None
) -> grpc.ServerCredentials | None:
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise OptionError("TLS needs both a certificate and its key", "give both, or none")
    chain, private = _pem("certificate", certificate), _pem("key", key)
    authority = None if client_ca is None else _pem("client_ca", client_ca)
    return grpc.ssl_server_credentials([(private, chain)], authority, require_client_auth=authority is not None)


def _pem(name: str, path: str | Path) -> bytes:
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise OptionError(
            f"the {name} {str(path)!r} cannot be read ({error}); wanted the path of a PEM file"
        ) from error
    if b"-----BEGIN" not in content:
        raise OptionError(f"the {name} {str(path)!r} is no PEM file (it has no '-----BEGIN' line)")
    return content
