"""The other files in which a model keeps weights, and which of them it may name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import ModelError
from .file import ModelFile

__all__ = ["external_paths"]


def external_paths(file: ModelFile, path: Path | None) -> Mapping[str, Path]:
    """Return where the other files of a model in the file `path` lie, by the names that it gives them.

    Newer runtimes check most of this, too.

    Raises
    ------
    ModelError
        One is missing, or lies outside of the model's folder.
    """
    names = file.external_files
    if not names:
        return {}
    if path is None:  # a runtime would look for them in the working folder
        raise ModelError(
            f"{file.where}: its weights lie in other files ({', '.join(names)[:200]})",
            "load the model by its path, with those files beside it",
        )
    # a runtime looks beside the path that it is given; in the cache of Hugging Face both files are links from there
    # into the folder of the model's content. Links to other places are not followed: archives can bring them, too.
    folder = path.parent
    allowed = (folder.resolve(), path.resolve().parent)
    for name in names:
        try:
            inside, there = _lies_in(folder, name, allowed), (folder / name).is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a loop of links, or a NUL
            inside, there = True, False
        if not inside:
            raise ModelError(
                f"{file.where}: its external data {name!r:.200} lies outside of the model's folder; it is not followed",
                "if you trust the model, export it again with its weights beside it",
            )
        if not there:
            raise ModelError(
                f"{file.where}: its external data {name!r:.200} is missing in {os.path.abspath(folder)}",
                "copy it there",
            )
    return {name: folder / name for name in names}


def _lies_in(folder: Path, name: str, allowed: Iterable[Path]) -> bool:
    """Tell whether a name stays in its folder as it is written, and leads to an allowed one as the system reads it."""
    if os.path.isabs(name) or Path(os.path.normpath(name)).parts[:1] == ("..",):
        return False
    target = (folder / name).resolve()
    return any(map(target.is_relative_to, allowed))
