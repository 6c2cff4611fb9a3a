"""Bindings over the interpreter's own memory. (What every Binding keeps is in the conformance suite.)"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import ClosedError, InferenceTimeoutError, Model
from accelerate.testing import random_inputs

ANY = pytest.mark.parametrize("engine", engines.INSTALLED)


def load(model: Any, engine: str, **options: Any) -> Model:
    return accelerate.load(model, backend="tflite_cpu", engine=engine, **options)


def run_in_a_process(program: str, model: Path, engine: str, *, seconds: float) -> None:
    """Run a program on a model in a process of its own, for what would end this one."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), engine],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


@ANY
def test_the_arrays_are_the_interpreters_memory(engine: str) -> None:
    with load(odd_models.two_inputs(), engine) as model, model.bind() as binding:
        assert binding.zero_copy
        a, b, total = binding.inputs["a"], binding.inputs["b"], binding.outputs["sum"]
        places = [address(x) for x in (a, b, total)]
        random = np.random.default_rng(0)
        for _ in range(3):
            a[...], b[...] = random.random((2, 2, 3), np.float32)
            binding.run()
            np.testing.assert_array_equal(total, a + b)  # the same array, without asking for it again
        assert [address(x) for x in (binding.inputs["a"], binding.inputs["b"], binding.outputs["sum"])] == places
        assert not np.shares_memory(a, total)
        model.infer({"a": b, "b": b})
        np.testing.assert_array_equal(total, a + b)


@ANY
def test_outputs_in_an_inputs_memory_are_copied(engine: str) -> None:
    """A reshape may work in place: writing the next input must not change the last output."""
    with load(odd_models.image_float(), engine) as model, model.bind() as binding:
        x, y = binding.inputs["x"], binding.outputs["y"]
        x[...] = 1
        binding.run()
        y = binding.outputs["y"]
        assert (y == 1).all()
        x[...] = 2
        assert (y == 1).all()


@ANY
def test_dynamic_shapes_and_signatures(engine: str) -> None:
    with load(odd_models.dynamic(), engine) as model, model.bind({"x": (5, 3)}) as binding:
        assert binding.zero_copy
        binding.inputs["x"][...] = 2
        model.infer(np.ones((9, 3), np.float32))  # resizes the model's interpreter, not the Binding's
        binding.run()
        assert binding.outputs["y"].tolist() == [[4] * 3] * 5
    with load(odd_models.two_signatures(), engine, signature="multiply") as model, model.bind() as binding:
        assert binding.zero_copy
        binding.inputs["values"][...], binding.inputs["factor"][...] = 3, 2
        binding.run(timeout=10)
        assert binding.outputs["product"].tolist() == [6, 6, 6]


@ANY
def test_what_has_no_fixed_place_is_copied(engine: str) -> None:
    with load(odd_models.strings(), engine) as model, model.bind() as binding:
        assert not binding.zero_copy
        binding.inputs["x"][...] = [b"a", b"b", b"c"]
        binding.run()
        assert binding.outputs["y"].tolist() == [b"c", b"b", b"a"]
    with load(odd_models.dynamic_output(), engine) as model, model.bind() as binding:
        assert not binding.zero_copy
        for x in ([1, 0, 1, 1], [0, 0, 0, 0]):
            binding.inputs["x"][...] = x
            binding.run()
            assert binding.outputs["y"].ravel().tolist() == np.flatnonzero(x).tolist()


@ANY
def test_a_changed_file_is_bound_as_it_was(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    with load(path, engine) as model:
        path.write_bytes(odd_models.two_inputs())  # another model by now
        with model.bind() as binding:
            assert binding.zero_copy
            binding.inputs["x"][...] = 1
            binding.run()
            assert binding.outputs["y"].tolist() == [2, 2, 2]


@ANY
def test_closing_the_model_ends_its_bindings_and_their_arrays_stay(engine: str) -> None:
    model = load(odd_models.add3(), engine)
    binding = model.bind()
    binding.inputs["x"][...] = 4
    binding.run()
    x, y = binding.inputs["x"], binding.outputs["y"]
    model.close()
    with pytest.raises(ClosedError):
        binding.run()
    binding.close()
    del model, binding
    gc.collect()
    assert (x.tolist(), y.tolist()) == ([4] * 3, [8] * 3)
    x[...] = 5


@ANY
def test_arrays_outlive_everything_in_a_process_of_its_own(engine: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(odd_models.two_inputs())
    program = (
        "import accelerate, gc, sys\n"
        "arrays = []\n"
        "for n in range(50):\n"
        "    with accelerate.load(sys.argv[1], backend='tflite_cpu', engine=sys.argv[2]) as model:\n"
        "        with model.bind() as binding:\n"
        "            binding.inputs['a'][...] = n\n"
        "            binding.run()\n"
        "            arrays.append((binding.inputs['a'], binding.outputs['sum']))\n"
        "    del model, binding\n"
        "    gc.collect()\n"
        "ballast = [bytearray(100_000) for _ in range(300)]\n"
        "for n, (a, total) in enumerate(arrays):\n"
        "    assert (a == n).all() and (total == n).all(), n\n"
        "    a[...] = 7\n"
    )
    run_in_a_process(program, tmp_path / "m.tflite", engine, seconds=120)


@ANY
def test_two_threads_on_one_binding_take_turns(engine: str) -> None:
    with load(odd_models.add3(), engine) as model, model.bind() as binding:
        binding.inputs["x"][...] = 3

        def run() -> None:
            for n in range(300):
                binding.run(timeout=30 if n % 10 == 0 else None)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert binding.outputs["y"].tolist() == [6, 6, 6]


@ANY
def test_a_slow_run_is_left_at_its_deadline_and_keeps_the_binding_busy(engine: str) -> None:
    with load(odd_models.slow(0.3), engine) as model, model.bind() as binding:
        ((name, value),) = random_inputs(model).items()
        binding.inputs[name][...] = value
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError):
            binding.run(timeout=0.05)
        assert time.monotonic() - started < 0.25
        with pytest.raises(InferenceTimeoutError, match="busy"):
            binding.run(timeout=0.01)
        binding.run()  # waits for the one that was left
        np.testing.assert_allclose(next(iter(binding.outputs.values())), value, rtol=1e-3)


@ANY
def test_no_memory_of_tensor_size_is_taken_per_run(engine: str) -> None:
    import tracemalloc

    with load(odd_models.add3(), engine) as model, model.bind() as binding:
        binding.run()
        tracemalloc.start()
        for _ in range(1000):
            binding.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000


@ANY
def test_tensors_that_move_as_the_model_runs_are_not_given_away(engine: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(odd_models.growing(100_000))
    program = (
        "import accelerate, sys\n"
        "model = accelerate.load(sys.argv[1], backend='tflite_cpu', engine=sys.argv[2])\n"
        "binding = model.bind()\n"
        "assert not binding.zero_copy\n"
        "x, n = binding.inputs['x'], binding.inputs['n']\n"
        "for value, times in ((1, 2), (5, 20), (3, 1), (2, 80)):\n"
        "    x[...], n[...] = value, times\n"
        "    binding.run()\n"
        "    assert (binding.outputs['s'] == 2 * value).all()\n"
        "    assert binding.outputs['total'] == 100_000 * value * times\n"
        "binding.close()\n"
        "model.close()\n"
        "assert (x == 2).all()\n"
    )
    run_in_a_process(program, tmp_path / "m.tflite", engine, seconds=60)


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="tflite-runtime has no int4")
def test_elements_that_share_a_byte_are_copied() -> None:
    with load(odd_models.four_bits(), "litert") as model, model.bind() as binding:
        assert not binding.zero_copy
        binding.inputs["x"][...] = [1, -2, 3, -4]
        binding.run()
        assert binding.outputs["y"].tolist() == [[1], [-2], [3], [-4]]
        assert model.metadata().inputs[0].extra["data_type"] == "int4"


@ANY
def test_scalars_are_copied(engine: str) -> None:
    with load(odd_models.scalar(), engine) as model, model.bind() as binding:
        for value in (1.5, -2.0):
            binding.inputs["x"][...] = value
            binding.run()
            assert binding.outputs["y"].shape == ()
            assert binding.outputs["y"] == 2 * value


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="tflite-runtime has no such operator")
@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_that_only_the_engines_delegate_runs(*, scaled: bool) -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 2, 1)).astype(np.float32)
    with load(odd_models.delegate_only(scaled=scaled), "litert") as model, model.bind() as binding:
        for _ in range(2):
            binding.inputs["x"][...] = x
            binding.run()
            assert np.allclose(binding.outputs["y"], x.repeat(2, 1).repeat(2, 2) + 0.5)
            assert np.array_equal(model.infer(x)["y"], binding.outputs["y"])
            x = x + 1
        assert binding.zero_copy is not scaled, "what stands before the delegate may move everything"
