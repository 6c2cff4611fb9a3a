"""Train a small classifier of handwritten digits and write it as the package's sample models.

Run it as ``python tools/build_digits.py``; it needs scikit-learn (whose digits are the data),
Pillow and ai-edge-litert. It writes into ``accelerate/data``:

``digits_float.tflite``
    Takes float32 images [1, 8, 8, 1] from -1 (black) to 1 (white), the digit white on black, and
    gives float32 scores [1, 10] that sum to 1.
``digits_uint8.tflite``
    The same network quantised to uint8 throughout; it takes the pixels of an image as they are.
``digit.png``
    A digit the network was not trained on, 128 x 128 grey pixels.

The network is trained once, and each form of it is written by a function of its own. Everything
that is random has a fixed seed: on one machine, a second run writes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from tflite_writer import Graph, build

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Images: TypeAlias = NDArray[np.uint8]

DATA = Path(__file__).resolve().parent.parent / "accelerate" / "data"

SEED = 7
IMAGE_SIZE = (8, 8)
IMAGE_SHAPE = (1, *IMAGE_SIZE, 1)
PIXELS, HIDDEN_UNITS, CLASSES = 64, 48, 10
PICTURE_SIZE = (128, 128)


@dataclass(frozen=True)
class Digits:
    """Images of digits, [count, 8, 8, 1], white on black, and the digits they show."""

    images: Images
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Network:
    """Two fully connected layers; weights are [outputs, inputs], as TFLite has them."""

    hidden_weights: Floats
    hidden_bias: Floats
    logits_weights: Floats
    logits_bias: Floats

    def layers(self, images: Images) -> tuple[Floats, Floats]:
        """Return the hidden layer's values and the logits of a batch of images."""
        hidden = np.maximum(flat_values(images) @ self.hidden_weights.T + self.hidden_bias, 0)
        return hidden, hidden @ self.logits_weights.T + self.logits_bias


@dataclass(frozen=True)
class Affine:
    """A quantisation of one scale: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int = 0

    @classmethod
    def covering(cls, values: Floats) -> Affine:
        """Return the finest uint8 quantisation that covers all the values, and zero exactly."""
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = (high - low) / 255
        return cls(scale, round(-low / scale))

    def store(self, values: Floats, dtype: type[np.integer[Any]]) -> NDArray[Any]:
        """Return the stored form of real values."""
        limits = np.iinfo(dtype)
        stored = np.round(values.astype(np.float64) / self.scale) + self.zero_point
        return np.clip(stored, limits.min, limits.max).astype(dtype)


# A pixel p stands for (p - 127.5) / 127.5, so its zero point should be 127.5 and has to be rounded;
# either way every value shifts by half a step, which the network does not notice. 128 is what
# TFLite's converter makes of the range [-1, 1], and it becomes 0 in an int8 form.
PIXEL_RANGE = Affine(2 / 255, 128)
# 256 steps from 0 to just under 1, as TFLite's converter gives them to a uint8 softmax.
SCORE_RANGE = Affine(1 / 256, 0)


def main() -> None:
    """Write the models and the picture, and say how good each model is."""
    training, held_out = load()
    network = train(training)
    models = {
        "digits_float.tflite": float_model(network),
        "digits_uint8.tflite": uint8_model(network, training.images),
    }
    DATA.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (DATA / name).write_bytes(model)
        found = run(model, held_out.images).argmax(axis=1)
        accuracy = np.mean(found == held_out.labels)
        print(f"{name}: {len(model)} bytes, {accuracy:.1%} of {len(found)} held-out digits right")
    index, score = clearest(models.values(), held_out)
    picture(held_out.images[index]).save(DATA / "digit.png", optimize=True)
    print(f"digit.png: a {held_out.labels[index]}, held-out digit {index}, scores {score:.3f} or more")


def load() -> tuple[Digits, Digits]:
    """Return the digits to train on and the ones held out."""
    grey, labels = load_digits(return_X_y=True)
    # The data set's grey values go from 0 to 16.
    images = np.round(grey * (255 / 16)).astype(np.uint8).reshape(-1, *IMAGE_SHAPE[1:])
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def train(digits: Digits) -> Network:
    """Return a network trained on the digits."""
    classifier = MLPClassifier((HIDDEN_UNITS,), alpha=0.01, max_iter=400, random_state=SEED)
    classifier.fit(flat_values(digits.images), digits.labels)
    hidden_weights, logits_weights = (w.T.astype(np.float32) for w in classifier.coefs_)
    hidden_bias, logits_bias = (b.astype(np.float32) for b in classifier.intercepts_)
    return Network(hidden_weights, hidden_bias, logits_weights, logits_bias)


def float_model(network: Network) -> bytes:
    """Return the network as a float32 model."""
    parameters = {name: (values, None) for name, values in vars(network).items()}
    return _model("float32", {}, parameters)


def uint8_model(network: Network, images: Images) -> bytes:
    """Return the network as a model of uint8 throughout, with the ranges that the images cause."""
    hidden_values, logits_values = network.layers(images)
    ranges = {
        "image": PIXEL_RANGE,
        "flat": PIXEL_RANGE,
        "hidden": Affine.covering(hidden_values),
        "logits": Affine.covering(logits_values),
        "scores": SCORE_RANGE,
    }
    parameters: dict[str, tuple[NDArray[Any], Affine | None]] = {}
    for layer, source in (("hidden", "flat"), ("logits", "hidden")):
        weights, bias = getattr(network, f"{layer}_weights"), getattr(network, f"{layer}_bias")
        weight_range = Affine.covering(weights)
        # The kernel adds the bias to sums of products, so it has to be on their scale.
        bias_range = Affine(ranges[source].scale * weight_range.scale)
        parameters[f"{layer}_weights"] = weight_range.store(weights, np.uint8), weight_range
        parameters[f"{layer}_bias"] = bias_range.store(bias, np.int32), bias_range
    return _model("uint8", ranges, parameters)


def _model(
    dtype: str,
    ranges: Mapping[str, Affine],
    parameters: Mapping[str, tuple[NDArray[Any], Affine | None]],
) -> bytes:
    """Return the network as a model file.

    Parameters
    ----------
    dtype : str
        The type of its tensors, but for the biases of a quantised one.
    ranges : mapping of str to Affine
        The quantisation of the tensors between layers, none for a float model.
    parameters : mapping of str to (array, Affine or None)
        The network's weights and biases as they are stored, and their quantisation.

    Returns
    -------
    bytes
        The file's content.
    """
    graph = Graph()
    image, flat, hidden, logits, scores = (
        graph.tensor(name, shape, dtype, **_quantisation(ranges.get(name)))
        for name, shape in {
            "image": IMAGE_SHAPE,
            "flat": (1, PIXELS),
            "hidden": (1, HIDDEN_UNITS),
            "logits": (1, CLASSES),
            "scores": (1, CLASSES),
        }.items()
    )
    constants = {
        name: graph.constant(name, stored, **_quantisation(affine))
        for name, (stored, affine) in parameters.items()
    }
    graph.op("RESHAPE", [image], [flat], schema.ReshapeOptionsT(newShape=[1, PIXELS]))
    graph.op(
        "FULLY_CONNECTED",
        [flat, constants["hidden_weights"], constants["hidden_bias"]],
        [hidden],
        schema.FullyConnectedOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU),
    )
    graph.op(
        "FULLY_CONNECTED",
        [hidden, constants["logits_weights"], constants["logits_bias"]],
        [logits],
        schema.FullyConnectedOptionsT(),
    )
    graph.op("SOFTMAX", [logits], [scores], schema.SoftmaxOptionsT(beta=1.0))
    graph.inputs, graph.outputs = [image], [scores]
    signature = ("serving_default", 0, {"image": image}, {"scores": scores})
    return build([graph], signatures=[signature], description="Handwritten digits, 8 x 8 pixels")


def _quantisation(affine: Affine | None) -> dict[str, Any]:
    """Return the arguments that give a graph's tensor this quantisation."""
    return {} if affine is None else vars(affine)


def run(model: bytes, images: Images) -> Floats:
    """Return a model's scores of a batch of images, [count, 10], as LiteRT computes them."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    batch = real_values(images) if source["dtype"] is np.float32 else images
    scores = []
    for image in batch:
        interpreter.set_tensor(source["index"], image[np.newaxis])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(sink["index"])[0])
    scale, zero_point = sink["quantization"]
    stored = np.array(scores, np.float32)
    return (stored - zero_point) * scale if scale else stored


def clearest(models: Collection[bytes], digits: Digits) -> tuple[int, float]:
    """Return the digit whose picture the models are surest of, and the least score it gets.

    Pictures are brought back to the models' size with several filters, since the one that a
    reader of the picture uses is not known here.
    """
    least = np.ones(len(digits.images), np.float32)
    everything = np.arange(len(digits.images))
    for resampling in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS):
        shrunk = [picture(image).resize(IMAGE_SIZE, resampling) for image in digits.images]
        images = np.stack([np.asarray(image)[..., np.newaxis] for image in shrunk])
        for model in models:
            least = np.minimum(least, run(model, images)[everything, digits.labels])
    best = int(least.argmax())
    return best, float(least[best])


def picture(image: Images) -> Image.Image:
    """Return an image as a picture big enough to look at."""
    return Image.fromarray(image[..., 0]).resize(PICTURE_SIZE, Image.Resampling.BICUBIC)


def real_values(images: Images) -> Floats:
    """Return images as the float model takes them."""
    return ((images - 127.5) / 127.5).astype(np.float32)


def flat_values(images: Images) -> Floats:
    """Return images as the network takes them, one row each."""
    return real_values(images).reshape(len(images), -1)


if __name__ == "__main__":
    main()
