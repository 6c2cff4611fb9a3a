"""Begins the description that stands beside a model, with all that is known of it."""

from __future__ import annotations

from typing import Any

from ..calls.pixels import pixel_normalization
from ..errors import OptionError
from ..metadata import Metadata
from .choosing import task_for

__all__ = ["describe"]


def describe(metadata: Metadata) -> dict[str, Any]:
    """Return what a description file may say of a model, as far as anybody knows it (see `formats.beside`).

    What only an answer's values tell is left out, to be filled in by hand.

    Raises
    ------
    OptionError
        The model takes no picture.
    """
    said: dict[str, Any] = {"edge-accelerate": 1}
    if metadata.labels:
        said["labels"] = list(metadata.labels)
    try:
        task = task_for(metadata)
    except OptionError:
        if not metadata.takes_pictures:
            raise
        return said
    prepared = task.preparation
    if (n := pixel_normalization(prepared.info)) is not None:  # not one that is the metadata's, and not followed
        said["normalization"] = [one[0] if len(one) == 1 else list(one) for one in (n.mean, n.std)]
    said |= {"color": prepared.info.color or "RGB", "resize": prepared.resize}
    if prepared.resize != "stretch":
        said["anchor"] = prepared.anchor
    if prepared.resize == "letterbox":
        said["fill"] = prepared.fill
    if said["color"] not in ("RGB", "BGR"):
        del said["color"]
    if task.layout is not None:
        said["layout"] = task.layout.as_description()
    return said
