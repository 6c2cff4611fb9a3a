"""What `load` may be given: the bytes in an object, and the path in a text, a path-like object or a URL."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from .errors import OptionError

__all__ = ["content_of", "host_and_port", "is_file_url", "path_of"]


def content_of(given: Any) -> bytes | None:
    """Return the bytes in an object, None where it has none."""
    if isinstance(given, bytes):
        return bytes(given)
    try:
        view = memoryview(given)
    except TypeError:
        for reader in ("read", "read_bytes"):  # of a file, and of a path inside an archive
            if callable(getattr(given, reader, None)):
                return _content_of_file(given, reader)
        if callable(getattr(given, "SerializeToString", None)):
            raise OptionError(
                f"load() was given a {type(given).__name__} object; wanted the bytes of the model",
                "give what its SerializeToString() returns, or the path of the file",
            ) from None
        return None
    except (ValueError, BufferError) as error:  # an mmap that was closed
        raise OptionError(f"load() was given a {type(given).__name__} that cannot be read: {error}") from error
    if view.format.lstrip("@=<>!") not in ("B", "b", "c"):
        raise OptionError(
            f"load() was given a {type(given).__name__} with items of format {view.format!r}; wanted single bytes",
            "give the bytes of a model file, an array of them as uint8",
        )
    return view.tobytes()


def _content_of_file(file: Any, reader: str) -> bytes:
    what = f"load() was given a {type(file).__name__}"
    try:
        content = getattr(file, reader)()
    except (OSError, ValueError) as error:  # it is closed, or open for writing
        raise OptionError(f"{what} that cannot be read: {error}", "open it by open(path, 'rb')") from error
    if isinstance(content, str):
        raise OptionError(f"{what} that reads text", "open it by open(path, 'rb')")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise OptionError(
            f"{what} whose {reader}() returns a {type(content).__name__}; wanted bytes",
            "give the bytes themselves",
        )
    if not content and _position(file):
        raise OptionError(f"{what} that has been read to its end", "rewind it: file.seek(0)")
    return bytes(content)


def _position(file: Any) -> int:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return int(file.tell())
    return 0


def is_file_url(text: str) -> bool:
    """Return whether a text is a URL of a file on this machine."""
    return text[:7].lower() == "file://"


def _path_of_url(url: str) -> str:
    """Return the path of a ``file://`` URL (RFC 8089)."""
    from urllib.parse import unquote_to_bytes

    host, slash, path = url[7:].partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        raise OptionError(f"{url!r:.200} names the host {host!r:.80}", "give file:///absolute/path, or the path itself")
    return os.fsdecode(unquote_to_bytes(f"/{path}".encode(errors="surrogateescape")))


def path_of(given: str | os.PathLike[Any]) -> Path:
    """Return the path in a text, a path-like object or a ``file://`` URL.

    Raises
    ------
    OptionError
    """
    try:
        text = os.fsdecode(given)
    except TypeError as error:
        raise OptionError(f"load() was given {type(given).__name__} {given!r:.60}, whose path is no text") from error
    if is_file_url(text):
        text = _path_of_url(text)
    if not text:
        raise OptionError("load() was given an empty path; wanted the path of a model file")
    return Path(text)


def host_and_port(text: str, url: str, wanted: str) -> tuple[str, int | None]:
    """Return host and port of a part of a URL, None for a port that is not said.

    Raises
    ------
    OptionError
        It is none; the text ends with what is `wanted`.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OptionError(f"{url!r}: {text!r} is no host and port ({error}); {wanted}") from error
    if not host or "%" in host or port == 0:
        raise OptionError(f"{url!r}: {text!r} names no {'port' if port == 0 else 'host'}; {wanted}")
    return host, port
