"""The .bin that belongs to the .xml of an OpenVINO model: beside it, under the same name."""

from __future__ import annotations

import logging
from pathlib import Path

from ...errors import ModelError
from .file import ModelFile

__all__ = ["weights_path"]

_log = logging.getLogger("accelerate")


def weights_path(file: ModelFile, path: Path | None) -> Path | None:
    """Return where the weights of the model in the file `path` lie; None where it has none.

    Nothing in the .xml says what its .bin is called, and nothing there would be followed.

    Raises
    ------
    ModelError
        It is missing, or shorter than the model's weights.
    """
    if path is None:
        raise ModelError(
            f"{file.where}: its weights lie in another file, the .bin", "load the model by the path of its .xml"
        )
    weights = path.with_suffix(".bin")
    try:
        size = weights.stat().st_size if weights.is_file() else None
    except OSError as error:
        raise ModelError(f"{weights} cannot be read: {error.strerror}", "check its permissions") from error
    if size is None and not file.weights_end:
        return None
    if size is None:
        raise ModelError(
            f"{file.where}: its weights are missing: there is no file {weights}",
            "copy the .bin that was written with it there, under this name",
        )
    if size < file.weights_end:
        raise ModelError(
            f"{weights} has {size} bytes, and {path.name} reads {file.weights_end} of it: it was cut short, or belongs "
            "to another model",
            "copy both files again, which were written together",
        )
    if size > file.weights_end:
        _log.warning(
            "%s has %d bytes, of which %s reads %d: it may belong to another model",
            weights, size, path.name, file.weights_end,
        )  # fmt: skip
    return weights
