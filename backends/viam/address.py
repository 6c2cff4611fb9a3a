"""What a URL such as ``viam://host:8080/service`` names, and who asks."""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from accelerate.contract import host_and_port, without_secrets
from accelerate.errors import OptionError

__all__ = ["Address", "Credentials"]

_DEFAULT_PORT = 8080  # viam-server's own
_WANTED = "wanted viam://host:8080/service"
_VARIABLES = {"api_key": "VIAM_API_KEY", "api_key_id": "VIAM_API_KEY_ID"}  # Viam's names for them


@dataclass(frozen=True)
class Address:
    """An ML model service of a machine."""

    host: str  # or an IP address, IPv6 without brackets
    given_port: int | None
    service: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises
        ------
        OptionError
        """
        shown, (scheme, _, rest) = without_secrets(url), url.partition("://")
        if scheme.lower() != "viam":
            raise OptionError(f"{shown!r} does not begin with viam://; {_WANTED}")
        if "@" in rest:
            raise OptionError(f"{shown!r} carries a user", "give load(..., api_key=, api_key_id=)")
        if any(mark in rest for mark in "?#"):
            raise OptionError(f"{shown!r} has a '?' or '#'; {_WANTED}", "give options as arguments of load()")
        authority, _, path = rest.partition("/")
        service = unquote(path.rstrip("/"))
        if not service or "/" in service:
            raise OptionError(f"{url!r} names {'more than a' if service else 'no'} service; {_WANTED}")
        host, port = host_and_port(authority, url, _WANTED)
        return cls(host, port, service)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.given_port is None else f":{self.given_port}"
        return f"viam://{host}{port}/{self.service}"

    @property
    def port(self) -> int:
        """The port of a direct connection."""
        return _DEFAULT_PORT if self.given_port is None else self.given_port

    @property
    def is_local(self) -> bool:
        """Whether it can only be this machine."""
        ip = self._ip
        return self.host == "localhost" or (ip is not None and ip.is_loopback)

    @property
    def is_numeric(self) -> bool:
        """Whether there is no name by which Viam's signaling would know the machine."""
        return self.host == "localhost" or self._ip is not None

    @property
    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True)
class Credentials:
    """An API key of a machine."""

    api_key: str = field(repr=False)
    api_key_id: str = field(repr=False)
    #: from the environment: viam-server puts a key there for every module, whatever the module connects to
    ambient: bool = False

    @classmethod
    def find(cls, options: Mapping[str, Any]) -> Credentials | None:
        """Return what the options say, else the environment; None where neither does.

        Raises
        ------
        OptionError
            There is one half of a key, or something that is none. No message shows it.
        """
        given: dict[str, Any] = {name: options.get(name) for name in _VARIABLES}
        ambient = not any(value is not None for value in given.values())
        if ambient:
            given = {name: os.environ.get(variable) or None for name, variable in _VARIABLES.items()}
        called = _VARIABLES if ambient else {name: name for name in _VARIABLES}
        if missing := [name for name, value in given.items() if value is None]:
            if len(missing) == 2:
                return None
            (there,) = given.keys() - missing
            raise OptionError(f"{called[there]} is given without {called[missing[0]]}", "give both, or neither")
        for name, value in given.items():
            if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
                raise OptionError(f"{called[name]} is no text of printable ASCII characters")
        try:
            uuid.UUID(given["api_key_id"])
        except ValueError:
            raise OptionError(
                f"{called['api_key_id']} is no UUID; wanted the key's ID, such as 01234567-89ab-cdef-0123-456789abcdef",
                "both are shown by the machine's page in the Viam app, under 'API keys'",
            ) from None
        return cls(given["api_key"], given["api_key_id"], ambient)
