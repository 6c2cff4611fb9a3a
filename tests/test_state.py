"""Models that keep values from one call to the next, and the signatures of one interpreter."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_tflite_cpu import interpreter_class
from tflite_writer import Graph, build

import accelerate
from accelerate import ClosedError, InferenceTimeoutError, Model, OptionError, TensorError

ANY = pytest.mark.parametrize("engine", engines.INSTALLED)
RANDOM = np.random.default_rng(3)


def load(model: Any, engine: str, **options: Any) -> Model:
    return accelerate.load(model, backend="tflite_cpu", engine=engine, **options)


def sequence(length: int) -> Any:
    return RANDOM.normal(0, 1, (1, length, 3)).astype(np.float32)


def same(got: Any, want: Any) -> bool:
    return bool(np.allclose(got, want, atol=1e-5))


def all_same(answers: list[Any], want: list[Any]) -> bool:
    return all(same(one, other) for one, other in zip(answers, want, strict=True))


# What a model says and how it starts anew


@ANY
@pytest.mark.parametrize("length", [4, -1])
def test_reset_begins_a_new_sequence(engine: str, length: int) -> None:
    first, second, third = sequence(4), sequence(4), sequence(4)
    with load(odd_models.lstm(length), engine) as model:
        assert model.metadata().stateful
        assert "keeps state" in str(model.metadata())
        answers = [model.infer(x)["y"] for x in (first, second)]
        assert all_same(answers, odd_models.lstm_in_numpy(first, second))
        assert model.do_command({"command": "reset"}) == {}
        assert same(model.infer(third)["y"], odd_models.lstm_in_numpy(third)[0])
        model.do_command({"command": "reset"}, timeout=5)
        assert same(model.infer(third, timeout=5)["y"], odd_models.lstm_in_numpy(third)[0])


@ANY
@pytest.mark.parametrize("model", [odd_models.add3(), odd_models.strings(), odd_models.dynamic()])
def test_a_model_without_state_has_nothing_to_reset(engine: str, model: bytes) -> None:
    with load(model, engine) as loaded:
        assert not loaded.metadata().stateful
        assert loaded.do_command({"command": "reset"}) == {}
    with pytest.raises(ClosedError):
        loaded.do_command({"command": "reset"})


@ANY
def test_another_length_keeps_the_state(engine: str) -> None:
    given = [sequence(n) for n in (4, 4, 5, 1, 4)]
    with load(odd_models.lstm(), engine) as model:
        answers = [model.infer(x)["y"] for x in given]
    assert all_same(answers, odd_models.lstm_in_numpy(*given))


@ANY
def test_a_shape_that_fails_keeps_the_state(engine: str) -> None:
    given = [sequence(4), sequence(5)]
    with load(odd_models.lstm(batch=-1), engine) as model:
        answers = [model.infer(given[0])["y"]]
        with pytest.raises(TensorError, match="cannot run with inputs of shape"):
            model.infer(np.zeros((2, 4, 3), np.float32))
        answers.append(model.infer(given[1])["y"])
    assert all_same(answers, odd_models.lstm_in_numpy(*given))


@ANY
@pytest.mark.parametrize("length", [4, -1])
def test_warming_up_leaves_no_trace(engine: str, length: int) -> None:
    given = [sequence(4), sequence(4)]
    with load(odd_models.lstm(length), engine) as model:
        model.warmup(3)
        answers = [model.infer(given[0])["y"]]
        model.do_command({"command": "warmup", "runs": 2}, timeout=10)
        answers.append(model.infer(given[1])["y"])
    assert all_same(answers, odd_models.lstm_in_numpy(*given))


@ANY
def test_warming_up_beside_other_callers_changes_none_of_their_answers(engine: str) -> None:
    given = [sequence(4) for _ in range(60)]
    answers: list[Any] = []
    with load(odd_models.lstm(4), engine) as model:
        caller = threading.Thread(target=lambda: answers.extend(model.infer(x)["y"] for x in given))
        caller.start()
        while caller.is_alive():
            model.warmup(2)
        caller.join()
    assert all_same(answers, odd_models.lstm_in_numpy(*given))


@ANY
def test_replicas_are_refused(engine: str) -> None:
    model = odd_models.lstm(4)
    with pytest.raises(OptionError, match=r"keeps state from one call to the next.*leave replicas out") as raised:
        load(model, engine, replicas=2)
    plan = accelerate.plan(model, backend="tflite_cpu", engine=engine, replicas=2)
    assert plan.chosen is None
    assert plan.skipped[0].reason == raised.value.reason
    load(odd_models.add3(), engine, replicas=2).close()


@ANY
def test_two_loads_share_nothing(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "lstm.tflite"
    path.write_bytes(odd_models.lstm(4))
    x, y = sequence(4), sequence(4)
    with load(path, engine) as one, load(path, engine) as two:
        one.infer(x)
        assert same(two.infer(y)["y"], odd_models.lstm_in_numpy(y)[0])


@ANY
@pytest.mark.parametrize("length", [4, -1])
def test_a_binding_has_its_own_state(engine: str, length: int) -> None:
    first, second = sequence(4), sequence(4)
    with load(odd_models.lstm(length), engine) as model:
        model.infer(first)
        with model.bind({"x": (1, 4, 3)} if length < 0 else None) as binding:
            for x, want in zip((first, second), odd_models.lstm_in_numpy(first, second), strict=True):
                binding.inputs["x"][...] = x
                binding.run()
                assert same(binding.outputs["y"], want)
        assert same(model.infer(second)["y"], odd_models.lstm_in_numpy(first, second)[1])


@ANY
def test_a_map_keeps_the_order(engine: str) -> None:
    given = [sequence(4) for _ in range(200)]
    with load(odd_models.lstm(4), engine) as model:
        answers: list[Any] = list(accelerate.map(model, given, in_flight=8))
    assert all_same([answer["y"] for answer in answers], odd_models.lstm_in_numpy(*given))


@ANY
def test_an_existing_interpreter(engine: str) -> None:
    interpreter = interpreter_class(engine)(model_content=odd_models.lstm(4))
    x = sequence(4)
    want = odd_models.lstm_in_numpy(x, x)
    with accelerate.load(interpreter) as model:
        assert model.metadata().stateful
        model.warmup()
        assert all(same(model.infer(x)["y"], answer) for answer in want)
        model.do_command({"command": "reset"})
        assert same(model.infer(x)["y"], want[0])
        with pytest.raises(OptionError, match="there can be no second one like it; load the model file"):
            model.bind()


# Signatures over one interpreter


@ANY
def test_signatures_share_their_variables(engine: str) -> None:
    x = np.array([1, 2], np.float32)
    with load(odd_models.counting(), engine, signature="add") as add:
        scale = add.signature("scale")
        assert (add.metadata().stateful, scale.metadata().stateful) == (True, True)
        assert scale.runtime.details["signature"] == "scale"
        assert add.infer(x)["y"].tolist() == [2, 3]
        assert add.infer(x, timeout=5)["y"].tolist() == [3, 5]
        assert scale.infer(x)["y"].tolist() == [3, 10]
        assert scale.signature("add").infer(x)["y"].tolist() == [4, 7]
        for one in (scale, add):
            one.do_command({"command": "reset"})
            assert scale.infer(x)["y"].tolist() == [1, 2]
            assert add.infer(x)["y"].tolist() == [2, 3]
        scale.warmup()
        add.warmup(3)
        assert scale.infer(x)["y"].tolist() == [2, 6]
        with load(odd_models.counting(), engine, signature="scale") as other:
            assert other.infer(x)["y"].tolist() == [1, 2]


@ANY
def test_another_signature_has_its_own_names(engine: str) -> None:
    with load(odd_models.two_signatures(), engine) as subtract:
        multiply = subtract.signature("multiply")
        values = RANDOM.normal(0, 1, (2, 3)).astype(np.float32)
        assert (
            multiply.infer({"factor": values[0], "values": values[1]})["product"].tolist()
            == (values[0] * values[1]).tolist()
        )
        with multiply.bind() as binding:
            binding.inputs["factor"][...], binding.inputs["values"][...] = values
            binding.run()
            assert binding.outputs["product"].tolist() == (values[0] * values[1]).tolist()
        assert (
            subtract.infer({"start": values[0], "amount": values[1]})["rest"].tolist()
            == (values[0] - values[1]).tolist()
        )
        assert multiply.do_command({"command": "stats"})["calls"] == 1
        with pytest.raises(OptionError, match=r"no signature 'multipy'.*did you mean"):
            subtract.signature("multipy")
        multiply.close()
        with pytest.raises(ClosedError):
            multiply.infer({"factor": values[0], "values": values[1]})
        subtract.infer({"start": values[0], "amount": values[1]})
        again = subtract.signature("multiply")
    with pytest.raises(ClosedError):
        again.infer({"factor": values[0], "values": values[1]})


@ANY
def test_signatures_of_replicas(engine: str) -> None:
    x = RANDOM.normal(0, 1, (2, 3)).astype(np.float32)
    with load(odd_models.two_signatures(), engine, replicas=2) as model, model.signature("multiply") as multiply:
        assert multiply.concurrency == 2
        assert multiply.infer({"factor": x[0], "values": x[1]})["product"].tolist() == (x[0] * x[1]).tolist()


@ANY
def test_signatures_take_turns(engine: str) -> None:
    x = np.ones(2, np.float32)
    with load(odd_models.counting(), engine, signature="add") as add:
        scale = add.signature("scale")

        def call(model: Model) -> None:
            for _ in range(200):
                model.infer(x)

        threads = [threading.Thread(target=call, args=(one,)) for one in (add, scale) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert scale.infer(x)["y"].tolist() == [401, 401]


@ANY
def test_a_signature_waits_for_the_other(engine: str) -> None:
    with load(odd_models.counting(), engine, signature="add") as add:
        scale = add.signature("scale")
        with add.turn.lock, pytest.raises(InferenceTimeoutError):  # type: ignore[attr-defined]
            scale.infer(np.ones(2, np.float32), timeout=0.05)


@ANY
def test_signatures_of_an_existing_interpreter(engine: str) -> None:
    x = np.array([1, 2], np.float32)
    interpreter = interpreter_class(engine)(model_content=odd_models.counting())
    with accelerate.load(interpreter, signature="add") as add:
        add.infer(x)
        assert add.signature("scale").infer(x)["y"].tolist() == [2, 6]
        interpreter.allocate_tensors()  # its owner may go on using it
        with pytest.raises(OptionError, match="its variables cannot be reset; make a new interpreter"):
            add.do_command({"command": "reset"})


@ANY
def test_other_backends_have_no_signatures(engine: str) -> None:
    pytest.importorskip("onnxruntime")
    digits = Path(accelerate.__file__).parent / "data" / "digits.onnx"
    with accelerate.load(digits, backend="onnxruntime") as model, pytest.raises(OptionError, match="no signatures"):
        model.signature("train")


@ANY
def test_a_model_and_its_signatures_are_collected(engine: str) -> None:
    model = load(odd_models.counting(), engine, signature="add")
    scale = model.signature("scale")
    scale.infer(np.ones(2, np.float32))
    both = [weakref.ref(model), weakref.ref(scale)]
    gc.disable()
    try:
        del model, scale
        assert [one() for one in both] == [None, None]
    finally:
        gc.enable()


def two_sums(second: str = "RNN") -> bytes:
    """Signatures "a" and "b" over graphs of their own, each giving the sum of every x so far; or one "b" that fails."""
    graphs = []
    for kind in ("RNN", second):
        graph = Graph()
        if kind == "RNN":
            x, y = (graph.tensor(name, [1, 1], "float32") for name in "xy")
            state = graph.tensor("state", [1, 1], "float32", is_variable=True)
            one = graph.constant("one", np.ones((1, 1), np.float32))
            zero = graph.constant("zero", np.zeros(1, np.float32))
            graph.op("RNN", [x, one, one, zero, state], [y], schema.RNNOptionsT())
            graph.inputs = [x]
        else:  # shapes that no broadcasting brings together
            x, other, y = (graph.tensor(name, [n], "float32") for name, n in (("x", 2), ("other", 3), ("y", 3)))
            graph.op("ADD", [x, other], [y], schema.AddOptionsT())
            graph.inputs = [x, other]
        graph.outputs = [y]
        graphs.append(graph)
    names = [dict(zip(("x", "other"), graph.inputs, strict=False)) for graph in graphs]
    return build(
        graphs,
        signatures=[(key, n, names[n], {"y": graphs[n].outputs[0]}) for n, key in enumerate("ab")],
    )


ONE = np.ones((1, 1), np.float32)


@ANY
def test_each_signature_has_the_state_of_its_graph(engine: str) -> None:
    with load(two_sums(), engine, signature="a") as a:
        a.warmup(2)
        assert [a.infer(ONE)["y"].item() for _ in range(2)] == [1, 2]
        b = a.signature("b")
        b.warmup()
        assert [b.infer(ONE)["y"].item() for _ in range(3)] == [1, 2, 3]
        assert a.infer(ONE)["y"].item() == 3
        del b
        a.do_command({"command": "reset"})
        assert (a.infer(ONE)["y"].item(), a.signature("b").infer(ONE)["y"].item()) == (1, 1)


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="tflite-runtime refuses the whole file")
def test_a_signature_that_fails_leaves_the_state_alone() -> None:
    with load(two_sums("ADD"), "litert", signature="a") as model:
        assert [model.infer(ONE)["y"].item() for _ in range(2)] == [1, 2]
        with pytest.raises(accelerate.AccelerateError):
            model.signature("b")
        assert model.infer(ONE)["y"].item() == 3
        model.do_command({"command": "reset"})
        assert model.infer(ONE)["y"].item() == 1


@ANY
def test_models_of_one_graph_keep_its_shapes_together(engine: str) -> None:
    model = odd_models.rows_under_two_names()
    x = RANDOM.normal(0, 1, (5, 3)).astype(np.float32)
    with load(model, engine) as one:
        other = one.signature("other")
        for rows in (2, 5, 1):
            assert np.array_equal(other.infer(x[:rows])["y"], 2 * x[:rows])
            with pytest.raises(TensorError):
                other.infer(np.zeros((rows, 4), np.float32))
            assert np.array_equal(one.infer(x[:3])["y"], 2 * x[:3])
    with load(model, engine, shapes=(2, 3)) as one:
        other = one.signature("other")
        with pytest.raises(TensorError):
            other.infer(x)
        assert np.array_equal(other.infer(x[:2])["y"], 2 * x[:2])
        assert np.array_equal(one.infer(x[:2])["y"], 2 * x[:2])


@ANY
def test_a_model_outlives_its_file(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.counting())
    with load(path, engine, signature="add") as model:
        path.write_bytes(odd_models.add3())
        model.warmup()
        path.unlink()
        model.warmup()
        assert model.infer(np.ones(2, np.float32))["y"].tolist() == [2, 2]
        model.do_command({"command": "reset"})
        assert model.signature("scale").infer(np.ones(2, np.float32))["y"].tolist() == [1, 1]


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT alone maps files")
def test_a_mapped_file_that_is_another_one_by_now_gives_no_new_interpreter(tmp_path: Path) -> None:
    path, other = tmp_path / "model.tflite", tmp_path / "other.tflite"
    path.write_bytes(odd_models.counting() + bytes(17 << 20))
    other.write_bytes(odd_models.add3() + bytes(17 << 20))
    with load(path, "litert", signature="add") as model:
        assert model.infer(np.ones(2, np.float32))["y"].tolist() == [2, 2]
        other.replace(path)
        for again in (lambda: model.do_command({"command": "reset"}), model.warmup, lambda: model.signature("scale")):
            with pytest.raises(accelerate.ModelError, match="has changed since it was loaded; load it again"):
                again()
        assert model.infer(np.ones(2, np.float32))["y"].tolist() == [3, 3]
