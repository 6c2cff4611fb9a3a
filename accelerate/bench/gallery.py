"""The inputs on which rows differ the most, as the page shows them: a small picture each, and both answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AccelerateError
from ..image import read_picture
from ..inputs.files import is_picture
from . import report_text as say
from .report_inputs import told, worst

__all__ = ["STYLE", "gallery"]

_SIDE = 200  # pixels of a small picture's longer side
_MOST = 24  # on a page: a megabyte at the worst
_MOST_BYTES = 40_000  # of one picture; noise that is larger is not shown

STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 14px; margin-top: 8px; }
.gallery figure { margin: 0; font-size: 13px; }
.gallery svg { max-height: 200px; background: var(--page); border-radius: 6px; }
.gallery .none { display: flex; align-items: center; justify-content: center; height: 120px; color: var(--soft);
  background: var(--page); border-radius: 6px; }
.gallery dl { display: block; margin: 4px 0 0; } .gallery dt { font-size: 12px; }
.box { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.box.reference { stroke: var(--c0); } .box.answer { stroke: var(--c1); stroke-dasharray: 5 3; }
"""


class _Thumbnail(NamedTuple):
    url: str
    width: int  # of the whole picture
    height: int


def gallery(rows: Sequence[say.Row]) -> str:
    """Return the section of rows that were measured, "" where they answer alike."""
    found = list(worst(rows))
    # those of rows that differ first, and of each row its worst
    ranks = {id(one): n for row in rows for n, (_, one) in enumerate(worst([row]))}
    found.sort(key=lambda one: (one[0]["on_inputs"]["agrees"], ranks[id(one[1])], -one[1]["off"]))
    if not found:
        return ""
    thumbnail = cache(_thumbnail)
    cards = "".join(_card(row, one, rows, thumbnail(one["path"])) for row, one in found[:_MOST])
    left = f" Of {len(found)} the first {_MOST}; --json has all." if len(found) > _MOST else ""
    boxes = any("box" in one for _, each in found for one in (*each["reference"], *each["answer"]))
    key = (
        '<div class="key"><span style="--c: var(--c0)"><i></i>the reference</span>'
        '<span style="--c: var(--c1)"><i></i>the row (dashed)</span></div>'
        if boxes
        else ""
    )
    return (
        '<section><h2>Where answers differ the most</h2><p class="soft">Up to five inputs of each row, by how much the '
        f"answer is off.{left}</p>{key}"
        f'<div class="gallery">{cards}</div></section>'
    )


def _card(row: say.Row, one: Mapping[str, Any], rows: Sequence[say.Row], picture: _Thumbnail | None) -> str:
    label = "" if one["label"] is None else f"<dt>label</dt><dd>{escape(one['label'])}</dd>"
    shown = '<div class="none">no picture</div>' if picture is None else _drawn(picture, one)
    off = "no number" if one["off"] > _HUGE else f"{one['off']:.0%}"
    return (
        f"<figure>{shown}<figcaption><b>{escape(one['name'])}</b> off by {off}<dl>{label}"
        f"<dt>reference</dt><dd>{escape(told(one['reference']))}</dd>"
        f"<dt>{escape(say.name(row, rows))}</dt><dd>{escape(told(one['answer']))}</dd></dl></figcaption></figure>"
    )


_HUGE = 1e6


def _drawn(picture: _Thumbnail, one: Mapping[str, Any]) -> str:
    boxes = "".join(
        f'<rect class="box {style}" x="{x0:.1f}" y="{y0:.1f}" width="{max(0.0, x1 - x0):.1f}" '
        f'height="{max(0.0, y1 - y0):.1f}"><title>{escape(found["label"])} {found["score"]:.2f}</title></rect>'
        for style in ("reference", "answer")
        for found in one[style]
        if "box" in found
        for x0, y0, x1, y1 in (found["box"],)
    )
    return (
        f'<svg viewBox="0 0 {picture.width} {picture.height}" role="img" aria-label="{escape(one["name"])}">'
        f'<image href="{picture.url}" width="{picture.width}" height="{picture.height}"/>{boxes}</svg>'
    )


def _thumbnail(path: str) -> _Thumbnail | None:
    """Return a picture made small, None for what is none, or is gone."""
    try:
        from PIL import Image

        if not is_picture(Path(path)):
            return None
        picture = Image.fromarray(read_picture(path)).convert("RGB")
    except (ImportError, AccelerateError):
        return None
    width, height = picture.size
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=75)
    if content.tell() > _MOST_BYTES:
        return None
    return _Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}", width, height)
