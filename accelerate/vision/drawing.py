"""Draws results on a picture, for a look at them: boxes, masks, points and classes. Needs Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from ..image.frames import as_frame
from .results import Classifications, Detections, Poses, Segmentation

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["draw"]

_Color = tuple[int, int, int]
_Place = tuple[float, float, float, float]
#: Of a picture's side (the root of its area): what a line is wide, and a letter high.
_LINE, _LETTER = 1 / 320, 1 / 42
_SMALLEST_LINE, _SMALLEST_LETTER, _UNREADABLE = 2, 12, 8
_LONGEST = 40  # of a label, in letters
_HIDDEN = 0.3  # of a box that lies under a tag: more counts
_VEIL = 0.45  # how much of a mask's colour hides the picture
_SEEN = 0.3  # least score of a point that is drawn
_LEAST_SHARE = 0.001  # of a class that the legend names
_BODY = 17
#: Between which of COCO's 17 points a body has limbs: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
    (13, 15), (12, 14), (14, 16),
)  # fmt: skip
_NOTHING = frozenset({"background", "unlabeled", "unlabelled", "void", "__background__"})


def draw(picture: Any, results: Classifications | Detections | Poses | Segmentation) -> Image:
    """Draw results on a copy of the picture that they were found in.

    Lines and letters go by the picture's size; a class has the same colour in every picture.

    Parameters
    ----------
    picture : numpy.ndarray, PIL.Image.Image, str, os.PathLike, bytes
        The frame that the task was given: uint8 RGB (height, width, 3) or grey, a Pillow image, a path or what is in a
        file.
    results : Classifications, Detections, Poses or Segmentation
        Slices of them, too: ``detections[:3]``.

    Returns
    -------
    PIL.Image.Image
        RGB, of the picture's size.

    Raises
    ------
    OptionError
        Pillow is not installed, or the results are of another type.
    TensorError
        The picture cannot be used, or a mask has another size.
    """
    way = next((way for kind, way in _WAYS.items() if isinstance(results, kind)), None)
    if way is None:
        raise OptionError(
            f"draw was given {type(results).__name__} {results!r:.60}; wanted what a task returned: "
            f"{', '.join(kind.__name__ for kind in _WAYS)}"
        )
    try:
        import PIL  # noqa: F401 - for the message
    except ImportError as error:
        remedy = 'pip install "edge-accelerate[cli]"'
        raise OptionError("drawing needs Pillow, which is not installed", remedy) from error
    pixels, color = as_frame(picture, "RGB")
    pixels = pixels.repeat(3, axis=2) if color == "GRAY" else pixels[..., ::-1] if color == "BGR" else pixels
    drawn = _Drawing(pixels.copy())
    way(drawn, results)
    return drawn.image


def _draw_classes(drawn: _Drawing, found: Classifications) -> None:
    drawn.legend((f"{one.score:.2f} {_said(one.label, one.index)}", _color(one.index)) for one in found)


def _draw_objects(drawn: _Drawing, found: Detections) -> None:
    for one in reversed(found):  # the best on top
        if one.draw_mask is not None:
            drawn.veil(one.draw_mask(), _color(one.index))
    for one in reversed(found):
        if one.corners is not None:
            drawn.outline(one.corners.tolist(), _color(one.index))
        else:
            xmin, ymin, xmax, ymax = one.box
            drawn.outline([(xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax)], _color(one.index))
        if one.keypoints is not None:
            drawn.body(one.keypoints, _color(one.index))
    boxes = [one.box for one in found]
    for one in found:
        # beside a slanted box, not in the corner of the upright one
        beside = one.box if one.corners is None else _highest(one.corners)
        drawn.tag(f"{_said(one.label, one.index)} {one.score:.2f}", _color(one.index), beside, boxes)


def _draw_poses(drawn: _Drawing, found: Poses) -> None:
    ranked = list(enumerate(found))  # a body has no class: its place gives it a colour of its own
    for rank, one in reversed(ranked):
        drawn.body(one.keypoints, _color(rank))
    for rank, one in ranked:
        seen = one.keypoints[_sure(one.keypoints)]
        drawn.tag(f"{one.score:.2f}", _color(rank), _highest(seen) if len(seen) else one.box, ())


def _draw_mask(drawn: _Drawing, found: Segmentation) -> None:
    legend = []
    numbers, counts = np.unique(found.mask, return_counts=True)
    for index, count in sorted(zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda one: -one[1]):
        named = index < len(found.labels) and bool(found.labels[index])
        if index == found.UNSEEN or found.label(index).lower() in _NOTHING or (index == 0 and not named):
            continue
        drawn.veil(found.mask == index, _color(index))
        share = count / found.mask.size
        if share >= _LEAST_SHARE:
            legend.append((f"{_said(found.label(index), index)} {share:.1%}", _color(index)))
    drawn.legend(legend)


_WAYS: dict[type, Any] = {
    Classifications: _draw_classes,
    Detections: _draw_objects,
    Poses: _draw_poses,
    Segmentation: _draw_mask,
}


class _Drawing:
    """A picture that is drawn on: first veils, then lines, then tags, which lie on top."""

    def __init__(self, pixels: Array) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]
        side = sqrt(self.height * self.width)
        self._line = max(_SMALLEST_LINE, round(side * _LINE))
        self._letter = max(_SMALLEST_LETTER, round(side * _LETTER))
        self._taken: list[_Place] = []
        self._fonts: dict[int, FreeTypeFont | ImageFont] = {}

    @cached_property
    def image(self) -> Image:
        """The picture, from when on veils would come too late."""
        from PIL import Image

        return Image.fromarray(self._pixels)

    @cached_property
    def _pen(self) -> ImageDraw:
        from PIL import ImageDraw

        return ImageDraw.Draw(self.image)

    def veil(self, mask: Array, color: _Color) -> None:
        """Tint the pixels of a mask, bool (height, width)."""
        if mask.shape != (self.height, self.width):
            raise TensorError(
                f"a mask is {list(mask.shape)}, and the picture {[self.height, self.width]}",
                "give the picture that these results are of",
            )
        under = self._pixels[mask].astype(np.float32)
        self._pixels[mask] = (under + (np.array(color, np.float32) - under) * _VEIL).astype(np.uint8)

    def outline(self, corners: Sequence[Sequence[float]], color: _Color) -> None:
        """Draw a closed line, with a thin dark one around it, which shows it on ground of its own colour."""
        points = [self._near(x, y) for x, y in corners]
        points += points[:2]  # once around and over the first corner, so that it is as round as the others
        self._pen.line(points, (0, 0, 0), self._line + 2 * self._edge, joint="curve")
        self._pen.line(points, color, self._line, joint="curve")

    def body(self, points: Array, color: _Color) -> None:
        """Draw points (K, 3) of x, y and a score, and the limbs of a body between them."""
        seen = [
            self._near(x, y) if score >= _SEEN and np.isfinite((x, y)).all() else None
            for x, y, score in points.tolist()
        ]
        for width, tone in ((self._line + 2 * self._edge, (0, 0, 0)), (self._line, color)):
            for one, other in _LIMBS if len(seen) == _BODY else ():
                if (start := seen[one]) is not None and (end := seen[other]) is not None:
                    self._pen.line([start, end], tone, width)
        radius = 1.5 * self._line
        for point in seen:
            if point is not None:
                x, y = point
                around = (x - radius, y - radius, x + radius, y + radius)
                self._pen.ellipse(around, color, (0, 0, 0), self._edge)

    def tag(self, text: str, color: _Color, box: Sequence[float], boxes: Iterable[Sequence[float]]) -> None:
        """Write text on a filled ground beside a box, where it hides the least: no other tag, then no small object."""
        text, font, width, height = self._measured(text)
        xmin, ymin = self._near(*box[:2])
        xmax, ymax = self._near(*box[2:])
        half = self._line // 2 + self._edge
        left, right = xmin - half, xmax + half + 1 - width
        around = (ymin - half - height, ymax + half + 1)
        spots = [(x, y) for y in around for x in (left, right)]
        spots += [(x, (ymin + ymax - height) / 2) for x in (xmax + half + 1, xmin - half - width)]
        spots += [(x, y) for y in (ymin - half, around[1] - height) for x in (left, right)]
        places = [self._inside(x, y, width, height) for x, y in spots]

        def hides(place: _Place) -> tuple[float, int]:
            return sum(_shared(place, one) for one in self._taken), sum(_shared(one, place) > _HIDDEN for one in boxes)

        boxes = list(boxes)
        self._write(text, font, min(places, key=hides), color)

    def legend(self, lines: Iterable[tuple[str, _Color]]) -> None:
        """Write lines, each on a ground of its colour, in the upper left corner, as far as the picture reaches."""
        margin = y = min(self._letter // 3, self.height // 8)
        for text, color in lines:
            text, font, width, height = self._measured(text)
            if y > margin and y + height > self.height:
                return
            self._write(text, font, self._inside(margin, y, width, height), color)
            y += height + self._edge

    @property
    def _edge(self) -> int:
        return max(1, self._line // 4)

    def _near(self, x: float, y: float) -> tuple[float, float]:
        """Return a point within the picture, or right outside: what a model says may lie anywhere."""
        beyond = 2 * self._line
        return min(max(x, -beyond), self.width + beyond), min(max(y, -beyond), self.height + beyond)

    def _measured(self, text: str) -> tuple[str, FreeTypeFont | ImageFont, int, int]:
        """Return text that is no wider than the picture, its font, and the size of its ground."""
        size = self._letter
        font = self._font(size)
        wide = font.getlength(text) + 2 * self._padding(size)
        if wide > self.width:  # smaller first, for the end of a text may tell the most
            size = max(_UNREADABLE, int(size * self.width / wide))
            font = self._font(size)
        cut = text
        while len(cut) > 1 and font.getlength(cut) + 2 * self._padding(size) > self.width:
            text = text[:-1]
            cut = f"{text}…"
        return cut, font, round(font.getlength(cut)) + 2 * self._padding(size), size + 2 * self._padding(size)

    def _font(self, size: int) -> FreeTypeFont | ImageFont:
        from PIL import ImageFont

        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size=size)
        return self._fonts[size]

    @staticmethod
    def _padding(size: int) -> int:
        return max(1, size // 6)

    def _inside(self, x: float, y: float, width: int, height: int) -> _Place:
        left, top = (max(0, min(round(at), side - own)) for at, side, own in
                     ((x, self.width, width), (y, self.height, height)))  # fmt: skip
        return left, top, left + width, top + height

    def _write(self, text: str, font: FreeTypeFont | ImageFont, place: _Place, color: _Color) -> None:
        left, top, right, bottom = place
        self._taken.append(place)
        self._pen.rectangle((left, top, right - 1, bottom - 1), color)
        # by the middle of what letters have in common, not of this text's: else lines without a "g" would jump
        self._pen.text(((left + right) / 2, (top + bottom) / 2), text, _ink(color), font, anchor="mm")


def _sure(points: Array) -> Array:
    sure: Array = (points[:, 2] >= _SEEN) & np.isfinite(points[:, :2]).all(axis=1)
    return sure


def _highest(points: Array) -> _Place:
    """Return a box without a width from the highest of some points down to the lowest one's height."""
    x, y = points[points[:, 1].argmin(), :2].tolist()
    return x, y, x, float(points[:, 1].max())


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    """Return which share of one box lies in another."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    area = (one[2] - one[0]) * (one[3] - one[1])
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0


def _color(index: int) -> _Color:
    """Return the colour of a class: hues by the golden ratio, which keeps neighbours far apart, in three tones."""
    from colorsys import hsv_to_rgb

    saturation, value = ((0.8, 1.0), (1.0, 0.8), (0.5, 1.0))[index // 8 % 3]
    red, green, blue = hsv_to_rgb((0.33 + index * 0.618034) % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _ink(ground: _Color) -> _Color:
    red, green, blue = ground
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)


def _said(label: str, index: int) -> str:
    """Return a label on one line, without what cannot be drawn; a number in its place is marked as one."""
    if label == str(index):
        return f"#{index}"
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(label.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
