"""Small ONNX models that a zoo of real ones lacks, built by code.

Each function returns the bytes of one .onnx model. Unless its docstring says otherwise, it has one input "x" and one
output "y".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from engines import seconds_per_product
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info

Shape: TypeAlias = Sequence["int | str | None"]

#: Supported by every ONNX Runtime that we support.
OPSET, IR_VERSION = 17, 8
MATRIX_SIZE = 1024
# what one product of two such matrices takes at the least, on one core of a fast processor
SECONDS_PER_PRODUCT = seconds_per_product(MATRIX_SIZE)
FLOAT = TensorProto.FLOAT
# older versions of onnx lack some of these
UINT4, INT4, FLOAT4E2M1, FLOAT8E8M0, UINT2, INT2 = range(21, 27)


def add(shape: Shape = (10, 10)) -> bytes:
    """Float32 a, b -> sum = a + b."""
    return _model(
        [make_node("Add", ["a", "b"], ["sum"])],
        [_tensor("a", FLOAT, shape), _tensor("b", FLOAT, shape)],
        [_tensor("sum", FLOAT, shape)],
    )


def double(shape: Shape | None = (3,), element: int = FLOAT, **model: Any) -> bytes:
    """Return y = x + x."""
    return _model(
        [make_node("Add", ["x", "x"], ["y"])], [_tensor("x", element, shape)], [_tensor("y", element, shape)], **model
    )


def identity(element: int, shape: Shape = (2, 3), **model: Any) -> bytes:
    """Return y = x."""
    return _model(
        [make_node("Identity", ["x"], ["y"])], [_tensor("x", element, shape)], [_tensor("y", element, shape)], **model
    )


def cast(element: int, shape: Shape = (5,)) -> bytes:
    """Return y = x, by way of float32: for the types that Identity does not take."""
    opset, version = (25, 13) if element >= FLOAT8E8M0 else (23, 11)
    return _model(
        [make_node("Cast", ["x"], ["f"], to=FLOAT), make_node("Cast", ["f"], ["y"], to=element)],
        [_tensor("x", element, shape)],
        [_tensor("y", element, shape)],
        opset=opset,
        ir_version=version,
    )


def image(shape: Shape = (1, 3, 4, 5), element: int = FLOAT) -> bytes:
    """Return y = x, an image with channels first."""
    return identity(element, shape)


def pointwise() -> bytes:
    """Float32 x ["batch", 1, "height", "width"] -> y = x + x."""
    return double(("batch", 1, "height", "width"))


def reversed_strings() -> bytes:
    """String x [4] -> y [4], the last first."""
    index = numpy_helper.from_array(np.array([3, 2, 1, 0]), "index")
    return _model(
        [make_node("Gather", ["x", "index"], ["y"])],
        [_tensor("x", TensorProto.STRING, [4])],
        [_tensor("y", TensorProto.STRING, [4])],
        [index],
    )


def strings_and_numbers() -> bytes:
    """String x ["words"], float32 z [2] -> string y ["words"] = x, float32 twice [2] = z + z."""
    return _model(
        [make_node("Identity", ["x"], ["y"]), make_node("Add", ["z", "z"], ["twice"])],
        [_tensor("x", TensorProto.STRING, ["words"]), _tensor("z", FLOAT, [2])],
        [_tensor("y", TensorProto.STRING, ["words"]), _tensor("twice", FLOAT, [2])],
    )


def slow(seconds: float) -> bytes:
    """Float32 x [1, 1024] -> y = x, after `seconds` or more on one core, in many small steps."""
    identity_matrix = np.eye(MATRIX_SIZE, dtype=np.float32)
    # the products are of whole matrices, and only their first row is the input
    body = _loop_body([MATRIX_SIZE, MATRIX_SIZE])
    constants = {
        "identity": identity_matrix,
        "zeros": np.zeros((MATRIX_SIZE - 1, MATRIX_SIZE), np.float32),
        "steps": np.array(math.ceil(seconds / SECONDS_PER_PRODUCT)),
        "yes": np.array(True),
        "start": np.array([0]),
        "end": np.array([1]),
    }
    return _model(
        [
            make_node("Concat", ["x", "zeros"], ["first"], axis=0),
            make_node("Loop", ["steps", "yes", "first"], ["last"], body=body),
            make_node("Slice", ["last", "start", "end"], ["y"]),
        ],
        [_tensor("x", FLOAT, [1, MATRIX_SIZE])],
        [_tensor("y", FLOAT, [1, MATRIX_SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def loop() -> bytes:
    """Float32 x [2, 2] -> y = x @ [[1, 1], [0, 1]] @ ..., three times."""
    constants = {"identity": np.array([[1, 1], [0, 1]], np.float32), "steps": np.array(3), "yes": np.array(True)}
    return _model(
        [make_node("Loop", ["steps", "yes", "x"], ["y"], body=_loop_body([2, 2]))],
        [_tensor("x", FLOAT, [2, 2])],
        [_tensor("y", FLOAT, [2, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def _loop_body(shape: Shape) -> onnx.GraphProto:
    return helper.make_graph(
        [
            make_node("MatMul", ["state", "identity"], ["next_state"]),
            make_node("Identity", ["go_on"], ["still_go_on"]),
        ],
        "body",
        [
            _tensor("step", TensorProto.INT64, []),
            _tensor("go_on", TensorProto.BOOL, []),
            _tensor("state", FLOAT, shape),
        ],
        [_tensor("still_go_on", TensorProto.BOOL, []), _tensor("next_state", FLOAT, shape)],
    )


def convolution() -> bytes:
    """Float32 x [1, 3, 8, 8] -> y [1, 2]: a convolution, a pooling and a product, as classifiers have them."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(4, np.float32),
        "dense": random.normal(size=(4, 2)).astype(np.float32),
    }
    return _model(
        [
            make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
            make_node("Relu", ["c"], ["r"]),
            make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
            make_node("GlobalAveragePool", ["m"], ["g"]),
            make_node("Flatten", ["g"], ["f"]),
            make_node("MatMul", ["f", "dense"], ["y"]),
        ],
        [_tensor("x", FLOAT, [1, 3, 8, 8])],
        [_tensor("y", FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )


def nonzero() -> bytes:
    """Float32 x [4] -> int64 y [1, "found"]: where x is not 0."""
    return _model(
        [make_node("NonZero", ["x"], ["y"])],
        [_tensor("x", FLOAT, [4])],
        [_tensor("y", TensorProto.INT64, [1, "found"])],
    )


def no_inputs() -> bytes:
    """No input -> float32 y [3] = 2, 4, 6."""
    constant = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "c")
    return _model([make_node("Add", ["c", "c"], ["y"])], [], [_tensor("y", FLOAT, [3])], [constant])


def aliased_outputs() -> bytes:
    """Float32 x [4] -> x itself, one = x, two = x, and constant = 1, 2, 3, 4, which is a weight of the model."""
    constant = numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "constant")
    return _model(
        [make_node("Identity", ["x"], ["one"]), make_node("Identity", ["x"], ["two"])],
        [_tensor("x", FLOAT, [4])],
        [_tensor(name, FLOAT, [4]) for name in ("x", "one", "two", "constant")],
        [constant],
    )


def same_output_twice(element: int = FLOAT) -> bytes:
    """X [3] -> y = x and again y; ONNX Runtime takes it."""
    y = _tensor("y", element, [3])
    return _model([make_node("Identity", ["x"], ["y"])], [_tensor("x", element, [3])], [y, y])


def default_input() -> bytes:
    """Float32 x [3] -> y = x + offset; offset is an input with the default 10, 20, 30."""
    offset = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "offset")
    return _model(
        [make_node("Add", ["x", "offset"], ["y"])],
        [_tensor("x", FLOAT, [3]), _tensor("offset", FLOAT, [3])],
        [_tensor("y", FLOAT, [3])],
        [offset],
    )


def sum_with_defaults(constants: int = 2, defaults: int = 3, *, sparse: bool = False, **model: Any) -> bytes:
    """Float32 x [3] -> y = x + the sum of weights c0, c1, ... = 1 and of inputs d0, d1, ... with the defaults 10.

    The inputs with defaults stand before x. A sparse d0 is 0, 10, 0.
    """
    names = [f"c{i}" for i in range(constants)], [f"d{i}" for i in range(defaults)]
    weights = [
        numpy_helper.from_array(np.full(3, value, np.float32), name)
        for value, some in zip((1, 10), names, strict=True)
        for name in some
        if not (sparse and name == "d0")
    ]
    graph = helper.make_graph(
        [make_node("Sum", ["x", *names[0], *names[1]], ["y"])],
        "odd",
        [_tensor(name, FLOAT, [3]) for name in (*names[1], "x")],
        [_tensor("y", FLOAT, [3])],
        weights,
    )
    if sparse:
        values, place = numpy_helper.from_array(np.full(1, 10, np.float32), "d0"), np.ones(1, np.int64)
        graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(place), [3]))
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], **{"ir_version": IR_VERSION, **model})
    content: bytes = made.SerializeToString()
    return content


def default_of(element: int) -> bytes:
    """X [2] and z [2] -> y = x, and z's own value 1 or "1" as "own"; z may be left out."""
    words = {"vals": [b"1", b"1"]} if element == TensorProto.STRING else {"vals": [1, 1]}
    return _model(
        [make_node("Identity", ["x"], ["y"]), make_node("Identity", ["z"], ["own"])],
        [_tensor("x", element, [2]), _tensor("z", element, [2])],
        [_tensor("y", element, [2]), _tensor("own", element, [2])],
        [helper.make_tensor("z", element, [2], **words)],
    )


def positive(said: int = 6) -> bytes:
    """Float32 x [6] -> y, those of x that are above 0; the file says that they are always `said`."""
    return _model(
        [make_node("Greater", ["x", "zero"], ["above"]), make_node("Compress", ["x", "above"], ["y"])],
        [_tensor("x", FLOAT, [6])],
        [_tensor("y", FLOAT, [said])],
        [numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )


def with_left_over_external_data(*, typed: bool = False) -> bytes:
    """Float32 x [3] -> y = x + 1, 2, 3: the weights are in the file again, and still say where they once were."""
    model = onnx.ModelProto.FromString(with_external_data("gone.bin"))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.DEFAULT
    if typed:
        tensor.float_data.extend([1, 2, 3])
        tensor.ClearField("data_location")
    else:
        tensor.raw_data = np.array([1, 2, 3], np.float32).tobytes()
    content: bytes = model.SerializeToString()
    return content


def gather() -> bytes:
    """Float32 x [3] and int64 index ["count"] -> y = x[index]; a large index fails while it runs."""
    return _model(
        [make_node("Gather", ["x", "index"], ["y"])],
        [_tensor("x", FLOAT, [3]), _tensor("index", TensorProto.INT64, ["count"])],
        [_tensor("y", FLOAT, ["count"])],
    )


def failing() -> bytes:
    """Float32 x [3] -> y [3] = 5, 5, 5 where every x is between -1 and 1; others fail as it runs, an index being none.

    The index is x without its fraction, and 5 the only value to choose from.
    """
    values = numpy_helper.from_array(np.array([5], np.float32), "values")
    return _model(
        [make_node("Cast", ["x"], ["index"], to=TensorProto.INT32), make_node("Gather", ["values", "index"], ["y"])],
        [_tensor("x", FLOAT, [3])],
        [_tensor("y", FLOAT, [3])],
        [values],
    )


def into_shape() -> bytes:
    """Float32 x [3] and int64 shape [2] -> y = x in that shape, such as [3, 1]; [0, 0] fails while it runs."""
    return _model(
        [make_node("Reshape", ["x", "shape"], ["y"])],
        [_tensor("x", FLOAT, [3]), _tensor("shape", TensorProto.INT64, [2])],
        [_tensor("y", FLOAT, [None, None])],
    )


def wrong_output_shape() -> bytes:
    """Float32 x ["n", 3] -> y, said to be [2, 3] whatever x is."""
    return _model([make_node("Abs", ["x"], ["y"])], [_tensor("x", FLOAT, ["n", 3])], [_tensor("y", FLOAT, [2, 3])])


def unknown_rank() -> bytes:
    """Float32 x and y = x + x, whose shapes the model does not give."""
    return double(None)


def halved(properties: Mapping[str, str] | None = None) -> bytes:
    """Float32 x ["batch", 3, "height", "width"] -> y, x beside its halved and doubled self.

    As in many a detector, sides that are odd, 1 among them, fail while it runs.
    """
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    return _model(
        [
            make_node("AveragePool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
            make_node("Resize", ["half", "", "scales"], ["doubled"]),
            make_node("Concat", ["x", "doubled"], ["y"], axis=1),
        ],
        [_tensor("x", FLOAT, ["batch", 3, "height", "width"])],
        [_tensor("y", FLOAT, ["batch", 6, "rows", "columns"])],
        [scales],
        properties=properties,
    )


def misnamed_output() -> bytes:
    """Float32 x ["n", "m"] -> y = x beside x, said to be ["n", "m"], too."""
    return _model(
        [make_node("Concat", ["x", "x"], ["y"], axis=1)],
        [_tensor("x", FLOAT, ["n", "m"])],
        [_tensor("y", FLOAT, ["n", "m"])],
    )


def one_name_twice() -> bytes:
    """Float32 x ["n"] -> y = x + x, and z ["n"], of another size than x if need be -> w = z + z."""
    return _model(
        [make_node("Add", ["x", "x"], ["y"]), make_node("Add", ["z", "z"], ["w"])],
        [_tensor("x", FLOAT, ["n"]), _tensor("z", FLOAT, ["n"])],
        [_tensor("y", FLOAT, ["n"]), _tensor("w", FLOAT, ["n"])],
    )


# What only tensors' neighbours are


def sequence_output() -> bytes:
    """Float32 x [2] -> y, a sequence of two tensors."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    return _model(
        [make_node("SequenceConstruct", ["x", "x"], ["y"])],
        [_tensor("x", FLOAT, [2])],
        [helper.make_value_info("y", kind)],
    )


def sequence_input() -> bytes:
    """Return the last tensor of the sequence x as y [2]."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    last = numpy_helper.from_array(np.array(-1), "last")
    return _model(
        [make_node("SequenceAt", ["x", "last"], ["y"])],
        [helper.make_value_info("x", kind)],
        [_tensor("y", FLOAT, [2])],
        [last],
    )


def optional_input() -> bytes:
    """Return the optional x as y [2]."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    return _model(
        [make_node("OptionalGetElement", ["x"], ["y"])],
        [helper.make_value_info("x", kind)],
        [_tensor("y", FLOAT, [2])],
    )


def optional_output() -> bytes:
    """Float32 x [2] -> y, an optional of it."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    return _model(
        [make_node("Optional", ["x"], ["y"])], [_tensor("x", FLOAT, [2])], [helper.make_value_info("y", kind)]
    )


def map_output() -> bytes:
    """Float32 x [1, 2] -> y, one map from class to score for each row, as scikit-learn's exporter makes by default."""
    one = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    return _model(
        [make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[7, 9])],
        [_tensor("x", FLOAT, [1, 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(one))],
        opsets={"ai.onnx.ml": 2},
    )


def map_input() -> bytes:
    """A map x from text to number -> y [1, 2], its values for two keys."""
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    return _model(
        [make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])],
        [helper.make_value_info("x", kind)],
        [_tensor("y", FLOAT, [1, 2])],
        opsets={"ai.onnx.ml": 2},
    )


# What cannot be run


def unknown_operator(domain: str = "") -> bytes:
    """Y = Mystery(x), of the standard domain or another one."""
    return _model(
        [make_node("Mystery", ["x"], ["y"], domain=domain)],
        [_tensor("x", FLOAT, [3])],
        [_tensor("y", FLOAT, [3])],
        opsets={domain: 1} if domain else {},
    )


def custom_operator() -> bytes:
    """Strings x ["n"] -> y = x in capitals, by an operator of the package onnxruntime-extensions."""
    return _model(
        [make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")],
        [_tensor("x", TensorProto.STRING, ["n"])],
        [_tensor("y", TensorProto.STRING, ["n"])],
        opsets={"ai.onnx.contrib": 1},
    )


def undeclared_domain() -> bytes:
    """Y = Mystery(x) of a domain that the model does not import."""
    return _model(
        [make_node("Mystery", ["x"], ["y"], domain="my.own")], [_tensor("x", FLOAT, [3])], [_tensor("y", FLOAT, [3])]
    )


# What the model says about itself


def with_properties(properties: Mapping[str, str], shape: Shape = (1, 3)) -> bytes:
    """Return y = x + x, with a custom metadata map."""
    return double(shape, properties=properties)


def with_doc_strings() -> bytes:
    """Return y = x + x, where the model, x and y have doc strings."""
    return _model(
        [make_node("Add", ["x", "x"], ["y"])],
        [make_tensor_value_info("x", FLOAT, ["batch", 3], doc_string="what goes in")],
        [make_tensor_value_info("y", FLOAT, ["batch", 3], doc_string="what comes out")],
        doc_string="It doubles.",
    )


# Weights in files of their own


def with_external_data(location: str, weights: int = 3) -> bytes:
    """Float32 x [weights] -> y = x + w, where w lies in the file `location`."""
    return _model(
        [make_node("Add", ["x", "w"], ["y"])],
        [_tensor("x", FLOAT, [weights])],
        [_tensor("y", FLOAT, [weights])],
        [_external("w", location, weights)],
    )


def with_external_constant(location: str, weights: int = 3) -> bytes:
    """Float32 x [weights] -> y = x + w, where w is a Constant node's value, in the file `location`."""
    return _model(
        [make_node("Constant", [], ["w"], value=_external("", location, weights)), make_node("Add", ["x", "w"], ["y"])],
        [_tensor("x", FLOAT, [weights])],
        [_tensor("y", FLOAT, [weights])],
    )


def with_external_data_in_a_branch(location: str, weights: int = 3) -> bytes:
    """Float32 x [weights] -> y = w, where w is a weight of a branch of an If, in the file `location`."""
    branches = {
        name: helper.make_graph(
            [make_node("Identity", ["w"], ["b"])], name, [], [_tensor("b", FLOAT, [weights])], [weight]
        )
        for name, weight in {
            "then_branch": _external("w", location, weights),
            "else_branch": numpy_helper.from_array(np.zeros(weights, np.float32), "w"),
        }.items()
    }
    return _model(
        [
            make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            make_node("Cast", ["sum"], ["positive"], to=TensorProto.BOOL),
            make_node("If", ["positive"], ["y"], **branches),
        ],
        [_tensor("x", FLOAT, [weights])],
        [_tensor("y", FLOAT, [weights])],
    )


def with_external_default_of_a_function(location: str, weights: int = 3) -> bytes:
    """Float32 x [weights] -> y = F(x) = x + w, where w is the default of F's attribute, in the file `location`."""
    value = onnx.AttributeProto(name="w", type=onnx.AttributeProto.TENSOR, t=_external("w", location, weights))
    constant = make_node("Constant", [], ["c"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="w")
    function = helper.make_function(
        "my.own", "F", ["a"], ["b"], [constant, make_node("Add", ["a", "c"], ["b"])],
        [helper.make_opsetid("", OPSET)], attribute_protos=[value],
    )  # fmt: skip
    model = onnx.ModelProto.FromString(
        _model(
            [make_node("F", ["x"], ["y"], domain="my.own")],
            [_tensor("x", FLOAT, [weights])],
            [_tensor("y", FLOAT, [weights])],
            opsets={"my.own": 1},
        )
    )
    model.functions.append(function)
    content: bytes = model.SerializeToString()
    return content


def with_external_data_in_two_parts(location: str, weights: int = 3) -> bytes:
    """Float32 x [weights] -> y = x + w, as `with_external_data`, its graph in two parts that protobuf merges."""
    return in_two_parts(with_external_data(location, weights))


def in_two_parts(model: bytes) -> bytes:
    """Return the same model with its graph given twice: first the weights and outputs, then the rest."""
    whole = onnx.ModelProto.FromString(model)
    graph = onnx.GraphProto(name="first", initializer=whole.graph.initializer, output=whole.graph.output)
    first = onnx.ModelProto(ir_version=whole.ir_version, graph=graph)
    for field in ("initializer", "output", "name"):
        whole.graph.ClearField(field)
    content: bytes = first.SerializeToString() + whole.SerializeToString()
    return content


def write_weights(path: Path, weights: int = 3) -> np.ndarray[Any, Any]:
    """Write what the models with external data read: 100, 101, ..."""
    values = np.arange(100, 100 + weights, dtype=np.float32)
    path.write_bytes(values.tobytes())
    return values


def _external(name: str, location: str, weights: int) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[weights], data_location=TensorProto.EXTERNAL, raw_data=b"")
    tensor.ClearField("raw_data")
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * weights))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _tensor(name: str, element: int, shape: Shape | None) -> onnx.ValueInfoProto:
    return make_tensor_value_info(name, element, shape)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    opsets: Mapping[str, int] | None = None,
    properties: Mapping[str, str] | None = None,
    doc_string: str = "",
) -> bytes:
    graph = helper.make_graph(nodes, "odd", inputs, outputs, weights)
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid(domain, version) for domain, version in {"": opset, **(opsets or {})}.items()
        ],
        ir_version=ir_version,
        doc_string=doc_string,
    )
    if properties:
        helper.set_model_props(model, dict(properties))
    content: bytes = model.SerializeToString()
    return content
