"""Runs the model.tflite or model.onnx beside this file on the CPU, by LiteRT or ONNX Runtime.

Triton's Python backend imports this file under the name ``model``, in the Python of the server, where neither this
package nor its Python version can be relied on (an image for JetPack 5 has Python 3.8).
"""

# ruff: noqa: B905 - zip(strict=) is newer than that

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


def _interpreter(path: str, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise error from None
    return Interpreter(model_path=path, num_threads=threads)


class _LiteRT:
    def __init__(self, path: str, threads: int) -> None:
        self._interpreter = _interpreter(path, threads)
        self._allocate()

    def run(self, feeds: Any) -> Any:
        feeds = [_scalar_if(len(d["shape"]) == 0, value) for d, value in zip(self._inputs, feeds)]
        # the shape of a string tensor comes with its value
        changed = [
            (detail["index"], value.shape)
            for detail, value in zip(self._inputs, feeds)
            if tuple(detail["shape"]) != value.shape and value.dtype != object
        ]
        if changed:
            for index, shape in changed:
                self._interpreter.resize_tensor_input(index, shape)
            self._allocate()
        for detail, value in zip(self._inputs, feeds):
            self._interpreter.set_tensor(detail["index"], value)
        self._interpreter.invoke()
        return [self._output(detail) for detail in self._interpreter.get_output_details()]

    def _allocate(self) -> None:
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()

    def _output(self, detail: Any) -> Any:
        if 0 in detail["shape"]:  # which the interpreter refuses to copy out
            return np.empty(detail["shape"], detail["dtype"])
        return np.asarray(self._interpreter.get_tensor(detail["index"]))


class _Signature:
    """One of the functions of a TFLite model.

    `inputs` and `outputs` give the position of each of its names among the tensors of its graph.
    """

    def __init__(self, path: str, threads: int, key: str, inputs: Any, outputs: Any) -> None:
        self._interpreter = _interpreter(path, threads)
        self._interpreter.allocate_tensors()
        self._runner = self._interpreter.get_signature_runner(key)
        self._inputs, self._outputs = inputs, {at: name for name, at in outputs.items()}

    def run(self, feeds: Any) -> Any:
        details = self._runner.get_input_details()
        results = self._runner(
            **{
                name: _scalar_if(len(details[name]["shape"]) == 0, feeds[position])
                for name, position in self._inputs.items()
            }
        )
        return [results[self._outputs[position]] for position in sorted(self._outputs)]


class _ONNXRuntime:
    def __init__(self, path: str, threads: int, inputs: Any) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        known = {t.name: t for t in [*self._session.get_inputs(), *self._session.get_overridable_initializers()]}
        self._inputs = [known[name] for name in inputs]

    def run(self, feeds: Any) -> Any:
        named = {
            t.name: _text(t.name, _scalar_if(t.shape == [], value))
            for t, value in zip(self._inputs, feeds)
            if value is not None
        }
        return [_encoded(value) for value in self._session.run(None, named)]


class TritonPythonModel:
    """The interface of the Python backend."""

    def initialize(self, args: Any) -> None:
        if int(np.__version__.split(".")[0]) >= 2:
            _check_numpy()
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        threads = int(given["num_threads"]) if "num_threads" in given else len(os.sched_getaffinity(0))
        # the configuration lists the tensors in the model's own order
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [(t["name"], pb_utils.triton_string_to_numpy(t["data_type"])) for t in config["output"]]
        tflite = folder / "model.tflite"
        self._runtime: Any
        if not tflite.exists():
            self._runtime = _ONNXRuntime(str(folder / "model.onnx"), threads, self._inputs)
        elif "signature" in given:
            self._runtime = _Signature(str(tflite), threads, **json.loads(given["signature"]))
        else:
            self._runtime = _LiteRT(str(tflite), threads)

    def execute(self, requests: Any) -> Any:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            given = [pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs]
            # an optional input may be left out
            feeds = [None if tensor is None else tensor.as_numpy() for tensor in given]
            results = self._runtime.run(feeds)
        except Exception as error:  # the other requests of this call must still be answered
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"{type(error).__name__}: {error}"))
        return pb_utils.InferenceResponse(
            [
                # not numpy.ascontiguousarray, which makes an array of one element of a scalar
                pb_utils.Tensor(name, np.asarray(np.asarray(value).astype(dtype, copy=False), order="C"))
                for (name, dtype), value in zip(self._outputs, results)
            ]
        )


def _check_numpy() -> None:
    """Refuse to compute on nonsense: built for numpy 1, a Python backend reads and writes wrong values with numpy 2."""
    wanted = np.arange(3, dtype=np.float32)
    # a way through the backend's own memory and back, which with numpy 1 nobody needs
    seen = pb_utils.Tensor.from_dlpack("probe", pb_utils.Tensor("probe", wanted).to_dlpack()).as_numpy()
    if not np.array_equal(seen, wanted):
        raise RuntimeError(
            f"numpy {np.__version__} in the server's Python does not fit this Triton release, which reads wrong values "
            "with it; there: pip install 'numpy<2'"
        )


def _scalar_if(wanted: bool, value: Any) -> Any:
    """Triton takes no scalars: they come as [1]."""
    return value.reshape(()) if wanted else value


def _text(name: str, value: Any) -> Any:
    """Return bytes as the text that ONNX Runtime wants (it would write them as "b'...'")."""
    if value.dtype != object:
        return value
    text = np.empty(value.shape, object)
    try:
        text.reshape(-1)[:] = [word.decode() for word in value.ravel()]
    except UnicodeDecodeError as error:
        raise ValueError(f"input {name!r} holds bytes that are no UTF-8 ({error.reason})") from error
    return text


def _encoded(value: Any) -> Any:
    """Return text as the bytes that Triton's strings are."""
    value = np.asarray(value)
    if value.dtype != object:
        return value
    encoded = np.empty(value.shape, object)
    encoded.reshape(-1)[:] = [word.encode() for word in value.ravel()]
    return encoded
