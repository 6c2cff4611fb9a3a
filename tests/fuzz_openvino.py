"""Loads and runs damaged models by OpenVINO in this process: ``python tests/fuzz_openvino.py KIND FIRST COUNT``.

KIND is "tflite", "onnx", "xml" (an .xml beside its sound .bin) or "bin" (a .bin beside its sound .xml). Run by
test_fuzz_openvino.py as a child, since a crash would take the test run with it.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
sys.path.insert(0, str(Path(__file__).parent))

import odd_models
import odd_onnx
from mutation import count_outcomes, mutant, outcome
from openvino_models import written

import accelerate

_DATA = Path(accelerate.__file__).parent / "data"
TFLITE: list[Callable[[], bytes]] = [
    (_DATA / "digits_float.tflite").read_bytes,
    (_DATA / "digits_uint8.tflite").read_bytes,
    odd_models.dynamic,
    odd_models.two_inputs,
    odd_models.dynamic_output,
    odd_models.passed_through,
]
ONNX: list[Callable[[], bytes]] = [
    (_DATA / "digits.onnx").read_bytes,
    odd_onnx.convolution,
    odd_onnx.reversed_strings,
    odd_onnx.pointwise,
    odd_onnx.nonzero,
]


def pairs(folder: Path) -> list[tuple[bytes, bytes]]:
    """Return the .xml and the .bin of some models."""
    sources = [(_DATA / "digits_uint8.tflite").read_bytes(), *(make() for make in ONNX)]
    paths = [written(source, folder / f"{number}.xml") for number, source in enumerate(sources)]
    return [(path.read_bytes(), path.with_suffix(".bin").read_bytes()) for path in paths]


def mutant_xml(seed: int, xml: bytes) -> bytes:
    """Change some numbers or words of an .xml, or take out or repeat some of its lines; one in five is damaged blindly.

    Most blind changes leave no XML.
    """
    choose = random.Random(seed)
    if choose.random() < 0.2:
        return mutant(seed, [lambda: xml])
    for _ in range(choose.choice([1, 1, 2, 4])):
        kind = choose.randrange(3)
        if kind == 0:
            lines = xml.splitlines(keepends=True)
            at = choose.randrange(len(lines))
            lines[at] = choose.choice([b"", lines[at] * 2, choose.choice(lines)])
            xml = b"".join(lines)
        else:
            words = list(re.finditer(rb"\d+" if kind == 1 else rb'"[^"]*"', xml))
            found = choose.choice(words)
            numbers = (b"0", b"1", b"2", b"7", b"-1", b"65536", b"2147483648", b"18446744073709551615", b"x", b"")
            other = choose.choice(numbers) if kind == 1 else choose.choice(words)[0]
            xml = xml[: found.start()] + other + xml[found.end() :]
    return xml


def main(kind: str, first: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        count_outcomes(first, count, kind, _trial(kind, Path(name)))


def _trial(kind: str, folder: Path) -> Callable[[int], str]:
    if kind in ("tflite", "onnx"):
        bases = TFLITE if kind == "tflite" else ONNX
        return lambda seed: _outcome(mutant(seed, bases))
    sound = [pair for pair in pairs(folder) if kind == "xml" or pair[1]]
    path = folder / "damaged.xml"

    def try_one(seed: int) -> str:
        xml, weights = sound[seed % len(sound)]
        if kind == "xml":
            xml = mutant_xml(seed, xml)
        else:
            weights = mutant(seed, [lambda: weights])
        path.write_bytes(xml)
        path.with_suffix(".bin").write_bytes(weights)
        return _outcome(path)

    return try_one


def _outcome(source: object) -> str:
    # without the cache: each mutant would leave an engine
    return outcome(
        lambda: accelerate.load(source, backend="openvino", num_threads=1, config={"CACHE_DIR": ""}), timeout=3
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
