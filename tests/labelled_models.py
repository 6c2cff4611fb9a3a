"""Small models, built by code, that say how many classes they tell apart and what these are called."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tflite_metadata_writer as writer
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.flexbuffers import Dumps
from tflite_writer import Graph, build


def detection(classes: int = 3, files: Mapping[str, bytes] | None = None) -> bytes:
    """Float32 boxes [1, 5, 4], scores [1, 5, classes + 1] -> the four outputs of the operator that ends a detector.

    They are called locations, classes, scores and count. `files` are packed as the labels of "classes".
    """
    graph = Graph()
    boxes = graph.tensor("boxes", [1, 5, 4], "float32")
    scores = graph.tensor("scores", [1, 5, classes + 1], "float32")
    anchors = graph.constant("anchors", np.array([[0.5, 0.5, 1, 1]] * 5, np.float32))
    graph.inputs = [boxes, scores]
    shapes = {"": [1, 2, 4], ":1": [1, 2], ":2": [1, 2], ":3": [1]}
    name = "TFLite_Detection_PostProcess"
    graph.outputs = [graph.tensor(name + port, shape, "float32") for port, shape in shapes.items()]
    scales = {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    settings = {"max_detections": 2, "max_classes_per_detection": 1, "num_classes": classes, "use_regular_nms": False}
    thresholds = {"nms_score_threshold": 0.01, "nms_iou_threshold": 0.6}
    graph.custom_op(name, [boxes, scores, anchors], graph.outputs, bytes(Dumps({**settings, **thresholds, **scales})))
    labels = [writer.File(file, type="tensor_value_labels") for file in files or ()]
    outputs = [
        writer.Tensor("locations", boxes=writer.Boxes()),
        writer.Tensor("classes", files=labels),
        *map(writer.Tensor, ("scores", "count")),
    ]
    inputs = [*map(writer.Tensor, ("boxes", "scores"))]
    about = writer.metadata("Found", subgraphs=[writer.Subgraph(inputs, outputs)])
    return writer.pack(build([graph], metadata={writer.ENTRY: about}), files or {})


def two_heads() -> bytes:
    """Float32 x [1, 4] -> colour [1, 4] = x + x and shape [1, 4] = x * x, each with a label file of its own.

    The colours are in three languages, and of the shapes the third has no name.
    """
    graph = Graph()
    x, colour, shape = (graph.tensor(name, [1, 4], "float32") for name in ("x", "a", "b"))
    graph.op("ADD", [x, x], [colour], schema.AddOptionsT())
    graph.op("MUL", [x, x], [shape], schema.MulOptionsT())
    graph.inputs, graph.outputs = [x], [colour, shape]
    colours = {"de": b"rot\ngr\xc3\xbcn\nblau\nschwarz\n", "": b"red\ngreen\nblue\nblack\n", "fr": b"rouge\n"}
    names = {locale: f"colours{locale}.txt" for locale in colours}
    kind = "tensor_axis_labels"
    heads = {
        "colour": [writer.File(name, "", kind, locale) for locale, name in names.items()],
        "shape": [writer.File("shapes.txt", "", kind)],
    }
    outputs = [writer.Tensor(name, files=files) for name, files in heads.items()]
    about = writer.metadata("m", subgraphs=[writer.Subgraph([writer.Tensor("x")], outputs)])
    files = {names[locale]: text for locale, text in colours.items()} | {"shapes.txt": b"cube\nball\n\nring\n"}
    return writer.pack(build([graph], metadata={writer.ENTRY: about}), files)


def exported(content: str = '{"task": "detect", "imgsz": [4, 4], "names": {"0": "cat", "2": "dog"}}') -> bytes:
    """Float32 x [1, 4, 4, 3] -> y [1, 6, 8], the same values, with an exporter's description behind it."""
    graph = Graph()
    x, y = graph.tensor("x", [1, 4, 4, 3], "float32"), graph.tensor("y", [1, 6, 8], "float32")
    graph.op("RESHAPE", [x], [y], schema.ReshapeOptionsT(newShape=[1, 6, 8]))
    graph.inputs, graph.outputs = [x], [y]
    return writer.pack(build([graph]), {"metadata.json": content.encode()})
