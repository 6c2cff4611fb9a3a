"""The packed file of a score calibration: a sigmoid for each class.

Its form is that of tensorflow/tflite-support (``score_calibration.proto`` and ``metadata_schema.fbs``,
TENSOR_AXIS_SCORE_CALIBRATION): a line for each class, "scale,slope,offset" and perhaps the least score that it is for;
an empty line for a class without one.
"""

from __future__ import annotations

from math import isfinite, nan

from ...errors import ModelError

__all__ = ["read_calibration"]

_LINES = 500_000


def read_calibration(data: bytes, where: str) -> tuple[tuple[float, float, float, float] | None, ...]:
    """Return (scale, slope, offset, least score) of each class, None for one without; a least score may be NaN.

    Raises
    ------
    ModelError
        It is of another form, called `where`.
    """
    try:
        lines = data.decode().splitlines()[:_LINES]
    except UnicodeDecodeError as error:
        raise ModelError(f"{where} is no UTF-8 text") from error
    return tuple(_sigmoid(line, f"{where}, line {number}") for number, line in enumerate(lines, 1))


def _sigmoid(line: str, where: str) -> tuple[float, float, float, float] | None:
    if not line.strip():
        return None
    try:
        numbers = [float(part) for part in line.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 4) or not all(map(isfinite, numbers)) or numbers[0] < 0:
        raise ModelError(f"{where} is {line[:40]!r}; wanted scale,slope,offset and perhaps a least score")
    scale, slope, offset, *least = numbers
    return scale, slope, offset, least[0] if least else nan
