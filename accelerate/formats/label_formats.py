"""Label files that are more than lines: JSON, Python literals, label maps, YAML, class maps; and what is none.

A label map is TensorFlow's Object Detection API's (``StringIntLabelMap`` of its string_int_label_map.proto, as text):
numbers begin at 1 there. YAML is a data set's description as Ultralytics write it, with ``names``. A class map is a CSV
file with a header, such as AudioSet's (index, mid, display_name).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import ModelError
from .exporters import TEXT_LIMIT, is_index, label_text, literal, names_by_index

__all__ = ["structured"]

_YAML_LIMIT = 256 << 10  # PyYAML takes a second for it
_TAKEN = (
    "give a text file with one label a line, or with index and name on each; a JSON list or mapping, a label map "
    "(item { id: 1 name: 'x' }), YAML with `names` and a CSV class map are read, too"
)
_LABEL_MAP = re.compile(r"item\s*:?\s*[{<]")
_YAML_KEY = re.compile(r"---|%YAML|[A-Za-z_][\w-]*\s*:(\s|$)")
_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | [{}<>:;,] | [^\s{}<>:;,"'#]+""", re.VERBOSE
)
#: "[PAD]", "{cat}": a label.
_IN_BRACKETS = re.compile(r"[\[{][^\[\]{}:,\"']*[\]}]")
_TAG = re.compile(r"<(html|head|body|svg|rss|annotation|labels?|classes|root)\b", re.IGNORECASE)
_INDEX_COLUMNS, _NAME_COLUMNS = ("index", "id"), ("display_name", "name", "label")


def structured(data: bytes, lines: Sequence[str], where: str) -> tuple[dict[int, str], bool] | None:
    """Return the names by number in a file of such a format, and whether its numbers begin at 1.

    None for a file of plain lines. `lines` are without surrounding blanks.

    Raises
    ------
    ModelError
        The file evidently is of another format, or damaged, or needs a package that is missing.
    """
    first = next(filter(None, lines), "")
    head = " ".join(line for line in lines[:50] if line and not line.startswith("#"))[:1000]
    columns = [column.strip(' "').lower() for column in first[:1000].split(",")]
    read: Any = None
    if first.startswith(("{", "[")) and not (len(lines) > 1 and _IN_BRACKETS.fullmatch(first)):
        read = _literal
    elif _LABEL_MAP.match(head):
        read = _label_map
    elif _YAML_KEY.match(head) and (head.startswith(("---", "%")) or any(map(_names_key, lines))):
        read = _yaml
    elif not (set(_INDEX_COLUMNS).isdisjoint(columns) or set(_NAME_COLUMNS).isdisjoint(columns)):
        read = _class_map
    elif not (_is_markup(first, lines) or any("\0" in line for line in lines)):
        return None
    if len(data) > TEXT_LIMIT:
        raise ModelError(f"{where}: it begins with {first!r:.60}, and such a label file may have 1 MiB", _TAKEN)
    names = read and read(data.decode("utf-8-sig"), where)
    if not names:
        raise ModelError(f"{where}: it has no names of classes in a form that is read; it begins with {first!r:.60}",
                         _TAKEN)  # fmt: skip
    return names, read is _label_map


def _names_key(line: str) -> bool:
    return line.startswith("names") and line[5:].lstrip().startswith(":")


def _is_markup(first: str, lines: Sequence[str]) -> bool:
    return first.startswith(("<?", "<!")) or (_TAG.match(first) is not None and any("</" in line for line in lines))


def _literal(text: str, _: str) -> dict[int, str] | None:
    value = literal(text.strip())
    return names_by_index(value["names"] if isinstance(value, dict) and "names" in value else value)


def _label_map(text: str, _: str) -> dict[int, str] | None:
    names: dict[int, str] = {}
    item: dict[str, str] = {}
    key, depth = "", 0
    for token in _TOKEN.findall(text):
        if token in (":", ";", ",") or token.startswith("#"):
            continue
        if token in ("{", "<"):
            depth, key = depth + 1, ""
        elif token in ("}", ">"):
            depth -= 1
            if depth == 0:
                if not is_index(item.get("id")):
                    return None
                names[int(item["id"])] = item.get("display_name") or item.get("name", "")
                item = {}
        elif depth == 1 and key:
            item[key], key = _unquoted(token), ""
        elif depth == 1:
            key = token
    return names if depth == 0 and any(names.values()) else None


def _unquoted(token: str) -> str:
    if token[0] not in "\"'":
        return token
    text = token[1:-1]
    if "\\" in token:
        with suppress(ValueError, SyntaxError):  # octal escapes are bytes, here as in Python's literals of these
            plain = "".join(chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in token.encode())
            text = ast.literal_eval(f"b{plain}").decode()
    return label_text(text)


def _yaml(text: str, where: str) -> dict[int, str] | None:
    if len(text) > _YAML_LIMIT:
        raise ModelError(f"{where}: as YAML it may have {_YAML_LIMIT >> 10} KiB, and it has more", _TAKEN)
    try:
        import yaml
    except ImportError as error:
        remedy = "pip install PyYAML, or write the names one a line"
        raise ModelError(f"{where}: it is YAML, which needs PyYAML", remedy) from error
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)  # all texts: "no" is a label, and nothing else is built
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return names_by_index(value.get("names")) if isinstance(value, dict) else None


def _class_map(text: str, _: str) -> dict[int, str] | None:
    import csv

    try:
        header, *rows = (row for row in csv.reader(text.splitlines()) if row)
    except csv.Error:
        return None
    columns = [column.strip().lower() for column in header]
    index, name = (next(columns.index(c) for c in known if c in columns) for known in (_INDEX_COLUMNS, _NAME_COLUMNS))
    if not all(len(row) == len(columns) and is_index(row[index].strip()) for row in rows):
        return None
    return {int(row[index]): row[name].strip() for row in rows}
