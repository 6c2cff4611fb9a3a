"""Where a server listens, and why it cannot."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from ...errors import OptionError, ServerError

__all__ = ["Address"]

_LONGEST_PATH = 107  # bytes; what a unix socket's address has room for, without its end
_REASONS = {
    errno.EADDRINUSE: (
        "another program listens there",
        "stop it, or take another port: port=8002, or port=0 for a free one",
    ),
    errno.EACCES: ("this user may not", "take a port from 1024"),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "give one that `ip address` lists, or 0.0.0.0 for all"),
}
# as of "localhost" where IPv6 is switched off
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Address:
    """A host and a port, or the path of a unix socket.

    Raises
    ------
    OptionError
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8001, socket_path: str | None = None) -> None:
        self.host, self.port, self.path = host, port, None if socket_path is None else os.path.abspath(socket_path)
        if self.path is not None and len(os.fsencode(self.path)) > _LONGEST_PATH:
            raise OptionError(
                f"the path of a unix socket has {len(os.fsencode(self.path))} bytes, and may have {_LONGEST_PATH}: "
                f"{self.path}",
                "take a shorter one, such as $XDG_RUNTIME_DIR/accelerate.sock",
            )
        if not host or not 0 <= port < 1 << 16:
            raise OptionError(f"there is no port {port} of the host {host!r}; wanted a name or address, and 0 to 65535")

    def __str__(self) -> str:
        """Return it as clients of gRPC write it."""
        if self.path is not None:
            return f"unix:{quote(self.path)}"  # gRPC takes %41 for an A
        return _written(self.host, self.port)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def bind(self, server: Any, credentials: Any | None) -> None:
        """Have a grpc.Server listen here, at each address that the host has; port 0 becomes the one that it was given.

        Raises
        ------
        ServerError
            It cannot, and why.
        """
        if self.path is not None:
            _check_path(self.path)
            with _private():
                if not _added(server, str(self), credentials):
                    raise self._refused(_why_no_socket(self.path), credentials)
            return
        for host in self._hosts():  # of a name with two addresses, gRPC is content with one
            port = _added(server, _written(host, self.port), credentials)
            if not port:
                raise self._refused(None, credentials)
            self.port = port

    def _hosts(self) -> list[str]:
        """Return the host's addresses that this machine has, once the system has let us bind all of them."""
        hosts: list[str] = []
        absent: OSError | None = None
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:
            raise ServerError(
                f"the server cannot listen at {self}: there is no host {self.host!r}", "give an address of this machine"
            ) from error
        for family, _, _, _, place in found:
            try:
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(place)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise self._refused(error, None) from error
                absent = error
            else:
                hosts.append(socket.getnameinfo(place, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0])
        if not hosts:
            raise self._refused(absent, None)
        return list(dict.fromkeys(hosts))

    def _refused(self, error: OSError | None, credentials: Any | None) -> ServerError:
        """Say why gRPC cannot listen here, which it does not: the system does, asked for the same."""
        if error is not None:
            said = _REASONS.get(error.errno or 0, (error.strerror or str(error), "take another host, port or path"))
        elif credentials is not None:
            said = ("the certificate, its key and the clients' authority are no files for TLS", "check what is in them")
        else:
            said = ("gRPC does not tell why", "take another host, port or path")
        return ServerError(f"the server cannot listen at {self}: {said[0]}", said[1])


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _added(server: Any, place: str, credentials: Any | None) -> int:
    """Have a grpc.Server listen at a place; return the port, 1 for a socket's path, 0 where it cannot."""
    try:
        port: int = (
            server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
        )
    except RuntimeError:
        return 0
    return port


def _why_no_socket(path: str) -> OSError | None:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
        os.unlink(path)
    except OSError as error:
        return error
    return None


def _check_path(path: str) -> None:
    """Refuse a path at which something else is: gRPC would take the place of a server that is alive."""
    why = ""
    try:
        if stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            why = "another program listens there"
        else:
            why = "a file is there, which is no socket"
    except (FileNotFoundError, ConnectionRefusedError):  # nothing, or what a server that is dead has left
        return
    except OSError as error:
        why = error.strerror or str(error)
    raise ServerError(f"the server cannot listen at {path}: {why}", "stop what is there, or take another path")


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Have the file of a socket made so that only this user can open it."""
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)
