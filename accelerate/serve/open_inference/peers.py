"""Who may share memory with the server: programs of the server's own user on this machine.

A caller over a unix socket has been able to open the socket's file, which is private to the server's user. One over the
loopback device may be anybody here; the kernel tells whose its socket is, as long as the connection is open.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import sys
from time import monotonic
from urllib.parse import unquote

import grpc

from .refusals import RefusalError

__all__ = ["Peers"]

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LOCAL, _REMOTE, _STATE, _UID = 1, 2, 3, 7  # columns of these tables (proc_net_tcp in the kernel's documentation)
_ESTABLISHED = "01"
_TCP = re.compile(r"ipv[46]:(?:\[(?P<six>[^\]]+)\]|(?P<four>[\d.]+)):(?P<port>\d+)")
_KNOWN_FOR = 1.0  # seconds: another program may have the port of a connection that has ended
_MOST_KNOWN = 256
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peers:
    """Tells by its address whether a caller may share memory; any thread may ask.

    Attributes
    ----------
    port : int
        The server's, 0 where it has none.
    """

    def __init__(self) -> None:
        self.port = 0
        self._known: dict[str, float] = {}  # callers that may, and until when this holds

    def check(self, peer: str) -> None:
        """Refuse a caller, named as gRPC does it, that may not share memory.

        Raises
        ------
        RefusalError
        """
        if peer.startswith("unix:"):
            return
        now = monotonic()
        if self._known.get(peer, 0.0) > now:
            return
        if why := _why_not(unquote(peer), self.port):
            raise RefusalError(grpc.StatusCode.PERMISSION_DENIED, f"no memory is shared with {unquote(peer)}: {why}")
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[peer] = now + _KNOWN_FOR


def _why_not(peer: str, port: int) -> str:
    found = _TCP.fullmatch(peer)
    if found is None:
        return "it is no program on this machine"
    address = _plain(ipaddress.ip_address((found["six"] or found["four"]).partition("%")[0]))
    if not address.is_loopback:
        return "it is no program on this machine; tensors travel in messages"
    users = _users(address, int(found["port"]), port)
    if users == set():  # the kernel may leave out a row while others come and go
        users = _users(address, int(found["port"]), port)
    if users is None:  # no table can be read: being on this machine has to do
        return ""
    if not users:
        return "its connection is no longer open"
    return "" if users == {os.geteuid()} else f"it is a program of another user than the server's ({os.geteuid()})"


def _users(address: _Address, local: int, remote: int) -> set[int] | None:
    """Return whose socket is connected from an address and port to a port here; None where no table can be read.

    A socket that one side has closed does not count: the kernel says 0 for whose it was.
    """
    users: set[int] = set()
    readable = False
    for table in _TABLES:
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            next(lines, None)  # the heading
            readable = True
            for columns in map(str.split, lines):
                host, _, from_port = columns[_LOCAL].partition(":")
                to_port = columns[_REMOTE].partition(":")[2]
                if (int(from_port, 16), int(to_port, 16)) != (local, remote) or columns[_STATE] != _ESTABLISHED:
                    continue
                if _address(host) == address:
                    users.add(int(columns[_UID]))
    return users if readable else None


def _address(host: str) -> _Address:
    """Return an address of the tables: words of 4 bytes in the machine's order."""
    words = [int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8)]
    return _plain(ipaddress.ip_address(b"".join(words)))


def _plain(address: _Address) -> _Address:
    return getattr(address, "ipv4_mapped", None) or address
