"""Models in a process that forks, as servers with a preloaded application do: the child closes, calls and ends."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import engines
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

#: A program: it forks off a child for each thing that one may do, and says how the children ended.
PROGRAM = """
import gc, os, sys, threading, time
{first}
import numpy as np
import accelerate

def load(threads, **more):
    model = accelerate.load({model}, backend={backend!r}, num_threads=threads, **more)
    return model, {{t.name: np.random.default_rng(1).random(t.shape, np.float32) for t in model.metadata().inputs}}

def forked(do):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        outcome = do()
        print(do.__name__, outcome)  # which is written as the interpreter ends
        sys.exit(7)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"

{body}
sys.stdout.flush()
os._exit(0)  # the parent's own end is not the matter
"""

ALL = """
for threads in (1, 4):
    model, inputs = load(threads)
    double, _ = load(threads, replicas=2)
    binding = model.bind()
    for name, value in inputs.items():
        binding.inputs[name][...] = value
    binding.run()
    wanted = model.infer(inputs)
    model.infer(inputs, timeout=60)  # there is a worker thread

    def same(outputs):
        return all(np.array_equal(outputs[name], value) for name, value in wanted.items())

    def close():
        for one in (binding, model, double):
            one.close()
        try:
            model.infer(inputs)
        except accelerate.ClosedError as error:
            return "closed" in str(error)

    def forget():
        global model, double, binding
        model = double = binding = None
        return gc.collect() >= 0

    def infer():
        return same(model.infer(inputs)) and same(double.infer(inputs))

    def infer_within():
        return same(model.infer(inputs, timeout=60)) and same(double.infer(inputs, timeout=60))

    def run():
        binding.run()
        return same(binding.outputs)

    def load_another():
        other, _ = load(threads)
        with other:
            return same(other.infer(inputs, timeout=60))

    def fork_again():
        return forked(close) == 7

    for do in (close, forget, infer, infer_within, run, load_another, fork_again):
        print(threads, do.__name__, forked(do), same(model.infer(inputs)))
"""

BUSY = """
model, inputs = load(1)
double, _ = load(1, replicas=2)
busy = [threading.Thread(target=one.infer, args=(inputs,)) for one in (model, double, double)]
for thread in busy:
    thread.start()
time.sleep(0.05)

def call():
    said = []
    for one in (model, double):
        for timeout in (None, 5):
            try:
                one.infer(inputs, timeout=timeout)
            except accelerate.ClosedError as error:
                said.append("at work for another thread when this process was forked; load it again" in str(error))
    return said

print("0 call", forked(call), model.infer(inputs)["y"].shape)
for thread in busy:
    thread.join()
"""


def run(model: str, backend: str, body: str, *, first: str = "") -> list[str]:
    program = PROGRAM.format(first=first, model=model, backend=backend, body=body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


NEEDS_ONNX = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))),
    reason="ONNX Runtime or the package onnx is missing",
)
NEEDS_OPENVINO = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="OpenVINO is missing")
NEEDS_TFLITE = pytest.mark.skipif(not engines.INSTALLED, reason="no TFLite engine is installed")


@pytest.mark.parametrize(
    ("model", "backend", "first"),
    [
        pytest.param("odd_onnx.convolution()", "onnxruntime", "import odd_onnx", marks=NEEDS_ONNX, id="onnxruntime"),
        pytest.param(
            "odd_onnx.convolution()",
            "onnxruntime",
            "import odd_onnx, onnxruntime",
            marks=NEEDS_ONNX,
            id="onnxruntime, imported before",
        ),
        pytest.param(
            "odd_models.add3()", "tflite_cpu", "import odd_models", marks=NEEDS_TFLITE, id="tflite_cpu"
        ),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_child_closes_calls_and_outlives_its_parents_models(model: str, backend: str, first: str) -> None:
    lines = run(model, backend, ALL, first=first)
    names = ("close", "forget", "infer", "infer_within", "run", "load_another", "fork_again")
    seen = [line for line in lines if line[0].isdigit()]
    assert seen == [f"{threads} {name} 7 True" for threads in (1, 4) for name in names]
    told = [line for line in lines if not line[0].isdigit()]
    assert len(told) == 16
    assert all(line.endswith(" True") for line in told)


@NEEDS_TFLITE
def test_a_model_that_was_at_work_says_so_in_the_child() -> None:
    lines = run("odd_models.slow(0.3)", "tflite_cpu", BUSY, first="import odd_models")
    assert lines == ["call [True, True, True, True]", "0 call 7 (1,)"]


#: OpenVINO's threads are the process's, not a model's: what needs them is refused in a child, where it would hang.
OF_ONE_STREAM = """
def without(call):
    try:
        call()
    except accelerate.AccelerateError as error:
        return type(error).__name__, error.remedy != ""

for threads in (1, 4):
    model, inputs = load(threads)
    binding = model.bind()
    for name, value in inputs.items():
        binding.inputs[name][...] = value
    binding.run()
    wanted = model.infer(inputs)
    model.infer(inputs, timeout=60)
    double, _ = load(threads, replicas=2)
    double_binding = double.bind()
    double.infer(inputs)

    def same(outputs):
        return all(np.array_equal(outputs[name], value) for name, value in wanted.items())

    def close():
        for one in (binding, model, double):
            one.close()
        return True

    def forget():
        global model, double, binding, double_binding
        model = double = binding = double_binding = None
        return gc.collect() >= 0

    def calls():
        binding.run(timeout=60)
        return same(model.infer(inputs)) and same(model.infer(inputs, timeout=60)) and same(binding.outputs)

    def replicas():
        return without(lambda: double.infer(inputs)), without(double_binding.run), without(double.bind)

    def load_another():
        return without(lambda: load(threads))

    for do in (close, forget, calls, replicas, load_another):
        print(threads, do.__name__, forked(do), same(model.infer(inputs)))
"""


@NEEDS_OPENVINO
@pytest.mark.slow
def test_what_needs_the_parents_threads_is_refused() -> None:
    lines = run("odd_models.add3()", "openvino", OF_ONE_STREAM, first="import odd_models")
    names = ("close", "forget", "calls", "replicas", "load_another")
    assert [line for line in lines if line[0].isdigit()] == [f"{n} {name} 7 True" for n in (1, 4) for name in names]
    refused = "(('InferenceError', True), ('InferenceError', True), ('InferenceError', True))"
    told = ["close True", "forget True", "calls True", f"replicas {refused}"]
    assert [line for line in lines if not line[0].isdigit()] == [
        *told, "load_another ('BackendNotAvailableError', True)",
    ] * 2  # fmt: skip
