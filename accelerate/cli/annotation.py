"""Where ``edge-accelerate run --out`` writes the annotated pictures, and how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..calls.conversion import Array
from ..errors import OptionError
from ..vision.drawing import draw

__all__ = ["destinations", "write_annotated"]

#: What keeps letters sharp in formats that lose something.
_SHARP: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "PNG": {"compress_level": 3},  # twice as fast as 6, and hardly larger
}


def destinations(out: Path, pictures: Sequence[Path]) -> list[Path]:
    """Return where each picture goes: one to `out` itself, unless that is a folder; several into it, by their names.

    Nothing is written before all is known to have a place of its own.

    Raises
    ------
    OptionError
        Two would be one file, one would take an input's place, or no format goes by this name.
    """
    folder = len(pictures) > 1 or out.is_dir()
    if folder and out.exists() and not out.is_dir():
        raise OptionError(f"--out {out} is a file, and there are {len(pictures)} pictures", "give a folder's name")
    found: dict[Path, Path] = {}
    for picture in pictures:
        target = out / picture.name if folder else out
        if not _format_of(target):
            if not folder:
                raise OptionError(
                    f"--out {out} does not end as the name of a picture does", "give a name such as annotated.png"
                )
            target = target.with_name(f"{target.name}.png")
        if target in found:
            raise OptionError(
                f"{found[target]} and {picture} would both be written to {target}", "run them one after the other"
            )
        if any(target.exists() and target.samefile(one) for one in pictures):
            raise OptionError(f"--out would overwrite the input {target}", "give another name, or another folder")
        found[target] = picture
    if folder:
        out.mkdir(parents=True, exist_ok=True)
    return list(found)


def write_annotated(picture: Array, results: Any, target: Path) -> None:
    """Draw results on a picture, and write it."""
    form = _format_of(target)
    try:
        draw(picture, results).save(target, format=form, **_SHARP.get(form, {}))
    except ValueError as error:  # such as a WebP of more than 16,383 pixels
        raise OptionError(
            f"{target} cannot be written as {form}: {error}", "give a name that ends with .png"
        ) from error


def _format_of(target: Path) -> str:
    """Return the picture format that a file's name asks for, "" for none that can be written."""
    from PIL import Image

    form = Image.registered_extensions().get(target.suffix.lower(), "")
    return form if form in Image.SAVE and form != "PDF" else ""
