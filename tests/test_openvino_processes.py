"""OpenVINO and the processes it runs in: one that it crashes, one that it shares with its other copy, a child."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert", reason="its schema builds the TFLite models")

import odd_models
from conftest import ROOT

import accelerate
from accelerate import InferenceError

DATA = Path(accelerate.__file__).parent / "data"
WITH_PLUGIN = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxruntime", "onnxruntime_ep_openvino"))),
    reason="onnxruntime-ep-openvino is not installed; it has wheels for x86-64 only",
)
WITH_ISOLATION = pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")

# Stands before the real package, and lets it end the process where it compiles.
CRASHING = """
import os, signal, sys
here = os.path.dirname(os.path.dirname(__file__))
del sys.modules["openvino"]
sys.path.remove(here)
import openvino
sys.path.insert(0, here)

class Core(openvino.Core):
    def compile_model(self, *arguments, **named):
        os.kill(os.getpid(), signal.SIGSEGV)

openvino.Core = Core
"""


def told(code: str, limit: float = 120, /, **environment: str) -> Any:
    """Return the JSON that a program of its own prints last."""
    path = os.pathsep.join(filter(None, (environment.pop("path", ""), str(ROOT))))
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"import accelerate, json\nDATA = {str(DATA)!r}\n{textwrap.dedent(code)}",
        ],
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# One that it crashes


@pytest.fixture
def crashing(tmp_path: Path) -> dict[str, str]:
    package = tmp_path / "site" / "openvino"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CRASHING)
    return {"path": str(package.parent), "EDGE_ACCELERATE_CACHE": str(tmp_path / "cache")}


def test_a_crash_is_told_by_a_program_that_lives(crashing: dict[str, str], tmp_path: Path) -> None:
    listed = (
        "info = accelerate.list_backends()['openvino']\nprint(json.dumps([info.available, info.reason, info.remedy]))"
    )
    available, reason, remedy = told(listed, **crashing)
    assert not available
    assert "it was to compute a known answer in a child process, and the process was killed by SIGSEGV" in reason
    assert str(tmp_path / "cache") in remedy
    # and from then on no load begins it
    refused = told(
        """
        import sys
        path = DATA + "/digits_float.tflite"
        try:
            accelerate.load(path, backend="openvino")
        except accelerate.BackendNotAvailableError as error:
            said = [error.reason, error.remedy]
        plan = accelerate.plan(path)
        (row,) = (row for row in plan.skipped if row.backend == "openvino")
        print(json.dumps([said, [row.reason, row.remedy], plan.chosen.backend, "openvino" in sys.modules]))
        """,
        **crashing,
    )
    assert refused == [[reason, remedy], [reason, remedy], "tflite_cpu", False]


@pytest.mark.slow
def test_another_version_is_tried_again(crashing: dict[str, str]) -> None:
    code = "print(json.dumps(accelerate.list_backends()['openvino'].available))"
    assert told(code, **crashing) is False
    os.utime(Path(crashing["path"], "openvino", "__init__.py"), (1, 1))
    Path(crashing["path"], "openvino", "__init__.py").write_text(re.sub("class Core(?s:.*)", "", CRASHING))
    assert told(code, **crashing) is True


@pytest.mark.slow
def test_what_is_right_is_computed_once(tmp_path: Path) -> None:
    code = """
        import accelerate.system.children as children
        started, run = [], children.run_in_child
        def counted(*arguments, **named):
            started.append(arguments)
            return run(*arguments, **named)
        children.run_in_child = counted
        info = accelerate.list_backends()["openvino"]
        print(json.dumps([info.reason, sum("openvino" in one[0] for one in started)]))
        """
    cache = {"EDGE_ACCELERATE_CACHE": str(tmp_path)}
    first, again = (told(code, **cache) for _ in range(2))
    assert first[0] == again[0]
    assert first[0].endswith("computes known answers in float32, uint8 and int8")
    assert (first[1], again[1]) == (1, 0)


@pytest.mark.parametrize(("processor", "tried"), [("aarch64", 1), ("x86_64", 0)])
def test_the_first_load_tries_it_where_it_was_seen_to_crash(processor: str, tried: int, tmp_path: Path) -> None:
    code = f"""
        import platform
        import accelerate.system.children as children
        platform.machine = lambda: {processor!r}
        started, run = [], children.run_in_child
        def counted(*arguments, **named):
            started.append(arguments)
            return run(*arguments, **named)
        children.run_in_child = counted
        for _ in range(2):
            with accelerate.load(DATA + "/digits_float.tflite", backend="openvino") as model:
                assert model.backend == "openvino"
        print(json.dumps(sum("openvino" in one[0] for one in started)))
        """
    assert told(code, EDGE_ACCELERATE_CACHE=str(tmp_path)) == tried


def test_a_frozen_program_says_that_it_was_not_tried(tmp_path: Path) -> None:
    code = """
        import sys
        sys.frozen = True
        info = accelerate.list_backends()["openvino"]
        with accelerate.load(DATA + "/digits_float.tflite", backend="openvino") as model:
            print(json.dumps([info.available, info.reason, model.backend]))
        """
    available, reason, backend = told(code, EDGE_ACCELERATE_CACHE=str(tmp_path))
    assert (available, backend) == (True, "openvino")
    assert "what it computes is not known, since nothing can be tried in a child process" in reason


# One that it shares with the copy in a plugin of ONNX Runtime

BOTH = """
    import numpy as np
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    def run(name, backend, **options):
        with accelerate.load(f"{DATA}/{name}", backend=backend, **options) as model:
            info = model.metadata().inputs[0]
            (answer,) = model.infer({info.name: x.reshape([max(n, 1) for n in info.shape])}).values()
        return answer.ravel().tolist()
    def openvino(**options):
        return run("digits_float.tflite", "openvino", **options)
    def plugin():
        return run("digits.onnx", "onnxruntime", device="openvino:cpu")
    def by_the_program():
        import onnxruntime, onnxruntime_ep_openvino as own
        onnxruntime.register_execution_provider_library(own.get_ep_names()[0], own.get_library_path())
"""


@WITH_PLUGIN
@pytest.mark.slow
@pytest.mark.parametrize("order", ["plugin(), openvino(), plugin()", "openvino(), plugin(), openvino()"])
def test_it_reads_its_files_beside_the_plugin(order: str) -> None:
    one, other, again = told(f"{textwrap.dedent(BOTH)}\nprint(json.dumps([{order}]))")
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert one == again


@WITH_PLUGIN
@WITH_ISOLATION
@pytest.mark.slow
def test_what_the_plugins_copy_does_not_read_is_refused_where_that_came_first() -> None:
    code = f"""{textwrap.dedent(BOTH)}
by_the_program()
try:
    openvino()
except accelerate.BackendNotAvailableError as error:
    said = str(error)
# it reads .onnx files, and a process of its own has the whole of OpenVINO
print(json.dumps([said, run("digits.onnx", "openvino"), openvino(isolation="process"), plugin()]))
"""
    said, onnx, isolated, plugged = told(code)
    assert "another package has loaded its own copy of OpenVINO into this program" in said
    assert "onnxruntime_ep_openvino" in said
    assert "load(..., isolation='process')" in said
    for answer in (isolated, plugged):
        np.testing.assert_allclose(answer, onnx, atol=1e-5)


# A child


@WITH_ISOLATION
@pytest.mark.slow
def test_replicas_and_bindings_in_children() -> None:
    given: dict[str, Any] = {"backend": "openvino", "isolation": "process", "num_threads": 1}
    x = np.random.default_rng(1).uniform(-1, 1, 6).astype(np.float32)
    with accelerate.load(odd_models.add3(), replicas=2, **given) as model:
        (tensor,) = model.metadata().inputs
        x = np.resize(x, tensor.shape)
        for _ in range(4):
            np.testing.assert_array_equal(model.infer({"x": x})["y"], x + x)
    with accelerate.load(odd_models.add3(), **given) as model:
        assert model.runtime.details["isolation"] == "process"
        with model.bind() as binding:
            for factor in (1, 2):
                binding.inputs["x"][...] = factor * x
                binding.run()
                np.testing.assert_array_equal(binding.outputs["y"], 2 * factor * x)


@WITH_ISOLATION
@pytest.mark.slow
def test_a_killed_child_is_an_error_of_one_call() -> None:
    x = np.random.default_rng(2).uniform(-1, 1, 6).astype(np.float32)
    with accelerate.load(odd_models.add3(), backend="openvino", isolation="process", num_threads=1) as model:
        (tensor,) = model.metadata().inputs
        x = np.resize(x, tensor.shape)
        before = model.infer({"x": x})["y"]
        pid = model.runtime.details["pid"]
        os.kill(pid, signal.SIGKILL)
        try:  # a child that is found dead before a call begins is replaced without an error
            model.infer({"x": x})
        except InferenceError as error:
            assert "SIGKILL" in str(error)  # noqa: PT017
        np.testing.assert_array_equal(model.infer({"x": x})["y"], before)
        assert model.runtime.details["pid"] not in (None, pid)
    gc.collect()


FORKED = """
    import os, numpy as np, openvino
    from accelerate.errors import AccelerateError
    path = DATA + "/digits_float.tflite"
    given = dict(backend="openvino", num_threads=1)
    x = np.ones((1, 8, 8, 1), np.float32)
    several = {"config": {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 2}}
    models = {
        "plain": accelerate.load(path, **given),
        "auto": accelerate.load(path, device="auto", **given),
        "adopted": accelerate.load(openvino.Core().compile_model(path, "AUTO")),
        "streams": accelerate.load(path, **several, **{**given, "num_threads": 2}),
    }
    bindings = {name: model.bind() for name, model in models.items()}
    wanted = models["plain"].infer(x)["scores"]
    def told(call):
        try:
            answer = call()
        except AccelerateError as error:
            return type(error).__name__, error.reason
        return "" if answer is None or np.allclose(answer, wanted, atol=1e-3) else repr(answer)
    read, write = os.pipe()
    if not os.fork():
        said = {
            name: [
                told(lambda: model.infer(x)["scores"]),
                told(lambda: model.infer(x, timeout=9)["scores"]),
                told(bindings[name].run),
                told(lambda: bindings[name].run(timeout=9)),
                told(lambda: model.bind() and None),
            ]
            for name, model in models.items()
        }
        said["load"] = told(lambda: accelerate.load(path, **given).infer(x)["scores"])
        with %s as model:
            said["isolated"] = told(lambda: model and model.infer(x)["scores"])
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        print(file.read())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_runs_what_needs_no_threads_and_hangs_at_nothing() -> None:
    isolated = "accelerate.load(path, isolation='process', **given)" if sys.platform == "linux" else "models['plain']"
    said = told(FORKED % isolated)
    assert said.pop("plain") == [""] * 5
    assert said.pop("isolated") == ""
    error, reason = said.pop("load")
    assert (error, reason[:26]) == ("BackendNotAvailableError", "OpenVINO was started in th")
    assert set(said) == {"auto", "adopted", "streams"}
    for outcomes in said.values():
        assert len(outcomes) == 5
        for error, reason in outcomes:
            assert error == "InferenceError"
            assert "waits for threads of OpenVINO's that are missing here" in reason


# A process for long


@pytest.mark.long
def test_a_thousand_loads_leave_little() -> None:
    """The figure of issue 16; ``benchmarks.openvino`` has the same for a table."""
    code = """
        import gc, os
        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        def load(n):
            for _ in range(n):
                with accelerate.load(DATA + "/digits_uint8.tflite", backend="openvino", num_threads=1) as model:
                    model.warmup()
        load(100)
        before = resident()
        load(1000)
        print(json.dumps(resident() - before))
        """
    assert told(code, 900) < 5.0
