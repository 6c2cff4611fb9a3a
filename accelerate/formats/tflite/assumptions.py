"""What is taken for granted of a .tflite model that says nothing about itself.

These are the conventions of the detectors and classifiers that the first TFLite tooling produced, and
of Viam's services, which were built on them. They hold only where a model's metadata is silent, and
whatever rests on them is marked as assumed or guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...metadata import Normalization, TensorInfo

__all__ = ["ASSUMED_NORMALIZATION", "BOXES_CLASSES_SCORES", "BOX_ORDER", "guess_type"]

# An image input is uint8 as it comes, or float32 in [-1, 1].
ASSUMED_NORMALIZATION = Normalization(mean=(127.5,), std=(127.5,), source="assumed")

# The first three outputs of a detector, by position.
BOXES_CLASSES_SCORES = (0, 1, 2)

# Where xmin, ymin, xmax and ymax stand in a box of TFLite_Detection_PostProcess, which is ymin, xmin,
# ymax, xmax. The form is that of BoundingBoxProperties.index, and of Viam's boxOrder.
BOX_ORDER = (1, 0, 3, 2)

DETECTION_OPERATOR = "TFLite_Detection_PostProcess"

# Viam looks for these parts of words, and lets the later one win where a text has both.
CLASSIFIER, DETECTOR = "tflite_classifier", "tflite_detector"
TYPES_BY_WORD = (("classif", CLASSIFIER), ("detect", DETECTOR))


def guess_type(texts: Iterable[str], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> tuple[str, bool]:
    """Tell what kind of model this is, in Viam's words, and whether that is guessed from the outputs alone.

    `texts` is what the metadata says, the most telling first: descriptions of the inputs (all that Viam goes by), then
    name and description of the model. The kind is "tflite_detector", "tflite_classifier", or "" when nothing tells.
    What gives no list, such as the landmarks of one hand, is no detector, whatever the texts say.
    """
    from ..classes import item_shape

    items = [item_shape(output.shape, inputs) for output in outputs]
    lists = not items or any(map(_may_be_list, items))
    for text in texts:
        for word, kind in TYPES_BY_WORD:
            if word in text.lower() and (lists or kind != DETECTOR):
                return kind, False
    if any("boxOrder" in output.extra for output in outputs):
        return DETECTOR, False
    if _looks_like_detector(outputs):
        return DETECTOR, True
    if len(outputs) == 1 and len(outputs[0].shape) == 2 and len(items[0]) == 1 and items[0][0] > 1:
        return CLASSIFIER, True
    return "", False


def _may_be_list(item: Sequence[int]) -> bool:
    """Return whether an output of this shape, () where it is unknown, may hold a list of what was found."""
    return not item or len(item) == 2 or sum(n != 1 for n in item) > 1


def _looks_like_detector(outputs: Sequence[TensorInfo]) -> bool:
    if len(outputs) < len(BOXES_CLASSES_SCORES):
        return False
    boxes = outputs[0]
    # Older converters leave the shapes of the operator's outputs out, but not its name.
    named = any(DETECTION_OPERATOR in name for name in (boxes.name, *boxes.aliases))
    return named or (len(boxes.shape) == 3 and boxes.shape[2] == 4)
