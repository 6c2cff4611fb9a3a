"""Train a small classifier of handwritten digits and write it as the package's sample models.

Run it as ``python tools/build_digits.py``; it needs scikit-learn (whose digits are the data),
Pillow, ai-edge-litert, onnx and onnxruntime. It writes into ``accelerate/data``:

``digits_float.tflite``
    Takes float32 images [1, 8, 8, 1] from -1 (black) to 1 (white), the digit white on black, and
    gives float32 scores [1, 10] that sum to 1.
``digits_uint8.tflite``
    The same network quantised to uint8 throughout; it takes the pixels of an image as they are.
``digits_int8.tflite``
    The same network quantised to int8 throughout, with symmetric weights; it takes pixels less 128.
``digits.onnx``
    The twin of the float model: the same weights, but images [batch, 1, 8, 8] of any batch size.
``digits_uint8.onnx``, ``digits_int8.onnx``
    The twins of the quantised models, from pixels, or pixels less 128, to scores of that type: each layer between
    QuantizeLinear and DequantizeLinear, as quantising exporters write it.
``digit.png``
    A digit the network was not trained on, 128 x 128 grey pixels.

The .tflite files carry TFLite metadata and the names of the digits, packed behind the model. The .onnx
files say the same in the entries of their metadata map that exporters of classifiers write, but have
no entry for the range of their input: nobody has settled one.

The network is trained once, and each form of it is written by a function of its own. Everything
that is random has a fixed seed: on one machine, a second run writes the same bytes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import tflite_metadata_writer as described
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from tflite_writer import FILE_IDENTIFIER, Graph, build

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
LEAST_ACCURACY = 0.97
PICTURE_SIZE = (128, 128)

NAME = "Digits"
DESCRIPTION = "Tells which handwritten digit a picture of 8 x 8 pixels shows."
VERSION, AUTHOR, LICENCE = "1", "The edge-accelerate authors", "Apache License 2.0"
# Words, so that nobody can take a label for an index.
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LABEL_FILE = "labels.txt"
# Viam calls a model a classifier if the description of its input has "classif" in it.
IMAGE_DESCRIPTION = "A grey picture of one handwritten digit, white on black, to be classified."
SCORES_DESCRIPTION = "How likely the picture shows each of the ten digits; the scores add up to 1."
# What the metadata says of pixels, and what the float models are trained on.
PIXEL_MEAN = PIXEL_STD = 127.5

# Those of ONNX 1.8 and 1.10, of 2020 and 2021: any runtime of the years since loads the file.
ONNX_OPSET, ONNX_IR_VERSION = 13, 8


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

    @classmethod
    def symmetric(cls, values: Floats) -> Affine:
        """Return the finest int8 quantisation around zero that covers all the values, without -128."""
        return cls(float(np.abs(values).max()) / 127)

    def for_dtype(self, dtype: type[np.integer[Any]]) -> Affine:
        """Return this uint8 quantisation for uint8 or int8, whose levels lie 128 lower."""
        return Affine(self.scale, self.zero_point + int(np.iinfo(dtype).min))

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
        "digits_uint8.tflite": quantised_model(network, training.images, np.uint8),
        "digits_int8.tflite": quantised_model(network, training.images, np.int8),
        "digits.onnx": onnx_model(network),
        "digits_uint8.onnx": quantised_onnx_model(network, training.images, np.uint8),
        "digits_int8.onnx": quantised_onnx_model(network, training.images, np.int8),
    }
    DATA.mkdir(parents=True, exist_ok=True)
    wanted = run(models["digits_float.tflite"], held_out.images)
    for name, model in models.items():
        (DATA / name).write_bytes(model)
        scores = run(model, held_out.images)
        accuracy = np.mean(scores.argmax(axis=1) == held_out.labels)
        difference = np.abs(scores - wanted).max()
        print(
            f"{name}: {len(model)} bytes, {accuracy:.1%} of {len(scores)} held-out digits right, "
            f"scores at most {difference:.1e} from the float model's"
        )
        if accuracy < LEAST_ACCURACY:
            raise SystemExit(f"{name} is right too rarely: wanted {LEAST_ACCURACY:.0%}")
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


def quantised_model(network: Network, images: Images, dtype: type[np.uint8 | np.int8]) -> bytes:
    """Return the network as a model of uint8 or int8 throughout, with the ranges that the images cause."""
    return _model(np.dtype(dtype).name, *quantised(network, images, dtype))


def quantised(
    network: Network, images: Images, dtype: type[np.uint8 | np.int8]
) -> tuple[dict[str, Affine], dict[str, tuple[NDArray[Any], Affine | None]]]:
    """Return the quantisation of the tensors between layers, and the stored weights and biases with theirs."""
    hidden_values, logits_values = network.layers(images)
    uint8_ranges = {
        "image": PIXEL_RANGE,
        "flat": PIXEL_RANGE,
        "hidden": Affine.covering(hidden_values),
        "logits": Affine.covering(logits_values),
        "scores": SCORE_RANGE,
    }
    ranges = {name: affine.for_dtype(dtype) for name, affine in uint8_ranges.items()}
    parameters: dict[str, tuple[NDArray[Any], Affine | None]] = {}
    for layer, source in (("hidden", "flat"), ("logits", "hidden")):
        weights, bias = getattr(network, f"{layer}_weights"), getattr(network, f"{layer}_bias")
        # TFLite's int8 kernels take no zero point of weights, nor the level -128.
        weight_range = Affine.symmetric(weights) if dtype is np.int8 else Affine.covering(weights)
        # The kernel adds the bias to sums of products, so it has to be on their scale.
        bias_range = Affine(ranges[source].scale * weight_range.scale)
        parameters[f"{layer}_weights"] = weight_range.store(weights, dtype), weight_range
        parameters[f"{layer}_bias"] = bias_range.store(bias, np.int32), bias_range
    return ranges, parameters


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
        name: graph.constant(name, stored, **_quantisation(affine)) for name, (stored, affine) in parameters.items()
    }
    graph.op("RESHAPE", [image], [flat], schema.ReshapeOptionsT(newShape=[1, PIXELS]))
    graph.op(
        "FULLY_CONNECTED",
        [flat, constants["hidden_weights"], constants["hidden_bias"]],
        [hidden],
        schema.FullyConnectedOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU),
        version=4 if dtype == "int8" else 1,
    )
    graph.op(
        "FULLY_CONNECTED",
        [hidden, constants["logits_weights"], constants["logits_bias"]],
        [logits],
        schema.FullyConnectedOptionsT(),
        version=4 if dtype == "int8" else 1,
    )
    graph.op("SOFTMAX", [logits], [scores], schema.SoftmaxOptionsT(beta=1.0), version=2 if dtype == "int8" else 1)
    graph.inputs, graph.outputs = [image], [scores]
    signature = ("serving_default", 0, {"image": image}, {"scores": scores})
    metadata = {described.ENTRY: _metadata(dtype)}
    model = build([graph], signatures=[signature], metadata=metadata, description="Handwritten digits, 8 x 8 pixels")
    return described.pack(model, {LABEL_FILE: "".join(f"{label}\n" for label in LABELS).encode()})


def _metadata(dtype: str) -> bytes:
    """Return the TFLite metadata of a form of the network."""
    # Statistics are of the tensor's own values: normalised ones, or levels.
    low, high = (-1, 1) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    image = described.Tensor(
        "image", IMAGE_DESCRIPTION, image="grayscale", mean=[PIXEL_MEAN], std=[PIXEL_STD], minimum=[low], maximum=[high]
    )
    labels = described.File(LABEL_FILE, "The digits in English words.", "tensor_axis_labels", "en")
    scores = described.Tensor("scores", SCORES_DESCRIPTION, files=[labels])
    return described.metadata(
        NAME,
        description=DESCRIPTION,
        version=VERSION,
        author=AUTHOR,
        licence=LICENCE,
        subgraphs=[described.Subgraph([image], [scores])],
    )


def onnx_model(network: Network) -> bytes:
    """Return the network as a float32 ONNX model, channels first."""
    make = onnx.helper
    nodes = [
        make.make_node("Flatten", ["image"], ["flat"], axis=1),
        make.make_node("Gemm", ["flat", "hidden_weights", "hidden_bias"], ["sums"], transB=1),
        make.make_node("Relu", ["sums"], ["hidden"]),
        make.make_node("Gemm", ["hidden", "logits_weights", "logits_bias"], ["logits"], transB=1),
        make.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    parameters = [onnx.numpy_helper.from_array(values, name) for name, values in vars(network).items()]
    return _onnx_file(nodes, parameters, onnx.TensorProto.FLOAT)


def quantised_onnx_model(network: Network, images: Images, dtype: type[np.uint8 | np.int8]) -> bytes:
    """Return the network as an ONNX model that takes and gives uint8 or int8, with the ranges of `quantised_model`."""
    ranges, stored = quantised(network, images, dtype)
    node = onnx.helper.make_node
    parameters: list[onnx.TensorProto] = []

    def quantisation(name: str, affine: Affine, kind: type[Any]) -> list[str]:
        names = [f"{name}_scale", f"{name}_zero_point"]
        values = np.float32(affine.scale), np.array(affine.zero_point, kind)
        parameters.extend(map(onnx.numpy_helper.from_array, map(np.asarray, values), names))
        return names

    def levels(name: str) -> list[onnx.NodeProto]:
        """Round a tensor to its levels and back."""
        settled = quantisation(name, ranges[name], dtype)
        return [
            node("QuantizeLinear", [f"{name}_values", *settled], [f"{name}_levels"]),
            node("DequantizeLinear", [f"{name}_levels", *settled], [name]),
        ]

    nodes = []
    for name, (values, affine) in stored.items():
        parameters.append(onnx.numpy_helper.from_array(values, f"{name}_levels"))
        settled = quantisation(name, affine or Affine(1), values.dtype.type)
        nodes.append(node("DequantizeLinear", [f"{name}_levels", *settled], [name]))
    nodes += [
        node("DequantizeLinear", ["image", *quantisation("image", ranges["image"], dtype)], ["image_values"]),
        node("Flatten", ["image_values"], ["flat_values"], axis=1),
        *levels("flat"),
        node("Gemm", ["flat", "hidden_weights", "hidden_bias"], ["sums"], transB=1),
        node("Relu", ["sums"], ["hidden_values"]),
        *levels("hidden"),
        node("Gemm", ["hidden", "logits_weights", "logits_bias"], ["logits_values"], transB=1),
        *levels("logits"),
        node("Softmax", ["logits"], ["scores_values"], axis=1),
        node("QuantizeLinear", ["scores_values", *quantisation("scores", ranges["scores"], dtype)], ["scores"]),
    ]
    return _onnx_file(nodes, parameters, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _onnx_file(nodes: list[onnx.NodeProto], parameters: list[onnx.TensorProto], element_type: int) -> bytes:
    """Return a model from the image, channels first, to the scores, both of the type."""
    make = onnx.helper
    image, scores = (
        make.make_tensor_value_info(name, element_type, ["batch", *shape], doc_string=text)
        for name, shape, text in (
            ("image", (1, *IMAGE_SIZE), IMAGE_DESCRIPTION),
            ("scores", (CLASSES,), SCORES_DESCRIPTION),
        )
    )
    model = make.make_model(
        make.make_graph(nodes, "digits", [image], [scores], parameters),
        producer_name="edge-accelerate",
        producer_version=VERSION,
        doc_string=DESCRIPTION,
        ir_version=ONNX_IR_VERSION,
        opset_imports=[make.make_opsetid("", ONNX_OPSET)],
    )
    # The first three in the names and forms of Ultralytics' exporter.
    entries = {"names": str(dict(enumerate(LABELS))), "task": "classify", "stride": "1"}
    make.set_model_props(model, {**entries, "author": AUTHOR, "license": LICENCE, "version": VERSION})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _quantisation(affine: Affine | None) -> dict[str, Any]:
    """Return the arguments that give a graph's tensor this quantisation."""
    return {} if affine is None else vars(affine)


def run(model: bytes, images: Images) -> Floats:
    """Return a model's scores of a batch of images, [count, 10], as LiteRT or ONNX Runtime computes them."""
    return run_tflite(model, images) if model[4:8] == FILE_IDENTIFIER else run_onnx(model, images)


def run_onnx(model: bytes, images: Images) -> Floats:
    """Return an ONNX model's scores of a batch of images."""
    session = importlib.import_module("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
    kinds: dict[str, type[Any]] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    dtype = kinds[session.get_inputs()[0].type]
    scores: NDArray[Any] = session.run(["scores"], {"image": np.moveaxis(as_input(images, dtype), -1, 1)})[0]
    if dtype is np.float32:
        return scores
    affine = SCORE_RANGE.for_dtype(dtype)
    return ((scores.astype(np.float32) - affine.zero_point) * affine.scale).astype(np.float32)


def run_tflite(model: bytes, images: Images) -> Floats:
    """Return a TFLite model's scores of a batch of images."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    scores = []
    for image in as_input(images, source["dtype"]):
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
    """Return images as the float models take them."""
    return ((images - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)


def as_input(images: Images, dtype: type[Any]) -> NDArray[Any]:
    """Return images as the model with inputs of this type takes them."""
    if dtype is np.float32:
        return real_values(images)
    return images if dtype is np.uint8 else (images.astype(np.int16) - 128).astype(dtype)


def flat_values(images: Images) -> Floats:
    """Return images as the network takes them, one row each."""
    return real_values(images).reshape(len(images), -1)


if __name__ == "__main__":
    main()
