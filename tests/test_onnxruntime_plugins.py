"""ONNX Runtime's plugin providers: OpenVINO's on the CPU, and libraries that cannot be registered.

The libraries that crash are built here with `cc`; they lie in distributions of their own, as pip would install them.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate import (
    DeviceNotFoundError,
    InferenceTimeoutError,
    Model,
    OptionError,
    TensorError,
    UnsupportedModelError,
)
from accelerate.system.wheels import Here

onnxruntime: Any = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import odd_onnx  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from accelerate.backends.onnxruntime import plugin_packages, plugins  # noqa: E402

TESTS = Path(__file__).parent
DIGITS = Path(accelerate.__file__).parent / "data" / "digits.onnx"
OPENVINO = "OpenVINOExecutionProvider"
TAKES_PLUGINS = hasattr(onnxruntime, "register_execution_provider_library")
NEEDS_PLUGINS = pytest.mark.skipif(
    not TAKES_PLUGINS, reason=f"onnxruntime {onnxruntime.__version__} takes no plugins, 1.23 does"
)
NEEDS_OPENVINO = pytest.mark.skipif(
    not TAKES_PLUGINS or importlib.util.find_spec("onnxruntime_ep_openvino") is None,
    reason="onnxruntime-ep-openvino is not installed; it has wheels for x86-64 only",
)


def load(model: Any = DIGITS, device: str | None = "openvino:cpu", **options: Any) -> Model:
    return accelerate.load(model, backend="onnxruntime", device=device, **options)


def child(code: str, *, path: Path | None = None, cache: Path | None = None) -> Any:
    """Run code in a fresh Python; return what it prints as JSON on its last line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, TESTS))))}
    if cache is not None:
        environment["EDGE_ACCELERATE_CACHE"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", "import accelerate, json, os, sys\n" + code],
        cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def pixels(count: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).standard_normal((count, 1, 8, 8), np.float32)


def chain(*operators: str) -> bytes:
    """Return a model of operators in a row; "Scaler" is one that OpenVINO does not have."""
    names = ["x", *(f"t{i}" for i in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(op, [before], [after], domain="ai.onnx.ml", offset=[0.5], scale=[2.0])
        if op == "Scaler"
        else helper.make_node(op, [before], [after])
        for op, before, after in zip(operators, names, names[1:], strict=False)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model: bytes = helper.make_model(
        helper.make_graph(nodes, "chain", [x], [y]), opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return model


# Found, listed, chosen


@NEEDS_OPENVINO
def test_a_plugin_is_listed_with_its_device() -> None:
    (row,) = (d for d in accelerate.list_devices() if d.backend == "onnxruntime" and d.id.startswith("openvino"))
    assert (row.id, row.kind, row.ready, row.reason, row.remedy) == ("openvino:cpu", "cpu", True, "", "")
    assert row.name.endswith(", by OpenVINO")
    assert row.aliases == ("openvino:cpu:0", "openvino")


@NEEDS_OPENVINO
def test_auto_neither_chooses_nor_starts_a_plugin() -> None:
    answer = child(f"""
model = accelerate.load({str(DIGITS)!r}, backend="onnxruntime")
import onnxruntime
print(json.dumps([model.device, [c.device for c in accelerate.plan({str(DIGITS)!r}, backend="onnxruntime").candidates],
                  sorted(d.ep_name for d in onnxruntime.get_ep_devices()), "onnxruntime_ep_openvino" in sys.modules,
                  "accelerate.backends.onnxruntime.plugins" in sys.modules]))
""")
    assert answer == ["cpu", ["cpu"], ["CPUExecutionProvider"], False, False]


@NEEDS_OPENVINO
def test_a_kind_that_is_here_without_plugins_starts_none() -> None:
    with load(device="cpu") as model:
        assert model.device == "cpu"
    assert [c.device for c in accelerate.plan(DIGITS, backend="onnxruntime", device="cpu").candidates] == ["cpu"]


@NEEDS_OPENVINO
def test_tune_is_told_of_a_plugins_devices() -> None:
    from accelerate.registry import find
    from accelerate.reports import LoadOptions

    assert "openvino:cpu" in find("onnxruntime").named_devices(LoadOptions())


def test_what_is_installed_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, packages in (
        ("onnxruntime_ep_warp-0.1", None),
        ("onnxruntime_ep_nv_tensorrt_rtx_cu13-0.5.0", "onnxruntime_ep_nv_tensorrt_rtx\n"),
        ("onnxruntime_ep_meta-1.0", "\n"),  # brings nothing but what it requires
        ("onnxruntime_gpu-1.32.0", "onnxruntime\n"),
    ):
        (tmp_path / f"{name}.dist-info").mkdir()
        if packages is not None:
            (tmp_path / f"{name}.dist-info" / "top_level.txt").write_text(packages)
    for package in ("onnxruntime_ep_warp", "onnxruntime_ep_nv_tensorrt_rtx"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = {p.package: (p.name, p.distribution, p.version) for p in plugin_packages.installed()}
    assert found.pop("onnxruntime_ep_warp") == ("warp", "onnxruntime-ep-warp", "0.1")
    rtx = ("tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "0.5.0")
    assert found.pop("onnxruntime_ep_nv_tensorrt_rtx") == rtx
    assert not {"onnxruntime", "onnxruntime_ep_meta"} & found.keys()


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        (OPENVINO, "openvino"), ("QNNExecutionProvider", "qnn"), ("WebGpuExecutionProvider", "webgpu"),
        ("NvTensorRTRTXExecutionProvider", "tensorrt_rtx"), ("onnxruntime_qnn", "qnn"), ("onnxruntime_ep_mlx", "mlx"),
        ("OpenVINOExecutionProvider.AUTO", "openvino"), ("onnxruntime_ep_nv_tensorrt_rtx", "tensorrt_rtx"),
    ],
)  # fmt: skip
def test_short_names(provider: str, name: str) -> None:
    assert plugin_packages.short_name(provider) == name


@pytest.mark.parametrize(
    ("name", "here", "remedy"),
    [
        ("openvino", Here((3, 11), "linux x86_64", (2, 36)), "pip install onnxruntime-ep-openvino"),
        ("openvino", Here((3, 11), "linux aarch64", (2, 36)), "no wheel .* linux x86_64 or win32 amd64"),
        ("qnn", Here((3, 12), "linux aarch64", (2, 39)), "pip install onnxruntime-qnn"),
        ("qnn", Here((3, 12), "linux aarch64", (2, 31)), "no wheel .*glibc 2.35"),
        ("webgpu", Here((3, 14), "darwin arm64", ()), "pip install onnxruntime-ep-webgpu"),
        ("webgpu", Here((3, 15), "linux x86_64", (2, 36)), "no wheel .*Python 3.14 or older"),
        ("tensorrt_rtx", Here((3, 12), "linux armv7l", (2, 36)), "no wheel"),
        ("warp", Here((3, 12), "linux x86_64", (2, 36)), "^$"),
    ],
)
def test_remedies_are_commands_that_can_succeed(
    name: str, here: Here, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Here, "now", classmethod(lambda cls: here))
    monkeypatch.setattr(sys, "version_info", (*here.python, 0, "final", 0))
    assert re.search(remedy, plugin_packages.remedy_for(name))
    monkeypatch.undo()


@NEEDS_PLUGINS
@pytest.mark.parametrize("device", ["qnn:npu", "tensorrt_rtx:gpu", "webgpu"])
def test_a_plugin_that_is_missing_is_named_with_its_remedy(device: str) -> None:
    if device.partition(":")[0] in {plugin.name for plugin in plugin_packages.installed()}:
        pytest.skip(f"the plugin for {device} is installed here")
    with pytest.raises(DeviceNotFoundError) as caught:
        load(device=device)
    assert caught.value.reason == f"no plugin of ONNX Runtime that has {device} is installed"
    assert caught.value.remedy.startswith(("pip install onnxruntime-", "there is no wheel of onnxruntime-"))
    (skipped,) = accelerate.plan(DIGITS, backend="onnxruntime", device=device).skipped
    assert (skipped.reason, skipped.remedy) == (caught.value.reason, caught.value.remedy)


# What runs


@NEEDS_OPENVINO
def test_answers_are_the_cpus_and_all_operators_are_delegated() -> None:
    x = pixels()
    with load() as model, load(device="cpu") as reference:
        assert (model.device, model.runtime.delegated, model.runtime.total) == ("openvino:cpu", 5, 5)
        assert model.runtime.details["nodes"] == {OPENVINO: 5}
        assert model.runtime.details["plugin"].startswith("onnxruntime-ep-openvino 1.")
        # not in bfloat16, which is OpenVINO's own choice on a CPU that has it
        np.testing.assert_allclose(model.infer(x)["scores"], reference.infer(x)["scores"], atol=1e-6)
        np.testing.assert_allclose(model.infer(x, timeout=60)["scores"], reference.infer(x)["scores"], atol=1e-6)
        many = pixels(3)
        np.testing.assert_allclose(model.infer(many)["scores"], reference.infer(many)["scores"], atol=1e-6)
        with model.bind() as binding:
            binding.inputs["image"][...] = x
            binding.run()
            np.testing.assert_allclose(binding.outputs["scores"], reference.infer(x)["scores"], atol=1e-6)
        told = model.do_command({"command": "profile", "runs": 2})
        assert {row["provider"] for row in told["operators"]} == {OPENVINO}


@NEEDS_OPENVINO
@pytest.mark.parametrize("device", ["openvino", "openvino:cpu:0"])
def test_other_words_for_a_device(device: str) -> None:
    with load(device=device) as model:
        assert model.device == "openvino:cpu"


@NEEDS_OPENVINO
def test_what_a_plugin_does_not_run_is_told_and_nothing_at_all_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3), np.float32)
    with caplog.at_level(logging.WARNING), load(chain("Abs", "Scaler")) as model:
        assert (model.runtime.delegated, model.runtime.total) == (1, 2)
        np.testing.assert_allclose(model.infer(x)["y"], (np.abs(x) - 0.5) * 2, rtol=1e-6)
    assert "openvino:cpu runs only a part of the model; elsewhere: 1 x Scaler" in caplog.text
    with pytest.raises(UnsupportedModelError, match="full_delegation=True, but openvino:cpu does not run: 1 x Scaler"):
        load(chain("Abs", "Scaler"), full_delegation=True)
    with pytest.raises(UnsupportedModelError, match="openvino:cpu runs no operator of this model"):
        load(chain("Scaler"))
    with pytest.raises(
        UnsupportedModelError, match=r"the device cannot run the model.*device='cpu' or backend='openvino'"
    ):
        load(odd_onnx.default_input())


@NEEDS_OPENVINO
@pytest.mark.parametrize(
    "providers",
    [
        [OPENVINO],
        [OPENVINO, "CPUExecutionProvider"],
        [(OPENVINO, {"device_type": "CPU"})],
        [(OPENVINO, {"device_type": "cpu", "device_id": "0"})],
    ],
)
def test_providers_name_a_plugin(providers: Sequence[Any]) -> None:
    with load(device=None, providers=providers) as model:
        assert (model.device, model.runtime.delegated) == ("openvino:cpu", 5)
    chosen = accelerate.plan(DIGITS, backend="onnxruntime", providers=providers).chosen
    assert chosen is not None
    assert (chosen.device, chosen.kind) == ("openvino:cpu", "cpu")


@NEEDS_OPENVINO
def test_a_plan_says_which_version_of_a_plugin() -> None:
    chosen = accelerate.plan(DIGITS, backend="onnxruntime", device="openvino:cpu").chosen
    assert chosen is not None
    assert re.search(r"ONNX Runtime \S+ with onnxruntime-ep-openvino \d\S+ on .*, by OpenVINO", chosen.reason)


@NEEDS_OPENVINO
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"providers": ["CPUExecutionProvider", OPENVINO]}, r"OpenVINOExecutionProvider is a plugin's.*CPUExec"),
        ({"providers": [OPENVINO, "CUDAExecutionProvider"]}, r"OpenVINOExecutionProvider is a plugin's"),
        ({"providers": [(OPENVINO, {"device_type": "GPU"})]}, r"no device \{'device_type': 'GPU'\}.*openvino:cpu"),
        ({"providers": [(OPENVINO, {"device_id": 1})]}, r"no device \{'device_id': 1\}"),
        ({"providers": [(OPENVINO, {"device_id": "x"})]}, r"no device \{'device_id': 'x'\}"),
        ({"providers": ["OpenVINOExecutionProvider.AUTO"]}, "no execution provider"),
        ({"providers": [OPENVINO], "device": "openvino:cpu"}, "both say where"),
        ({"providers": [OPENVINO, OPENVINO]}, "providers has OpenVINOExecutionProvider twice"),
        ({"providers": [(OPENVINO, {"load_config": "{no"})]}, "load_config of OpenVINOExecutionProvider is '{no'"),
        ({"providers": [(OPENVINO, {"load_config": '{"CPU": 5}'})]}, "providers: load_config of .* wanted"),
        ({"providers": [(OPENVINO, {"load_config": {"CPU": 5}})]}, "providers: load_config of .* wanted"),
        ({"device": "openvino:cpu", "session_options": onnxruntime.SessionOptions()}, "session_options cannot go with"),
        ({"providers": [OPENVINO], "session_options": onnxruntime.SessionOptions()}, "session_options cannot go with"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        accelerate.load(DIGITS, backend="onnxruntime", **options)
    (skipped,) = accelerate.plan(DIGITS, backend="onnxruntime", **options).skipped
    assert (skipped.reason, skipped.remedy) == (caught.value.reason, caught.value.remedy)


@NEEDS_OPENVINO
def test_a_plugins_own_options_go_before_ours() -> None:
    x = pixels()
    with load() as exact, load(device=None, providers=[
        (OPENVINO, {"load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16",
                                                       "EXECUTION_MODE_HINT": "PERFORMANCE"}})})
    ]) as given:  # fmt: skip
        off = np.abs(exact.infer(x)["scores"] - given.infer(x)["scores"]).max()
        if "BF16" in plugins.find_device("openvino:cpu").properties.get("OPTIMIZATION_CAPABILITIES", ""):
            assert off > 1e-5


@NEEDS_OPENVINO
@pytest.mark.parametrize("unknown", [{"NO_SUCH_PROPERTY": "1"}, {"INFERENCE_NUM_THREADS": "many"}])
def test_a_property_that_openvino_refuses_is_no_fault_of_the_model(
    unknown: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    (name,) = unknown
    with pytest.raises(OptionError, match=f"providers: OpenVINO refuses a property in load_config: .*{name}"):
        load(device=None, providers=[(OPENVINO, {"load_config": {"CPU": unknown}})])
    assert capfd.readouterr().err == ""


@NEEDS_OPENVINO
@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32", "float64"])
def test_numbers_that_openvino_would_change_are_refused(dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, [3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    within, beyond = np.array([1, 2, 3], dtype), np.array([1, 2, np.inf if dtype == "float64" else 2**31 + 5], dtype)
    with load(model) as loaded, loaded.bind() as binding:
        assert loaded.infer(within)["y"].tolist() == [2, 4, 6]
        binding.inputs["x"][...] = within
        binding.run()
        assert binding.outputs["y"].tolist() == [2, 4, 6]
        binding.inputs["x"][...] = beyond
        for call in (lambda: loaded.infer(beyond), lambda: loaded.infer(beyond, timeout=60), binding.run):
            with pytest.raises(TensorError, match=r"'x' holds numbers beyond 32 bits, .* which OpenVINO's CPU device"):
                call()
    assert ("takes float64, which OpenVINO computes in float32" in caplog.text) == (dtype == "float64")


@NEEDS_OPENVINO
def test_inputs_without_elements_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [0, 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "empty", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(UnsupportedModelError, match="input 'x' has no elements"):
        load(model)
    assert capfd.readouterr().err == ""


@NEEDS_OPENVINO
@pytest.mark.parametrize(
    ("properties", "runs"),
    [({}, True), ({"PERFORMANCE_HINT": "LATENCY"}, True), ({"NUM_STREAMS": "2"}, False),
     ({"PERFORMANCE_HINT": "THROUGHPUT"}, False)],
)  # fmt: skip
def test_a_forked_child_calls_a_model_that_needs_no_threads(properties: dict[str, str], runs: bool) -> None:
    answer = child(f"""
import numpy as np
model = accelerate.load(
    {str(DIGITS)!r}, backend="onnxruntime", providers=[({OPENVINO!r}, {{"load_config": {{"CPU": {properties!r}}}}})]
)
x = np.ones((1, 1, 8, 8), np.float32)
wanted, binding = model.infer(x)["scores"], model.bind()
binding.inputs["image"][...] = x
binding.run()
ours, theirs = os.pipe()
if os.fork() == 0:
    said = []
    for call in (lambda: model.infer(x), lambda: model.infer(x, timeout=60), lambda: model.bind().run(), binding.run):
        try:
            call()
            said.append(True)
        except accelerate.InferenceError as error:
            said.append("does not run in a forked child" not in str(error))
    os.write(theirs, json.dumps(said).encode())
    os._exit(0)
os.close(theirs)
print(os.read(ours, 1000).decode())
os.wait()
""")
    assert answer == [runs] * 4


@NEEDS_OPENVINO
def test_a_device_that_is_not_here_is_an_error() -> None:
    with pytest.raises(DeviceNotFoundError, match=r"no device 'openvino:warp'.*openvino:cpu"):
        load(device="openvino:warp")


@NEEDS_OPENVINO
@pytest.mark.slow
def test_deadlines_replicas_and_isolation() -> None:
    x = pixels()
    with load() as one, load(replicas=2) as two, load(isolation="process") as apart:
        wanted = one.infer(x)["scores"]
        for model in (two, apart):
            np.testing.assert_allclose(model.infer(x, timeout=60)["scores"], wanted, atol=1e-6)
            assert model.device == "openvino:cpu"
    with load(odd_onnx.slow(0.3), num_threads=1) as slow:
        inputs = {t.name: np.ones([abs(n) for n in t.shape], t.data_type) for t in slow.metadata().inputs}
        with pytest.raises(InferenceTimeoutError):
            slow.infer(inputs, timeout=0.02)


@NEEDS_OPENVINO
@pytest.mark.slow
def test_a_forked_child_is_told_that_it_lacks_the_plugins_threads() -> None:
    answer = child(f"""
model = accelerate.load({str(DIGITS)!r}, backend="onnxruntime", device="openvino:cpu")
ours, theirs = os.pipe()
if os.fork() == 0:
    try:
        accelerate.load({str(DIGITS)!r}, backend="onnxruntime", device="openvino:cpu")
    except accelerate.DeviceNotFoundError as error:
        os.write(theirs, str(error).encode())
    os._exit(0)
os.close(theirs)
said = os.read(ours, 1000).decode()
os.wait()
print(json.dumps(said))
""")
    assert "was used by the process that this one was forked off" in answer
    assert "isolation='process'" in answer


# Registered by the program, virtual devices


@NEEDS_OPENVINO
@pytest.mark.slow
def test_a_library_that_the_program_has_registered_is_not_registered_again() -> None:
    answer = child(f"""
import onnxruntime, onnxruntime_ep_openvino
for name in ("mine", "mine.too"):
    onnxruntime.register_execution_provider_library(name, onnxruntime_ep_openvino.get_library_path())
before = len(onnxruntime.get_ep_devices())
rows = [(d.id, d.ready) for d in accelerate.list_devices() if d.id.startswith("openvino")]
model = accelerate.load({str(DIGITS)!r}, backend="onnxruntime", device="openvino:cpu")
print(json.dumps([rows, model.runtime.delegated, len(onnxruntime.get_ep_devices()) - before]))
""")
    assert answer == [[["openvino:cpu", True]], 5, 0]


@NEEDS_OPENVINO
@pytest.mark.slow
def test_virtual_devices_are_listed_and_not_ready() -> None:
    rows = child(f"""
import onnxruntime, onnxruntime_ep_openvino
onnxruntime.register_execution_provider_library("ov.virtual", onnxruntime_ep_openvino.get_library_path())
rows = [[d.id, d.kind, d.ready, d.reason] for d in accelerate.list_devices() if d.id.startswith("openvino")]
try:
    accelerate.load({str(DIGITS)!r}, backend="onnxruntime", device="npu")
except accelerate.DeviceNotFoundError as error:
    rows.append(error.reason)
print(json.dumps(rows))
""")
    reason = "it is no device that is here, but one that models can be compiled for"
    ids = ["openvino:npu", "openvino:npu:1", "openvino:npu:2", "openvino:npu:3"]
    assert rows == [*([one, "npu", False, reason] for one in ids), reason]


# Libraries that cannot be registered

LIBRARY = r"""
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* The beginning of ONNX Runtime's interface to libraries: the only functions that these call. */
typedef void *(*create_status)(int code, const char *message);
struct base { const create_status *(*api)(uint32_t version); const char *(*version)(void); };

static void count(void) {
  int file = open(getenv("COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (file >= 0 && write(file, "x", 1) == 1) close(file);
}
#ifdef AT_LOADING
__attribute__((constructor)) static void start(void) { count(); raise(SIGSEGV); }
#endif
void *CreateEpFactories(const char *name, const struct base *base, const void *log, void **made, size_t most,
                        size_t *n) {
#ifndef AT_LOADING
  count();
#endif
#ifdef AT_REGISTRATION
  raise(SIGSEGV);
#endif
#ifdef OF_ANOTHER_VERSION
  if (!base->api(OF_ANOTHER_VERSION)) return base->api(1)[0](1, "this library needs version 99 of the interface");
#endif
#ifdef UNCHECKED_VERSION
  return base->api(UNCHECKED_VERSION)[0](1, "");
#endif
  *n = 0;
  return NULL;
}
void *ReleaseEpFactory(void *factory) { return NULL; }
"""


def bad_plugin(folder: Path, *defines: str) -> Path:
    """Install a plugin "boom" into a folder, with a library built with these macros."""
    package = folder / "onnxruntime_ep_boom"
    package.mkdir(parents=True)
    (folder / "onnxruntime_ep_boom-1.0.dist-info").mkdir()
    (package / "__init__.py").write_text(
        "import os\n"
        "def get_library_path(): return os.path.join(os.path.dirname(__file__), 'libboom.so')\n"
        "def get_ep_names(): return ['BoomExecutionProvider']\n"
    )
    (package / "boom.c").write_text(LIBRARY)
    flags = [f"-D{define}" for define in defines]
    subprocess.run(["cc", "-shared", "-fPIC", *flags, "-o", package / "libboom.so", package / "boom.c"], check=True)
    return folder


ASK = f"""
from accelerate import registry
from accelerate.reports import LoadOptions
listed = registry.find("onnxruntime").devices(LoadOptions(device="boom"))
rows = [[d.id, d.ready, d.reason, d.remedy] for d in listed if d.id.startswith("boom")]
try:
    accelerate.load({str(DIGITS)!r}, backend="onnxruntime", device="boom:npu")
except accelerate.DeviceNotFoundError as error:
    rows.append([error.reason, error.remedy])
model = accelerate.load({str(DIGITS)!r}, backend="onnxruntime")
print(json.dumps([rows, model.device]))
"""


@NEEDS_PLUGINS
@pytest.mark.slow
@pytest.mark.parametrize(
    ("defines", "says", "times"),
    [
        (["AT_LOADING"], "registering onnxruntime-ep-boom 1.0 crashes onnxruntime .*SIGSEGV", 1),
        (["AT_REGISTRATION"], "registering onnxruntime-ep-boom 1.0 crashes onnxruntime .*SIGSEGV", 1),
        (["UNCHECKED_VERSION=99"], "registering onnxruntime-ep-boom 1.0 crashes onnxruntime .*SIGSEGV", 1),
        (["OF_ANOTHER_VERSION=99"], "does not register with onnxruntime .*needs version 99 of the interface", None),
        ([], "onnxruntime-ep-boom 1.0 finds no device here", None),
    ],
)
def test_a_library_that_does_not_fit_is_a_reason_and_harms_nothing(
    defines: Sequence[str], says: str, times: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    folder = bad_plugin(tmp_path / "site", *defines)
    for _ in range(1 if times is None else 2):
        rows, device = child(ASK, path=folder, cache=tmp_path / "cache")
        (listed, refused) = rows
        assert listed[:2] == ["boom", False]
        assert re.search(says, listed[2])
        assert listed[3]
        assert refused == listed[2:]
        assert device == "cpu"
    if times is not None:  # tried in a child once, and never in a program
        assert (tmp_path / "count").stat().st_size == times


@NEEDS_PLUGINS
@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("cut", "crashes onnxruntime|does not register"),
        ("gone", "does not register with onnxruntime .*libboom.so"),
        ("text", "does not register with onnxruntime .*(invalid ELF header|file too short)"),
        ("import", "does not register with onnxruntime .*no such thing"),
    ],
)
def test_a_damaged_plugin_is_a_reason(damage: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT", os.devnull)
    folder = bad_plugin(tmp_path / "site")
    library = folder / "onnxruntime_ep_boom" / "libboom.so"
    if damage == "cut":
        library.write_bytes(library.read_bytes()[:3000])
    elif damage == "gone":
        library.unlink()
    elif damage == "text":
        library.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 100)
    else:
        (folder / "onnxruntime_ep_boom" / "__init__.py").write_text("raise ImportError('no such thing')")
    rows, device = child(ASK, path=folder, cache=tmp_path / "cache")
    assert rows[0][:2] == ["boom", False]
    assert re.search(says, rows[0][2])
    assert device == "cpu"


@NEEDS_OPENVINO
@pytest.mark.slow
def test_two_libraries_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT", os.devnull)
    folder = bad_plugin(tmp_path / "site", "AT_LOADING")
    rows = child(
        "print(json.dumps([[d.id, d.ready] for d in accelerate.list_devices() if d.backend == 'onnxruntime']))",
        path=folder, cache=tmp_path / "cache",
    )  # fmt: skip
    assert ["boom", False] in rows
    assert ["openvino:cpu", True] in rows


@NEEDS_OPENVINO
def test_a_runtime_without_plugins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library")
    (row,) = (one for one in plugins.devices("openvino:npu") if one.id == "openvino:npu")
    assert (row.kind, row.ready) == ("npu", False)
    assert "takes no plugins, such as onnxruntime-ep-openvino" in row.reason
    assert row.remedy.startswith("pip install")
