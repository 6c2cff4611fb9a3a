"""Vision models built by code, whose outputs are known: every picture gives them the same answer.

A `Case` says what the outputs hold and which objects these are, in the tensor's pixels; nothing here asks
accelerate.vision. `SCENE` is what most of them show: three objects, one at a cell of each stride.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import tflite_metadata_writer
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.flexbuffers import Dumps
from onnx import TensorProto, helper, numpy_helper
from tflite_writer import Graph, build

from accelerate.calls.conversion import Array
from accelerate.metadata import Metadata, TensorInfo

#: Height and width of the tensor: not the same, so that sides that change places show.
SIZE = HEIGHT, WIDTH = 96, 128
STRIDES = (8, 16, 32)
CLASSES = 5
LABELS = ("ant", "bee", "cat", "dog", "elk")
COUNTS = tuple((HEIGHT // s) * (WIDTH // s) for s in STRIDES)
PLACES = sum(COUNTS)
#: Frames of other sizes and proportions than the tensor's, and what is done to them.
FRAMES = {"as it is": (SIZE, "stretch"), "stretch": ((192, 320), "stretch"), "letterbox": ((60, 160), "letterbox")}
NORMALIZATION = (0.0, 255.0)


class Found(NamedTuple):
    """Objects, best first."""

    boxes: Array  # (n, 4) xmin, ymin, xmax, ymax in pixels
    scores: Array
    classes: Array

    def in_frame(self, way: str) -> Found:
        """Return them in the pixels of one of `FRAMES`."""
        (height, width), resize = FRAMES[way]
        if resize == "stretch":
            scale, shift = np.array((width / WIDTH, height / HEIGHT) * 2), np.zeros(4)
        else:  # 160 x 60 becomes 128 x 48, with 24 rows of fill above and below
            scale, shift = np.full(4, 1 / 0.8), np.array((0, 24, 0, 24))
        return self._replace(boxes=(self.boxes - shift) * scale)


SCENE = Found(
    np.array([(8, 16, 40, 64), (60, 10, 100.5, 50), (70.5, 60.25, 120.5, 90.75)], np.float32),
    np.array([0.9, 0.8, 0.6], np.float32),
    np.array([2, 0, 4]),
)
NOTHING = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
SHARES = np.array((WIDTH, HEIGHT, WIDTH, HEIGHT), np.float32)


@dataclass
class Case:
    """A model's outputs, and what they say.

    Attributes
    ----------
    outputs : mapping of str to numpy.ndarray
        In the model's order, real values; for one frame, as `infer` returns them.
    wanted : Found
    step : float
        How far a box may lie away, in the tensor's pixels.
    options : mapping
        Of the task.
    told : mapping
        Properties that an exporter writes.
    labels : sequence of str
    quantized : mapping of str to tuple
        dtype, scale and zero point of outputs that are quantised.
    shapes : mapping of str to tuple
        Those that the file says of outputs, a name for a dynamic side, where they differ.
    frame_size_input : str
        The name of a second input, int64 [1, 2].
    """

    outputs: Mapping[str, Array]
    wanted: Found = SCENE
    step: float = 1e-3
    options: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = LABELS
    quantized: Mapping[str, tuple[str, float, int]] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    frame_size_input: str = ""

    def stored(self, name: str) -> Array:
        """Return an output as the model gives it."""
        values = self.outputs[name]
        if name not in self.quantized:
            return values
        dtype, scale, zero = self.quantized[name]
        limits = np.iinfo(dtype)
        stored: Array = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(dtype)
        return stored

    def properties(self) -> dict[str, Any]:
        """Return what the exporter writes, with the names and the picture's size if it is Ultralytics'."""
        usual = {"author": "Ultralytics", "stride": 32, "names": dict(enumerate(self.labels)), "imgsz": [*SIZE]}
        return {**(usual if "task" in self.told else {}), **self.told}


def ultralytics(task: str = "detect", **more: Any) -> dict[str, Any]:
    """Return what Ultralytics' exporter writes for a task; names and size are those of the case."""
    return {"task": task, **more}


def described(
    outputs: Mapping[str, tuple[int, ...]],
    labels: int = 0,
    *,
    size: tuple[int, int] = SIZE,
    batch: int = 1,
    types: Mapping[str, str] | None = None,
    **told: str,
) -> Metadata:
    """Return the metadata of a model of pictures, by its outputs' shapes, and what its exporter wrote."""
    image = TensorInfo("images", shape=(batch, 3, *size), layout="NCHW")
    tensors = (TensorInfo(name, data_type=(types or {}).get(name, "float32"), shape=s) for name, s in outputs.items())
    return Metadata("", "", "", (image,), tuple(tensors), tuple(f"class{i}" for i in range(labels)), extra=told)


# Files


def write(case: Case, form: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a model and its labels; return its path and what `load` needs for it.

    `form` is "onnx", "onnx batch" (dynamic), "onnx sides" (height and width dynamic, too), or "tflite".
    """
    path = folder / f"model.{form.split()[0]}"
    path.write_bytes(tflite(case) if form == "tflite" else onnx_file(case, form.partition(" ")[2]))
    options: dict[str, Any] = {"normalization": NORMALIZATION}
    if case.labels and "task" not in case.told:
        labels = folder / "labels.txt"
        labels.write_text("\n".join(case.labels))
        options["label_path"] = labels
    return path, options


def onnx_file(case: Case, dynamic: str = "") -> bytes:
    """Return an .onnx model that takes "images" [1, 3, height, width] and answers as the case says."""
    batch = "batch" if dynamic else 1
    sides = ("height", "width") if dynamic == "sides" else SIZE
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["index"], to=TensorProto.INT64),
    ]
    fixed = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    outputs = []
    for name in case.outputs:
        values = case.stored(name)
        fixed.append(numpy_helper.from_array(values[np.newaxis], f"{name}?"))
        shape = case.shapes.get(name, _declared(values.shape, batch, dynamic))
        axes = [axis for axis, side in enumerate(shape) if isinstance(side, str)]
        nodes.append(helper.make_node("Gather", [f"{name}?", "index"], [f"{name}!" if axes else name], axis=0))
        if axes:  # what a slice leaves is not known before it runs
            parts = {"axes": axes, "begin": [0] * len(axes), "sides": [values.shape[axis] for axis in axes]}
            fixed += [numpy_helper.from_array(np.array(n, np.int64), f"{name}?{key}") for key, n in parts.items()]
            nodes.append(helper.make_node("Add", [f"{name}?sides", "index"], [f"{name}?end"]))
            slicing = [f"{name}!", f"{name}?begin", f"{name}?end", f"{name}?axes"]
            nodes.append(helper.make_node("Slice", slicing, [name]))
        outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), shape))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, (batch, 3, *sides))]
    if case.frame_size_input:
        inputs.append(helper.make_tensor_value_info(case.frame_size_input, TensorProto.INT64, (batch, 2)))
    graph = helper.make_graph(nodes, "detector", inputs, outputs, fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    told = case.properties() | ({"imgsz": [*SIZE]} if dynamic == "sides" else {})
    for key, text in told.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=str(text)))
    return bytes(model.SerializeToString())


def _declared(shape: Sequence[int], batch: str | int, dynamic: str) -> list[int | str]:
    declared: list[int | str] = [batch if not i and n == 1 else n for i, n in enumerate(shape)]
    if dynamic == "sides":
        declared = ["places" if n in (PLACES, 3 * PLACES) else n for n in declared]
    return declared


def tflite(case: Case) -> bytes:
    """Return a .tflite model that takes x [1, height, width, 3] and answers as the case says."""
    graph = Graph()
    index = _index(graph)
    for name in case.outputs:
        values = case.stored(name)
        _, scale, zero = case.quantized.get(name, ("", None, None))
        table = graph.constant(f"{name}?", values[np.newaxis], scale=scale, zero_point=zero)
        found = graph.tensor(name, values.shape, values.dtype.name, scale=scale, zero_point=zero)
        graph.op("GATHER", [table, index], [found], schema.GatherOptionsT())
        graph.outputs.append(found)
    model = build([graph])
    told = case.properties()
    return tflite_metadata_writer.pack(model, {"metadata.json": json.dumps(told).encode()}) if told else model


def _index(graph: Graph) -> int:
    """Add the picture and a scalar 0 that depends on it, and return the scalar."""
    x = graph.tensor("x", [1, HEIGHT, WIDTH, 3], "float32")
    mean, nothing = graph.tensor("mean", [], "float32"), graph.tensor("nothing", [], "float32")
    index = graph.tensor("index", [], "int32")
    graph.op("MEAN", [x, graph.constant("axes", np.arange(4, dtype=np.int32))], [mean], schema.ReducerOptionsT())
    graph.op("MUL", [mean, graph.constant("zero", np.float32(0))], [nothing], schema.MulOptionsT())
    graph.op("CAST", [nothing], [index], schema.CastOptionsT())
    graph.inputs = [x]
    return index


def ssd(names: Sequence[str], ports: Sequence[int], *, count: int = 10, quantized: bool = False) -> tuple[bytes, Found]:
    """Return a .tflite model that ends with the detectors' operator, and what it finds.

    Its outputs are the operator's `ports` in this order, which are boxes, classes, scores and their number, under
    `names`.
    """
    middles = (SCENE.boxes[:, :2] + SCENE.boxes[:, 2:]) / 2 / SHARES[:2]
    sides = (SCENE.boxes[:, 2:] - SCENE.boxes[:, :2]) / SHARES[:2]
    codes = np.zeros((1, 3, 4), np.float32)
    codes[0, :, :2], codes[0, :, 2:] = (middles[:, ::-1] - 0.5) * 10, np.log(sides[:, ::-1]) * 5
    scores = np.zeros((1, 3, CLASSES + 1), np.float32)  # the first is the background
    scores[0, np.arange(3), SCENE.classes + 1] = SCENE.scores
    case = Case(
        {"codes": codes, "scores": scores},
        quantized={"codes": ("uint8", 0.08, 128), "scores": ("uint8", 1 / 255, 0)} if quantized else {},
    )
    graph = Graph()
    index, inputs, real = _index(graph), [], []
    for name in case.outputs:
        values = case.stored(name)
        dtype, scale, zero = case.quantized.get(name, ("float32", None, None))
        table = graph.constant(f"{name}?", values[np.newaxis], scale=scale, zero_point=zero)
        inputs.append(graph.tensor(name, values.shape, dtype, scale=scale, zero_point=zero))
        graph.op("GATHER", [table, index], [inputs[-1]], schema.GatherOptionsT())
        real.append((values.astype(np.float32) - (zero or 0)) * np.float32(scale or 1))
    anchors = np.array([[0.5, 0.5, 1, 1]] * 3, np.float32)
    if quantized:
        inputs.append(graph.constant("anchors", np.rint(anchors * 255).astype(np.uint8), scale=1 / 255, zero_point=0))
    else:
        inputs.append(graph.constant("anchors", anchors))
    shapes = ([1, count, 4], [1, count], [1, count], [1])
    found = [graph.tensor(names[ports.index(port)], shapes[port], "float32") for port in range(4)]
    scales = {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    most = {"max_detections": count, "max_classes_per_detection": 1, "num_classes": CLASSES}
    limits = {"nms_score_threshold": 0.01, "nms_iou_threshold": 0.6, "use_regular_nms": False}
    graph.custom_op("TFLite_Detection_PostProcess", inputs, found, bytes(Dumps({**most, **limits, **scales})))
    graph.outputs = [found[port] for port in ports]
    codes = real[0][0][:, [1, 0, 3, 2]]
    anchor = np.float32(round(0.5 * 255) / 255) if quantized else 0.5
    boxes = np.concatenate((codes[:, :2] / 10 + anchor, np.exp(codes[:, 2:] / 5)), axis=1)
    corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), axis=1)
    return build([graph]), SCENE._replace(boxes=corners * SHARES, scores=real[1].max(axis=2)[0])


# Numbers that models write for the scene


def centred(boxes: Array) -> Array:
    """Return corners as middles and sides."""
    return np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)


def scores_of(scores: Array = SCENE.scores, classes: int = CLASSES, low: float = 0.01) -> Array:
    """Return a row of scores for each object of the scene."""
    rows = np.full((len(scores), classes), low, np.float32)
    rows[np.arange(len(scores)), SCENE.classes] = scores
    return rows


def logit(shares: Any) -> Any:
    return np.log(shares / (1 - shares))


def cells() -> Array:
    """Return x and y of the upper left corner of each cell, counted in cells, and its stride."""
    return np.array(
        [(x, y, s) for s in STRIDES for y in range(HEIGHT // s) for x in range(WIDTH // s)], np.float32
    )  # fmt: skip


def own_places() -> list[int]:
    """Return the cells in which the three objects' middles lie: of stride 8, 16 and 32."""
    found, first = [], 0
    for (x, y, _, _), stride, count in zip(centred(SCENE.boxes).tolist(), STRIDES, COUNTS, strict=True):
        found.append(first + int(y // stride) * (WIDTH // stride) + int(x // stride))
        first += count
    return found


def spread(rows: Array, fill: float = 0.0, places: Sequence[int] | None = None, count: int = PLACES) -> Array:
    """Return a table of all places with the rows of the scene at theirs."""
    table = np.full((count, rows.shape[1]), fill, np.float32)
    table[own_places() if places is None else list(places)] = rows
    return table


def distances(boxes: Array = SCENE.boxes, shift: Array | float = 0.0) -> Array:
    """Return how far the sides lie from the middles of the objects' cells, in cells: left, top, right, bottom."""
    x, y, stride = cells()[own_places()].T
    middle_x, middle_y = (x + 0.5) * stride - shift, (y + 0.5) * stride - shift
    sides = (middle_x - boxes[:, 0], middle_y - boxes[:, 1], boxes[:, 2] - middle_x, boxes[:, 3] - middle_y)
    found: Array = np.stack(sides, axis=1) / stride[:, np.newaxis]
    return found


def binned(values: Array, bins: int = 16) -> Array:
    """Return distributions over whole numbers, as logarithms, whose means are the values."""
    whole = np.floor(values).astype(int)
    share = values - whole
    logits = np.full((*values.shape, bins), -30.0, np.float32)
    for place in np.ndindex(values.shape):
        logits[place][whole[place]] = np.log(1 - share[place])
        if share[place]:
            logits[place][whole[place] + 1] = np.log(share[place])
    return logits.reshape(len(values), -1)


def by_stride(table: Array) -> list[Array]:
    """Return the rows of each stride."""
    return np.split(table, np.cumsum(COUNTS)[:-1])
