"""Which weights in other files a model may name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from accelerate.contract import Source
from accelerate.errors import ModelError
from accelerate.formats.onnx.file import ModelFile

__all__ = ["check_external_files"]


def check_external_files(source: Source) -> None:
    """Refuse weights outside of the model's folder; newer versions of ONNX Runtime check most of this, too."""
    names = source.opened(ModelFile).external_files
    if not names:
        return
    if source.path is None:  # ONNX Runtime would look for them in the working folder
        raise ModelError(
            f"{source}: its weights lie in other files ({', '.join(names)[:200]})",
            "load the model by its path, with those files beside it",
        )
    # ONNX Runtime looks beside the path that it is given; in the cache of Hugging Face both files are links from there
    # into the folder of the model's content. Links to other places are not followed: archives can bring them, too.
    folder = source.path.parent
    allowed = (folder.resolve(), source.path.resolve().parent)
    for name in names:
        try:
            inside, there = _lies_in(folder, name, allowed), (folder / name).is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a loop of links, or a NUL
            inside, there = True, False
        if not inside:
            raise ModelError(
                f"{source}: its external data {name!r:.200} lies outside of the model's folder; it is not followed",
                "if you trust the model, export it again with its weights beside it",
            )
        if not there:
            raise ModelError(
                f"{source}: its external data {name!r:.200} is missing in {os.path.abspath(folder)}", "copy it there"
            )


def _lies_in(folder: Path, name: str, allowed: Iterable[Path]) -> bool:
    """Tell whether a name stays in its folder as it is written, and leads to an allowed one as the system reads it."""
    if os.path.isabs(name) or Path(os.path.normpath(name)).parts[:1] == ("..",):
        return False
    target = (folder / name).resolve()
    return any(map(target.is_relative_to, allowed))
