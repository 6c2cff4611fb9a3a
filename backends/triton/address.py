"""What a URL such as ``triton://host:8001/model/3`` names, and the target that gRPC makes of it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from accelerate.contract import host_and_port, without_secrets
from accelerate.errors import OptionError, ServerError

__all__ = ["SCHEMES", "Address", "Target", "server_address"]

SCHEMES = ("triton", "tritons")
_DEFAULT_PORT = 8001  # Triton's own for gRPC
_WANTED = "wanted triton://host:8001/model[/version], or tritons:// for TLS"
_SOCKET_WANTED = "wanted one absolute path with each '/' as %2F: triton://%2Frun%2Fmodels.sock/model"

_log = logging.getLogger("accelerate")


@dataclass(frozen=True)
class Target:
    """Where a channel connects to."""

    name: str  # gRPC's own notation (github.com/grpc/grpc/blob/master/doc/naming.md)
    fleet: bool  # whether several servers answer, so that two calls may meet different ones
    loopback: bool  # whether it can only be this machine
    authority: str = ""  # the host name that a server's certificate must carry; "" where gRPC finds it by itself


@dataclass(frozen=True)
class Address:
    """A model on one or more servers."""

    #: host name or IP address (IPv6 without brackets) and gRPC port; or the path of a unix socket and 0, alone
    hosts: tuple[tuple[str, int], ...]
    model: str
    version: str  # "" where the server chooses
    secure: bool  # TLS

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL."""
        scheme, _, rest = url.partition("://")
        if scheme.lower() not in SCHEMES:
            raise OptionError(f"{without_secrets(url)!r} does not begin with triton://; {_WANTED}")
        authority, _, path = rest.partition("/")
        if "@" in rest:  # wherever it stands: a password may have a "/" in it
            raise OptionError(
                f"{without_secrets(url)!r} carries a user",
                "give what proves who you are as load(..., headers={'authorization': 'Bearer ...'}) or ssl={...}, and "
                "write %40 in a model's name",
            )
        if any(mark in rest for mark in "?#"):
            raise OptionError(
                f"{without_secrets(url)!r} has a '?' or '#'; {_WANTED}", "give options as arguments of load()"
            )
        parts = [unquote(part) for part in path.rstrip("/").split("/")]
        if len(parts) > 2 or not parts[0]:
            raise OptionError(f"{url!r} names {'no model' if not parts[0] else 'more than a version'}; {_WANTED}")
        version = parts[1] if len(parts) == 2 else ""
        if version and not (version.isascii() and version.isdigit()):
            raise OptionError(f"{url!r}: version {version!r} is no whole number; {_WANTED}")
        return cls(_hosts(authority, url), parts[0], version, scheme.lower() == "tritons")

    def __str__(self) -> str:
        hosts = ",".join(_joined(host, port) for host, port in self.hosts)
        return f"{SCHEMES[self.secure]}://{hosts}/{self.model}{'/' + self.version if self.version else ''}"

    def target(self) -> Target:
        """Look the hosts up.

        gRPC resolves one name by itself and again whenever a connection breaks; of several names only their addresses
        at this moment can be handed to it.
        """
        if len(self.hosts) == 1:
            host, port = self.hosts[0]
            if host.startswith("/"):
                return Target(f"unix:{quote(host)}", fleet=False, loopback=True)
            found = _addresses(host, port)
            if not found:
                raise ServerError(f"{self}: there is no host {host!r}", "check the name and this machine's DNS")
            here = _loopback(found)
            # "localhost" has an IPv4 and an IPv6 address, and is one server all the same
            return Target(f"dns:///{_joined(host, port)}", fleet=len(found) > 1 and not here, loopback=here)
        every: list[tuple[str, int]] = []
        missing = []
        for host, port in self.hosts:
            found = _addresses(host, port)
            every += ((ip, port) for ip in found)
            if not found:
                missing.append(host)
        if not every:
            raise ServerError(
                f"{self}: there is none of the hosts {', '.join(missing)}", "check the names and this machine's DNS"
            )
        if missing:
            _log.warning("%s: there is no host %s; the others are used", self, ", ".join(missing))
        here = _loopback([ip for ip, _ in every])
        return Target(_numeric(list(dict.fromkeys(every))), fleet=True, loopback=here, authority=self.hosts[0][0])


def _hosts(authority: str, url: str) -> tuple[tuple[str, int], ...]:
    if "%2f" in authority.lower():  # a path, as libpq has it
        return (_socket(authority, url),)
    return tuple(_host(one.strip(), url) for one in authority.split(","))


def _host(text: str, url: str) -> tuple[str, int]:
    host, port = host_and_port(text, url, _WANTED)
    return host, _DEFAULT_PORT if port is None else port


def _socket(text: str, url: str) -> tuple[str, int]:
    path = unquote(text)
    if not path.startswith("/") or "\0" in path or "," in text:
        raise OptionError(f"{without_secrets(url)!r} names no unix socket; {_SOCKET_WANTED}")
    return path, 0


def _joined(host: str, port: int) -> str:
    if host.startswith("/"):
        return quote(host, safe="")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that is empty or too long
        return []
    # the part after "%" names the network interface of a link-local address, which is none of ipaddress's business
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _loopback(ips: list[str]) -> bool:
    return all(ipaddress.ip_address(ip).is_loopback for ip in ips)


def _numeric(every: list[tuple[str, int]]) -> str:
    """Write IP addresses as one target, which can hold one family only: a mixture goes as IPv6 (RFC 4291, 2.5.5.2)."""
    if all(":" not in ip for ip, _ in every):
        return "ipv4:" + ",".join(f"{ip}:{port}" for ip, port in every)
    mapped = ((ip if ":" in ip else f"::ffff:{ip}", port) for ip, port in every)
    return "ipv6:" + ",".join(_joined(ip, port) for ip, port in mapped)


def server_address(given: object) -> Address:
    """Return the server to ship a model file to; its `model` is ""."""
    if not isinstance(given, str):
        raise OptionError(
            f"url is {without_secrets(given)}; wanted the server to ship the model file to, such as 'host:8001'"
        )
    scheme, found, rest = given.rpartition("://")
    if not found:
        scheme = SCHEMES[0]
    if scheme.lower() not in SCHEMES or not {"?", "#"}.isdisjoint(rest) or "/" in rest.rstrip("/"):
        raise OptionError(
            f"url is {without_secrets(given)!r}; wanted a server without a model, such as 'host:8001' or "
            "'tritons://host:8001'",
            "give the server only: the file is the model",
        )
    address = Address.parse(f"{scheme}://{rest.rstrip('/')}/-")
    if len(address.hosts) > 1:
        raise OptionError(
            f"url is {without_secrets(given)!r}, and a model file is shipped to one server",
            "load it once for each",
        )
    return replace(address, model="")
