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


class _LiteRT:
    def __init__(self, path: str, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            try:
                from tflite_runtime.interpreter import Interpreter
            except ImportError:
                raise error from None
        self._interpreter = Interpreter(model_path=path, num_threads=threads)
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


class _ONNXRuntime:
    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()

    def run(self, feeds: Any) -> Any:
        named = {t.name: _scalar_if(t.shape == [], value) for t, value in zip(self._inputs, feeds)}
        return self._session.run(None, named)


class TritonPythonModel:
    """The interface of the Python backend."""

    def initialize(self, args: Any) -> None:  # noqa: D102
        if int(np.__version__.split(".")[0]) >= 2:
            _check_numpy()
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        given = config.get("parameters", {}).get("num_threads", {}).get("string_value", "")
        threads = int(given) if given else len(os.sched_getaffinity(0))
        tflite = folder / "model.tflite"
        self._runtime: Any = (
            _LiteRT(str(tflite), threads) if tflite.exists() else _ONNXRuntime(str(folder / "model.onnx"), threads)
        )
        # the configuration lists the tensors in the model's own order
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [(t["name"], pb_utils.triton_string_to_numpy(t["data_type"])) for t in config["output"]]

    def execute(self, requests: Any) -> Any:  # noqa: D102
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            feeds = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            results = self._runtime.run(feeds)
        except Exception as error:  # the other requests of this call must still be answered
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"{type(error).__name__}: {error}"))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(np.asarray(value).astype(dtype, copy=False)))
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
    """Triton has no scalars: they come as [1]."""
    return value.reshape(()) if wanted else value
