"""Which installed distributions do not fit together in the core's own sight; the rest its backends know."""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Conflict, Distribution, Facts

__all__ = ["find_conflicts", "find_namesakes"]

#: All of them have the package cv2: https://pypi.org/project/opencv-python ("select only one of them").
_OPENCV = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
_NAMESAKE = "accelerate"


def find_conflicts(facts: Facts) -> list[Conflict]:
    """Find packages that several distributions bring: OpenCV, and this one's own name."""
    return [*_opencv(facts), *_namesakes(facts)]


def find_namesakes(facts: Facts) -> list[Distribution]:
    """Find Hugging Face accelerate.

    In the very folder of this package it would have overwritten files; importing this package refuses that, so what is
    found here stands in another folder.
    """
    found = facts.distributions.get(_NAMESAKE)
    return [found] if found is not None else []


def _opencv(facts: Facts) -> Iterator[Conflict]:
    found = [facts.distributions[name] for name in _OPENCV if name in facts.distributions]
    for folder in dict.fromkeys(one.folder for one in found):
        names = [one.name for one in found if one.folder == folder]
        if len(names) > 1:
            yield Conflict(
                f"{' and '.join(names)} are installed together and overwrite each other's files of cv2",
                f"pip uninstall -y {' '.join(names)}, then pip install opencv-python-headless",
            )


def _namesakes(facts: Facts) -> Iterator[Conflict]:
    for found in find_namesakes(facts):
        yield Conflict(
            f"Hugging Face accelerate is installed too ({found.version} in {found.folder}): the order of sys.path "
            "decides which one a program imports",
            "use a virtual environment for each",
        )
