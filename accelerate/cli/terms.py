"""What the package says to programs, in the terms of commands. Needs nothing but the standard library."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["as_options"]

_CALL = re.compile(r"\bload\(\.\.\., (?P<given>(?:[^()]|\((?:[^()]|\([^()]*\))*\))+)\)")
#: What stands in messages without a call around it; other names may be those of other functions.
_ALONE = re.compile(r"(?<![\w.(-])(?:backend|device|engine|isolation|port|url)=(?:(['\"])[\w:./-]+\1|\d+)(?![\w'\"])")
_PIECE = re.compile(r"(\w+)=(.*)", re.S)
_WORD = re.compile(r"[\w:./@%+-]+|\.\.\.")
_OWN_PLACE = {
    "backend": "--backend", "device": "--device", "label_path": "--labels", "num_threads": "--threads",
    "port": "--port", "shapes": "--shape",
}  # fmt: skip
_LEFT_OPEN = frozenset({"", "…"})


def as_options(text: str) -> str:
    """Return a message in which arguments of `load` stand as they are given to commands.

    ``load(..., backend='b', url='host:8001')`` becomes ``--backend b --option url=host:8001``.
    """
    return _ALONE.sub(lambda found: _option(found[0]) or found[0], _CALL.sub(_options, text))


def _options(call: re.Match[str]) -> str:
    options = [_option(piece) for piece in _pieces(call["given"])]
    return " ".join(options) if all(options) else call[0]


def _pieces(given: str) -> Iterator[str]:
    """Split at the commas that are in no bracket and in no quotes."""
    start, depth, quote = 0, 0, ""
    for i, letter in enumerate(given):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and not depth:
            yield given[start:i].strip()
            start = i + 1
    yield given[start:].strip()


def _option(piece: str) -> str:
    """Return ``key=value`` as an option; "" for what is none."""
    found = _PIECE.fullmatch(piece)
    if found is None:
        return ""
    key, value = found.groups()
    if key in _OWN_PLACE and value in _LEFT_OPEN:
        return _OWN_PLACE[key]
    if key == "shapes":
        return " ".join(f"--shape {name}=..." for name in re.findall(r"'([^']+)':", value)) or "--shape"
    if value in _LEFT_OPEN:
        value = "..."
    elif len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and _WORD.fullmatch(value[1:-1]):
        value = value[1:-1]
    if key in _OWN_PLACE:
        return f"{_OWN_PLACE[key]} {value}"
    return f"--option {key}={value}" if _WORD.fullmatch(value) else f'--option "{key}={value}"'
