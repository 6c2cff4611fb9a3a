"""Results as values: compared, found in sequences, kept in sets."""

from __future__ import annotations

import numpy as np
from vision_comparison import WHOLE
from vision_models import HEIGHT, WIDTH, described

from accelerate.vision import Detector, PoseEstimator, Segmentation, Segmenter


def test_poses_are_compared_by_their_values() -> None:
    body = PoseEstimator(described({"out": (1, 6, 56)}))
    answer = np.random.default_rng(0).random((1, 6, 56))
    found, again = (body.decode({"out": answer}, WHOLE, min_score=0) for _ in range(2))
    assert list(found) == list(again)
    assert found[1] != found[2]
    assert [again.index(one) for one in found] == list(range(6))
    assert len({*found, *again}) == 6
    assert found[0] != "a pose"


def test_objects_with_points_and_masks_are_compared_by_their_values() -> None:
    shapes = {"output0": (1, 9 + 32, 252), "output1": (1, 32, HEIGHT // 4, WIDTH // 4)}
    answer = {name: np.random.default_rng(0).random(shape) for name, shape in shapes.items()}
    detect = Detector(described(shapes, labels=5), layout={"unit": "pixels"})
    found, again = detect.decode(answer, WHOLE), detect.decode(answer, WHOLE)
    assert found[0].mask is not None
    assert found[0] in again
    assert len({*found, *again}) == len(found)


def test_maps_are_compared_by_their_values() -> None:
    pixels = Segmenter(described({"out": (1, HEIGHT, WIDTH)}, types={"out": "int64"}))
    one, same, other = (pixels.decode({"out": np.full((1, HEIGHT, WIDTH), n)}, WHOLE) for n in (3, 3, 4))
    assert one == same != other
    assert hash(one) == hash(same)


def test_a_class_that_is_no_number_is_not_seen() -> None:
    layout = {"kind": "index", "outputs": {"classes": "out"}}
    numbers = np.full((1, HEIGHT, WIDTH), 3.0)
    numbers[0, 0, :3] = np.nan, np.inf, -1e30
    mask = Segmenter(described({"out": numbers.shape}), layout).decode({"out": numbers}, WHOLE).mask
    assert mask[0, :4].tolist() == [Segmentation.UNSEEN] * 3 + [3]
