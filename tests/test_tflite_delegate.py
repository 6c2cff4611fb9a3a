"""The tflite_delegate backend, on a stand-in for a delegate's library (edgetpu_stand_in.c, GENERIC)."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import delegate_models as models
import edgetpu_stand_in as stand_in
import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import (
    BackendNotAvailableError,
    InferenceError,
    NoBackendError,
    OptionError,
    UnsupportedModelError,
)
from accelerate.backends.tflite.delegates import library as delegate_library
from accelerate.backends.tflite.delegates import options, trial
from accelerate.backends.tflite_delegate import library as creating
from accelerate.system import children

X = np.array([1, 2, -3, 0.5], np.float32)
VARIABLE = "EDGE_ACCELERATE_TFLITE_DELEGATE"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell the stand-in how to behave."""

    def tell(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"DELEGATE_STAND_IN_{name}", value)

    return tell


def load(source: Any = None, **options: Any) -> accelerate.Model:
    options.setdefault("library", stand_in.generic_library())
    return accelerate.load(models.chain() if source is None else source, backend="tflite_delegate", **options)


def compile_c(code: str, path: Path) -> str:
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=code.encode(), check=True)
    return str(path)


# Where none is named


def test_nobody_has_named_a_library() -> None:
    info = accelerate.list_backends()["tflite_delegate"]
    assert (info.available, info.reason) == (False, "no delegate's library is named")
    assert VARIABLE in info.remedy
    assert not [d for d in accelerate.list_devices() if d.backend == "tflite_delegate"]
    with pytest.raises(BackendNotAvailableError, match=r"no delegate's library is named; name one: load\(.*library="):
        accelerate.load(models.chain(), backend="tflite_delegate")
    decided = accelerate.plan(models.chain())
    assert decided.chosen is not None
    assert decided.chosen.backend == "tflite_cpu"


def test_the_variable_names_one_for_auto(monkeypatch: pytest.MonkeyPatch, tell: Any) -> None:
    monkeypatch.setenv(VARIABLE, stand_in.generic_library())
    (device,) = (d for d in accelerate.list_devices() if d.backend == "tflite_delegate")
    assert (device.id, device.kind, device.name, device.ready) == ("delegate", "npu", "delegate_stand_in.so", True)
    with accelerate.load(models.chain()) as loaded:
        assert (loaded.backend, loaded.device) == ("tflite_delegate", "delegate")
        np.testing.assert_allclose(loaded.infer(X)["y"], 3 * X * X, rtol=1e-6)
    with accelerate.load(models.untouched()) as loaded:  # of which it takes nothing
        assert loaded.backend == "tflite_cpu"
        assert "takes none of the 2 operators" in loaded.runtime.details["passed_over"][0]
    tell(CREATE="refuse")
    assert accelerate.load(models.chain(), device="cpu").backend == "tflite_cpu"


def test_the_library_ranks_before_the_cpu_and_behind_nothing_else_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, stand_in.generic_library())
    decided = accelerate.plan(models.chain())
    assert [c.backend for c in decided.candidates][:2] == ["tflite_delegate", "tflite_cpu"]
    assert re.search(r"with delegate_stand_in\.so of \d{4}-\d\d-\d\d on delegate_stand_in\.so", str(decided))


# Its share of the operators


def test_all_operators(caplog: pytest.LogCaptureFixture) -> None:
    with load() as loaded:
        assert (loaded.runtime.delegated, loaded.runtime.total) == (3, 3)  # in one node
        assert loaded.runtime.details["library"] == stand_in.generic_library()
        np.testing.assert_allclose(loaded.infer(X)["y"], 3 * X * X, rtol=1e-6)
    assert not caplog.records


def test_half_of_them_is_a_warning(caplog: pytest.LogCaptureFixture, tell: Any) -> None:
    with load(models.partly()) as loaded:
        assert (loaded.runtime.delegated, loaded.runtime.total) == (3, 4)
        np.testing.assert_allclose(loaded.infer(X)["y"], (2 * X - X * X) ** 2, rtol=1e-5)
    (record,) = caplog.records
    assert "1 of 4 operators run on the CPU: SUB" in record.message
    tell(CLAIM="1")
    with load(models.partly()) as loaded:  # what the engine's own delegate takes of the rest does not count
        assert (loaded.runtime.delegated, loaded.runtime.total) == (1, 4)


def test_none_of_them_is_an_error(tell: Any) -> None:
    said = r"takes none of the 2 operators of .* \(SUB, DIV\); .*quantised to int8 or uint8; or run it on the CPU"
    with pytest.raises(UnsupportedModelError, match=said):
        load(models.untouched())
    tell(CLAIM="0")
    with pytest.raises(UnsupportedModelError, match="takes none of the 3 operators"):
        load()


def test_a_real_model_shares_its_work(models_dir: Path) -> None:
    path = models_dir / "mobilenet_v2_1.0_224_quant.tflite"
    with pytest.raises(UnsupportedModelError, match="CONV_2D"):  # its additions have activations and other scales
        load(path)
    path = models_dir / "add_10x10.tflite"
    with load(path) as loaded, accelerate.load(path, backend="tflite_cpu") as plain:
        feeds = {t.name: np.random.default_rng(1).random((10, 10), "f") for t in loaded.metadata().inputs}
        assert loaded.runtime.delegated == loaded.runtime.total
        for name, answer in loaded.infer(feeds).items():
            np.testing.assert_array_equal(answer, plain.infer(feeds)[name])


def test_a_signature_of_another_graph_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model = stand_in.two_signatures(stand_in.addition)
    with load(model) as loaded:
        other = loaded.signature("add")
        assert (loaded.runtime.delegated, other.runtime.delegated, other.runtime.total) == (1, None, None)
        assert other.infer({"a": X[:3], "b": X[:3]})["sum"].tolist() == (2 * X[:3]).tolist()
    with load(model, signature="add") as loaded:
        assert loaded.runtime.delegated is None
        assert loaded.infer({"a": X[:3], "b": X[:3]})["sum"].tolist() == (2 * X[:3]).tolist()


# Libraries


def test_missing_library() -> None:
    with pytest.raises(BackendNotAvailableError, match=rf"there is no library /nowhere/lib\.so; correct .*{VARIABLE}"):
        load(library="/nowhere/lib.so")


@pytest.mark.parametrize("given", [123, [], "a\0b", "", b"/lib.so", True, {}])
def test_a_library_that_is_no_path(given: Any) -> None:
    with pytest.raises(OptionError, match=r"library is .*; wanted the path of a TFLite delegate"):
        load(library=given)


def test_a_library_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(BackendNotAvailableError, match="is no library"):
        load(library=tmp_path / "text.so")
    path = compile_c("int f(void) { return 0; }", tmp_path / "other.so")
    with pytest.raises(BackendNotAvailableError, match=r"is not a TFLite delegate.*tflite_plugin_create_delegate"):
        load(library=path)
    content = bytearray(Path(stand_in.generic_library()).read_bytes())
    struct.pack_into("<H", content, 18, 40)
    (tmp_path / "arm.so").write_bytes(content)
    with pytest.raises(BackendNotAvailableError, match="is built for 32-bit ARM, this Python for"):
        load(library=tmp_path / "arm.so")


def test_the_edge_tpus_library_has_a_backend_of_its_own() -> None:
    with pytest.raises(BackendNotAvailableError, match="is the Edge TPU's library; use backend='edgetpu'"):
        load(library=stand_in.library())
    with pytest.raises(UnsupportedModelError, match="compiled for the Edge TPU"):
        load(stand_in.floats([3]))


def test_a_library_that_crashes_as_it_is_loaded(tmp_path: Path) -> None:
    code = "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }"
    path = compile_c(code, tmp_path / "crashing.so")
    for _ in range(2):  # remembered
        with pytest.raises(BackendNotAvailableError, match=r"loaded in a child process first.*SIGABRT.*delete"):
            load(library=path)


@pytest.mark.parametrize("status", [0, 3])
def test_a_library_that_ends_the_process_as_it_is_loaded(tmp_path: Path, status: int) -> None:
    code = f"#include <unistd.h>\n__attribute__((constructor)) static void f(void) {{ _exit({status}); }}"
    path = compile_c(code, tmp_path / "leaving.so")
    said = f"loaded in a child process first, and the process ended with status {status}"
    with pytest.raises(BackendNotAvailableError, match=said) as caught:
        load(library=path)
    assert caught.value.remedy.startswith("install a build of the library")
    assert "remembered" not in caught.value.remedy  # it is not


def test_a_library_that_does_not_come_back_as_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "#include <unistd.h>\n__attribute__((constructor)) static void f(void) { sleep(60); }"
    path = compile_c(code, tmp_path / "hanging.so")
    monkeypatch.setattr(delegate_library, "_LOADING_SECONDS", 1.0)
    with pytest.raises(BackendNotAvailableError, match="no answer within 1 s") as caught:
        load(library=path)
    assert caught.value.remedy == "restart the machine"


def test_a_bare_name_is_no_file_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(stand_in.generic_library(), tmp_path / "libhere.so")
    monkeypatch.chdir(tmp_path)
    said = r"the system's loader finds no libhere\.so; for the one in this folder give \./libhere\.so"
    with pytest.raises(BackendNotAvailableError, match=said):
        load(library="libhere.so")
    assert load(library="./libhere.so").runtime.delegated == 3


def test_a_library_that_refuses(tell: Any) -> None:
    tell(CREATE="refuse")
    said = r"delegate_stand_in\.so creates no delegate: the stand-in finds no device; look whether the device"
    with pytest.raises(BackendNotAvailableError, match=said):
        load()
    decided = accelerate.plan(models.chain(), backend="tflite_delegate", library=stand_in.generic_library())
    assert decided.chosen is None
    assert re.search(said.partition(";")[0], decided.skipped[0].reason)
    tell(CREATE="")
    assert load().runtime.delegated == 3  # nothing was remembered


def test_what_known_libraries_need(tell: Any, tmp_path: Path) -> None:
    tell(CREATE="refuse")
    for name, said in (
        ("libteflon.so", "ls -l /dev/accel /dev/dri"),
        ("libvx_delegate.so.1", "galcore"),
        ("libQnnTFLiteDelegate.so", "backend_type"),
        ("libarmnnDelegate.so.29.1", "CpuAcc"),
    ):
        shutil.copy(stand_in.generic_library(), tmp_path / name)
        with pytest.raises(BackendNotAvailableError, match=said):
            load(library=tmp_path / name)


def test_options_that_the_library_refuses(tell: Any) -> None:
    said = (
        r"creates no delegate: unknown option backend_type with delegate_options=\{'backend_type': 'htp'\}; "
        "correct them: without any it does"
    )
    with pytest.raises(OptionError, match=said):
        load(delegate_options={"backend_type": "htp"})
    tell(CREATE="refuse")  # then it is not the options
    with pytest.raises(BackendNotAvailableError, match="finds no device"):
        load(delegate_options={"backend_type": "htp"})


@pytest.mark.parametrize(
    "given",
    [5, "htp", ["backend_type"], {5: "htp"}, {"": "x"}, {"a": None}, {"a": ["b"]}, {"a": {}}, {"a": b"b"},
     {"a": "b\0"}, {"a\0": "b"}, {"a": "\ud800"}],
)  # fmt: skip
def test_options_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(OptionError, match="delegate_options"):
        load(delegate_options=given)


def test_numbers_are_options_too() -> None:
    with load(delegate_options={"StandIn.DelayUs": 1}) as loaded:
        assert loaded.runtime.details["delegate_options"] == {"StandIn.DelayUs": "1"}
    given = {"a": np.int64(5), "b": np.float32(0.1), "c": np.bool_(True), "d": 0.5, "e": Path("/x")}
    assert options.check_delegate_options(given, "") == {"a": "5", "b": "0.1", "c": "True", "d": "0.5", "e": "/x"}


def test_a_library_that_writes(tell: Any, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(models.chain())
    tell(CREATE="say")
    code = f"""if True:
        import accelerate
        with accelerate.load({str(tmp_path / "model.tflite")!r}, backend="tflite_delegate",
                             library={stand_in.generic_library()!r}) as model:
            print(model.infer([1.0, 2.0, 3.0, 4.0])["y"].tolist())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[3.0, 12.0, 27.0, 48.0]"
    assert done.stderr == "the stand-in says so on stderr\n"  # late, and once: not what the child processes wrote


# The first load and inference, in a child process


@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_crash_is_a_reason_and_remembered(tell: Any, step: str) -> None:
    tell(**{step: "crash"})
    with pytest.raises(BackendNotAvailableError, match=r"child process.*SIGSEGV.*install a build of the library"):
        load()
    tell(**{step: ""})
    with pytest.raises(BackendNotAvailableError, match=r"again.* delete .*/delegates"):
        load()
    decided = accelerate.plan(models.chain(), backend="tflite_delegate", library=stand_in.generic_library())
    assert decided.chosen is None
    assert "SIGSEGV" in decided.skipped[0].reason
    if step == "RUN":  # the verdict is about a model
        assert load(models.doubled([2])).infer([1.0, 2.0])["y"].tolist() == [2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["CREATE", "RUN"])
def test_a_hang_is_a_reason_and_not_remembered(tell: Any, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2.0)
    monkeypatch.setattr(creating, "CREATE_SECONDS", 2.0)
    tell(**{step: "hang"})
    with pytest.raises(BackendNotAvailableError, match=r"no answer within 2 s.*restart the machine"):
        load()
    tell(**{step: ""})
    assert load().runtime.delegated == 3


def test_a_kill_from_outside_is_not_remembered(tell: Any) -> None:
    tell(RUN="killed")
    with pytest.raises(BackendNotAvailableError, match=r"could not be tried .*SIGKILL.*whether memory is short"):
        load()
    tell(RUN="")
    assert load().runtime.delegated == 3


def test_the_second_load_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    load().close()
    with pytest.raises(UnsupportedModelError):
        load(models.untouched())
    monkeypatch.setattr(children, "run_in_child", None)
    assert load().runtime.delegated == 3
    with pytest.raises(UnsupportedModelError):  # nor where it takes nothing
        load(models.untouched())


def test_other_options_are_another_trial(tell: Any) -> None:
    load().close()
    tell(RUN="crash")
    with pytest.raises(BackendNotAvailableError, match="SIGSEGV"):
        load(delegate_options={"StandIn.DelayUs": 1})
    tell(RUN="")
    assert load().runtime.delegated == 3


def test_a_delegate_that_refuses_the_model(tell: Any) -> None:
    tell(PREPARE="refuse")
    with pytest.raises(UnsupportedModelError, match=r"with the delegate .* refuses it.*refuses every model.*run it on"):
        load()
    tell(PREPARE="static")
    with pytest.raises(UnsupportedModelError, match=r"refuses it .*static-sized tensors.*run it on the CPU"):
        load(models.resized())
    assert load().runtime.delegated == 3


def test_a_delegate_that_fails_at_each_run(tell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(RUN="fail")
    with pytest.raises(InferenceError, match=r"the delegate failed: .*fails on demand"):
        load()
    monkeypatch.setenv(VARIABLE, stand_in.generic_library())
    assert accelerate.load(models.chain()).backend == "tflite_cpu"
    tell(RUN="")
    with load() as loaded:
        tell(RUN="fail")
        with pytest.raises(InferenceError, match=rf"the delegate of {stand_in.generic_library()} failed: "):
            loaded.infer(X)
        tell(RUN="")
        assert loaded.infer(X)["y"].shape == (4,)


# What it computes


@pytest.mark.slow
def test_wrong_answers_are_told_by_bench_and_tune(tell: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("click", reason="needs the extra: cli")
    path = tmp_path / "model.tflite"
    path.write_bytes(models.chain())
    monkeypatch.setenv(VARIABLE, stand_in.generic_library())
    backends = ["tflite_delegate", "tflite_cpu"]
    only = [f"--backend={name}" for name in backends]
    command = ["-m", "accelerate", "bench", str(path), *only, "--seconds", "0.02", "--callers", "1", "--json"]
    for how, agrees in (("", True), ("wrong", False)):
        tell(RUN=how)
        # its status says that so short a time is no valid measurement
        done = subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", check=False)
        rows = {row["backend"]: row for row in json.loads(done.stdout)["results"]}
        assert rows["tflite_delegate"]["agreement"]["agrees"] is agrees
        assert rows["tflite_delegate"]["runtime"]["delegated"] == 3
        tuned = accelerate.tune(path, backend=backends, seconds=0.02, store=False)
        assert {r.agrees for r in tuned.results if r.backend == "tflite_delegate"} == {agrees}
        if not agrees:
            assert tuned.chosen is not None
            assert tuned.chosen.backend == "tflite_cpu"


def test_dynamic_shapes_go_through_the_delegate() -> None:
    with load(models.chain([-1, 3])) as loaded:
        for rows in (1, 5, 2):
            x = np.random.default_rng(rows).random((rows, 3), "f")
            np.testing.assert_allclose(loaded.infer(x)["y"], 3 * x * x, rtol=1e-6)
    with load(models.chain([-1, 3]), shapes=(4, 3)) as loaded, loaded.bind() as binding:
        assert binding.inputs["x"].shape == (4, 3)


def test_state_is_each_models_own() -> None:
    one = np.ones((1, 1), np.float32)
    with load(models.remembering()) as loaded, loaded.bind() as binding:
        assert loaded.metadata().stateful
        binding.inputs["x"][...] = 1
        for wanted in (2, 4, 6):
            binding.run()
            assert binding.outputs["y"] == wanted
        assert [float(loaded.infer(one)["y"][0, 0]) for _ in range(2)] == [2, 4]
        loaded.do_command({"command": "reset"})
        loaded.warmup(3)
        assert loaded.infer(one)["y"] == 2
        assert not binding.zero_copy


def test_replicas_have_a_delegate_each() -> None:
    with load(replicas=3) as replicated:
        xs = [np.random.default_rng(n).random(4, "f") for n in range(30)]
        answers: dict[int, Any] = {}

        def call(n: int) -> None:
            answers[n] = replicated.infer(xs[n])["y"]

        threads = [threading.Thread(target=call, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n, x in enumerate(xs):
        np.testing.assert_allclose(answers[n], 3 * x * x, rtol=1e-6)


# Interpreters that exist already


@pytest.mark.parametrize("engine", engines.INSTALLED)
@pytest.mark.parametrize("allocated", [False, True])
def test_an_interpreter_with_a_delegate(engine: str, allocated: bool) -> None:
    module = importlib.import_module(f"{engines.PACKAGES[engine]}.interpreter")
    delegate = module.load_delegate(stand_in.generic_library())
    interpreter = module.Interpreter(model_content=models.partly(), experimental_delegates=[delegate])
    if allocated:
        interpreter.allocate_tensors()
    with accelerate.load(interpreter) as loaded:
        assert (loaded.backend, loaded.device) == ("tflite_delegate", "delegate")
        assert loaded.runtime.details["library"] == stand_in.generic_library()
        # once it is allocated, the engine's own delegate cannot be told from this one
        assert loaded.runtime.delegated == (None if allocated else 3)
        np.testing.assert_allclose(loaded.infer(X)["y"], (2 * X - X * X) ** 2, rtol=1e-5)
    with pytest.raises(UnsupportedModelError, match=r"has a delegate.*give backend='tflite_delegate'"):
        accelerate.load(interpreter, backend="tflite_cpu")
    with pytest.raises(OptionError, match="settled"):
        accelerate.load(interpreter, backend="tflite_delegate", device="npu")
    plain = module.Interpreter(model_content=odd_models.add3())
    with pytest.raises(UnsupportedModelError, match="no TFLite interpreter with a delegate"):
        accelerate.load(plain, backend="tflite_delegate")
    assert accelerate.load(plain).backend == "tflite_cpu"


def test_an_interpreter_of_an_edge_tpu_whose_library_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend edgetpu looks for the library under its own name; the interpreter runs all the same."""
    monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", "/nowhere/libedgetpu.so.1")
    module = importlib.import_module(f"{engines.PACKAGES[engines.INSTALLED[0]]}.interpreter")
    delegate = module.load_delegate(stand_in.library(), {})
    interpreter = module.Interpreter(model_content=stand_in.floats([3]), experimental_delegates=[delegate])
    with accelerate.load(interpreter) as loaded:
        assert loaded.backend == "tflite_delegate"
        assert loaded.infer(X[:3])["y"].tolist() == (2 * X[:3]).tolist()


def test_nothing_here_can_run_it() -> None:
    with pytest.raises(NoBackendError, match="tflite_delegate"):
        accelerate.load(odd_models.custom_op("Strange"), backend=["tflite_delegate", "edgetpu"])


# Real libraries, where they are installed


def _teflon() -> Path:
    """Debian's package mesa-teflon-delegate puts it there, on 64-bit ARM alone."""
    path = Path("/usr/lib/teflon/libteflon.so")
    if not path.is_file():
        pytest.skip("Mesa's Teflon is not installed (apt install mesa-teflon-delegate, on 64-bit ARM)")
    return path


def test_teflon_without_its_hardware() -> None:
    path = _teflon()
    if any(os.path.exists(node) for node in ("/dev/accel/accel0", "/dev/dri/renderD128")):
        pytest.skip("there may be an NPU here")
    with pytest.raises(BackendNotAvailableError) as caught:
        load(library=path)
    assert f"{path} creates no delegate: Couldn't open kernel device" in caught.value.reason
    assert "ls -l /dev/accel /dev/dri" in caught.value.remedy
