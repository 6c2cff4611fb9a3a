"""TFLite, ONNX and OpenVINO IR models by OpenVINO: a whole backend for a real runtime, as a stranger writes it."""

from __future__ import annotations

import functools
import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np

from accelerate.contract import (
    ASSUMED_NORMALIZATION,
    Array,
    Availability,
    Backend,
    Binding,
    CopyingBinding,
    Device,
    LoadOptions,
    Match,
    Model,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    blank,
    check_settled,
    default_threads,
    describe_source,
    held_back,
    interface_of,
    name_tensors,
    refusal,
    try_runtime,
)
from accelerate.errors import AccelerateError, ModelError, OptionError, UnsupportedModelError, one_line
from accelerate.metadata import Metadata, TensorInfo

#: What OpenVINO calls the types that it exchanges with NumPy as they are.
_TYPES = {
    "boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
#: What it writes to stderr while it tries its readers, one after another, on a file.
_LINES = re.compile(rb"WARNING: All log messages before absl|E\d{4} [\d:.]+ +\d+ text_format\.cc")
#: OpenVINO raises RuntimeError for nearly all; its text ends with the cause.
_ERRORS = {"No translator found": UnsupportedModelError, "property": OptionError}
_READS = {"tflite": "a TFLite model", "onnx": "an ONNX model", "openvino": "an OpenVINO IR model"}


class OpenVINO(Backend):
    """See the module."""

    name = "openvino_stranger"
    description = "TFLite, ONNX and OpenVINO IR models on CPUs, GPUs and NPUs, by OpenVINO"
    extra = ""
    options = ("config",)
    formats: ClassVar[Mapping[str, str]] = {"openvino": _READS["openvino"]}

    @classmethod
    def sniff(cls, head: bytes) -> str:
        return "openvino" if re.match(rb"\s*(<\?xml[^>]*>\s*)?<net\s", head) else ""

    def kinds(self) -> Sequence[str]:
        shown = {"gpu": glob.glob("/dev/dri/renderD*"), "npu": glob.glob("/dev/accel/accel*")}
        return (*(kind for kind, nodes in shown.items() if nodes), "cpu")

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.holds("openvino", "CompiledModel"):
            check_settled(options, "CompiledModel")
        elif source.format not in _READS:
            return refusal(source, *_READS.values())
        elif source.format == "openvino" and source.path is None:
            return Match(False, "an IR's weights are in a .bin file beside it", "give the path of the .xml file")
        config = options.backend_options.get("config") or {}
        if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
            raise OptionError(f"config is {config!r:.60}; wanted {{OpenVINO's name of a property: value}}")
        if options.signature is not None:
            told = interface_of(source, options.signature)
            if told is None or told.subgraph:
                raise OptionError(f"OpenVINO runs the main graph, not signature {options.signature!r}", "leave it out")
        return Match(True, "a CompiledModel" if source.format == "object" else _READS[source.format])

    def availability(self) -> Availability:
        return try_runtime("OpenVINO", "openvino", "pip install openvino", _version, _known_answer)

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        return try_runtime("OpenVINO", "openvino", "pip install openvino", _version)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        found = [(name, _device_id(name)) for name in _core().available_devices]
        return [
            Device(self.name, device, device.partition(":")[0], str(_core().get_property(name, "FULL_DEVICE_NAME")))
            for name, device in sorted(found, key=lambda pair: pair[1] == "cpu")
        ]

    def load(self, source: Source, options: LoadOptions) -> Model:
        return self.load_replicas(source, options, 1)[0]

    def load_replicas(self, source: Source, options: LoadOptions, count: int) -> list[Model]:
        compiled = source.object if source.format == "object" else _compile(source, options, count)
        told = self.describe(source, options.signature)
        return [OpenVINOModel(compiled, source, told, options) for _ in range(count)]

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        kind = next((kind for mark, kind in _ERRORS.items() if mark in str(error)), ModelError)
        return kind(f"OpenVINO refuses {source}: {' '.join(str(error).split())[-300:]}")

    def describe(self, source: Source, signature: str | None) -> Metadata:
        if source.format == "openvino":
            return _read_ir(source)
        return describe_source(source, signature) or _ports(source.object)


class OpenVINOModel(RuntimeModel):
    """One request of a compiled model, which replicas share."""

    def __init__(self, compiled: Any, source: Source, told: Metadata, options: LoadOptions) -> None:
        self._compiled, self._told, self._request = compiled, told, compiled.create_infer_request()
        self.assumed_normalization = ASSUMED_NORMALIZATION if source.format == "tflite" else None
        inputs, outputs = (
            [_settled(port, info) for port, info in zip(*side, strict=True)]
            for side in ((compiled.inputs, told.required_inputs), (compiled.outputs, told.outputs))
        )
        given = set().union(*(port.get_names() for port in compiled.inputs))
        # a larger output than the one that is bound is lost, and one that is an input is never written
        fixed = all(min(t.shape, default=0) >= 0 for t in outputs)
        self._shares = fixed and not any(port.get_names() & given for port in compiled.outputs)
        device = _device_id(compiled.get_property("EXECUTION_DEVICES")[0])
        details = {"adopted": True} if source.format == "object" else {"num_threads": default_threads(options)}
        runtime = RuntimeInfo("OpenVINO", _version(), device, details=details)
        super().__init__(OpenVINO.name, inputs, outputs, runtime, options)

    def execute(self, feeds: list[Array]) -> list[Array]:
        request = self._request  # a call that runs keeps it alive after close()
        return self._filled(request, feeds, lambda: request.infer(share_outputs=True))

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None]]:
        request = self._request
        return lambda: self._filled(request, feeds, lambda: _run_async(request)), request.cancel

    def _filled(self, request: Any, feeds: list[Array], run: Callable[[], object]) -> list[Array]:
        for position, feed in enumerate(feeds):
            tensor = request.get_input_tensor(position)
            if tensor.shape != feed.shape:
                tensor.shape = feed.shape
            tensor.data[...] = feed
        run()
        return [request.get_output_tensor(i).data.copy() for i in range(len(self.outputs))]

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        inputs = allocate(self.inputs, self.input_index, shapes)
        if self._shares and self.device == "cpu":
            return SharedBinding(self, self._compiled.create_infer_request(), inputs)
        return CopyingBinding(self, self.run, inputs, self.outputs)

    def describe(self) -> Metadata:
        return replace(self._told, inputs=self.inputs, outputs=self.outputs)

    def release(self) -> None:
        self._request = self._compiled = None


class SharedBinding(Binding):
    """A request that reads and writes the arrays themselves."""

    def __init__(self, model: OpenVINOModel, request: Any, inputs: dict[str, Array]) -> None:
        from openvino import Tensor

        outputs = {t.name: blank(t, t.shape) for t in model.outputs}
        # a tensor keeps its array alive, the request does not
        self._tensors = [[Tensor(array, shared_memory=True) for array in side.values()] for side in (inputs, outputs)]
        for position, tensor in enumerate(self._tensors[0]):
            request.set_input_tensor(position, tensor)
        for position, tensor in enumerate(self._tensors[1]):
            request.set_output_tensor(position, tensor)
        self._request = request
        super().__init__(model, inputs, outputs, zero_copy=True)

    def step(self) -> None:
        self._request.infer(share_outputs=True)

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None]]:
        return functools.partial(_run_async, self._request), self._request.cancel


def _run_async(request: Any) -> None:
    """Run so that ``cancel`` is obeyed, which ``infer`` ignores."""
    request.start_async()
    request.wait()


@functools.cache
def _core() -> Any:
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a file that is cut short under a mapping ends the process
    return core


def _version() -> str:
    import openvino

    return str(openvino.__version__.partition("-")[0])


def _known_answer() -> str:
    from openvino import Model, opset13

    x = opset13.parameter([2], np.float32)
    answer = _core().compile_model(Model([opset13.relu(x)], [x]), "CPU")(np.array([-1, 2], np.float32))[0]
    return "" if answer.tolist() == [0, 2] else f"relu of -1 and 2 is {answer.tolist()}"


def _compile(source: Source, options: LoadOptions, count: int) -> Any:
    device = next(name for name in _core().available_devices if _device_id(name) == options.device)
    config: dict[str, Any] = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        config |= {"INFERENCE_NUM_THREADS": default_threads(options) * count}
    if count > 1:
        config |= {"NUM_STREAMS": count}
    config |= options.backend_options.get("config") or {}
    read = _core().read_model
    with held_back(_LINES):
        if source.format == "tflite":
            with source.as_path(".tflite") as path:
                model = read(str(path))
        else:
            model = read(source.read() if source.path is None else str(source.path))
    return _core().compile_model(model, device, config)


def _device_id(name: str) -> str:
    return name.lower().replace(".", ":")


def _settled(port: Any, told: TensorInfo) -> TensorInfo:
    """Return what a file says of a tensor with the type and the shape that OpenVINO has worked out."""
    kind, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
    if kind not in _TYPES or shape.rank.is_dynamic:
        raise UnsupportedModelError(
            f"OpenVINO exchanges tensor {told.name!r}, of type {kind} and shape {shape}, not with NumPy",
            "convert the model with tensors of a common type and a known rank",
        )
    return replace(told, data_type=_TYPES[kind], shape=tuple(n.get_length() if n.is_static else -1 for n in shape))


def _named(names: Sequence[Sequence[str]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(name, aliases) for name, aliases in name_tensors(names))


def _ports(compiled: Any) -> Metadata:
    inputs, outputs = ([sorted(port.get_names()) for port in side] for side in (compiled.inputs, compiled.outputs))
    return Metadata("", "", "", _named(inputs), _named(outputs))


def _read_ir(source: Source) -> Metadata:
    """Read the tensors from an IR's XML: the ports of its Parameters, and those of its Results."""
    try:
        root = ElementTree.fromstring(source.read())
        layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
        led = {e.attrib["to-layer"]: (e.attrib["from-layer"], e.attrib["from-port"]) for e in root.iter("edge")}
        sides: dict[str, list[tuple[ElementTree.Element, ElementTree.Element]]] = {"Parameter": [], "Result": []}
        for number, layer in layers.items():
            if (kind := layer.get("type")) in sides:
                maker, port = (number, "0") if kind == "Parameter" else led[number]
                ports = layers[maker].iterfind("output/port")
                sides[kind].append((layers[maker], next(one for one in ports if one.get("id") == port)))
        return Metadata(root.get("name", ""), "", "", _ir_tensors(sides["Parameter"]), _ir_tensors(sides["Result"]))
    except (ElementTree.ParseError, KeyError, ValueError, StopIteration) as error:
        raise ModelError(f"{source} is damaged: {one_line(error)}", "fetch or convert it again") from error


def _ir_tensors(ports: Sequence[tuple[ElementTree.Element, ElementTree.Element]]) -> tuple[TensorInfo, ...]:
    named = _named(
        [(*sorted(filter(None, port.get("names", "").split(","))), layer.get("name", "")) for layer, port in ports]
    )
    kinds = [port.get("precision", "").lower().replace("fp", "f").replace("bool", "boolean") for _, port in ports]
    shapes = [tuple(int(dim.text or "") for dim in port.iterfind("dim")) for _, port in ports]
    return tuple(
        replace(info, data_type=_TYPES.get(kind, kind), shape=shape)
        for info, kind, shape in zip(named, kinds, shapes, strict=True)
    )
