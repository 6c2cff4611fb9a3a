"""Replicas, awaiting, and streams of inputs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from tflite_writer import Graph, build

import accelerate
from accelerate import ClosedError, InferenceTimeoutError, OptionError, TensorError
from accelerate.testing import random_inputs

ANY = pytest.mark.parametrize("engine", engines.INSTALLED)


def load(model: bytes | Path, engine: str, **options: Any) -> accelerate.Model:
    return accelerate.load(model, backend="tflite_cpu", engine=engine, **options)


# replicas


@ANY
def test_a_mistake_does_not_wait_for_a_replica(engine: str) -> None:
    with load(odd_models.add3(), engine, replicas=2) as model:
        for replica in model.models:  # type: ignore[attr-defined]
            replica.turn.lock.acquire()
        callers = [threading.Thread(target=model.infer, args=(np.zeros(3, np.float32),)) for _ in range(2)]
        for caller in callers:
            caller.start()
        started = time.monotonic()
        with pytest.raises(TensorError, match="no input 'nope'"):
            model.infer({"nope": 1}, timeout=20)
        assert time.monotonic() - started < 10
        for replica in model.models:  # type: ignore[attr-defined]
            replica.turn.lock.release()
        for caller in callers:
            caller.join(20)


@ANY
def test_all_replicas_are_closed_whatever_one_raises(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(odd_models.add3(), engine, replicas=2)
    first, second = model.models  # type: ignore[attr-defined]

    def fail() -> None:
        raise RuntimeError("the driver says no")

    monkeypatch.setattr(first, "release", fail)
    with pytest.raises(RuntimeError, match="says no"):
        model.close()
    assert second.turn.closed
    model.close()  # once is enough


@ANY
def test_replicas_answer_like_one(engine: str) -> None:
    feeds = [np.random.default_rng(n).random(3).astype(np.float32) for n in range(8)]
    with load(odd_models.add3(), engine, replicas=3) as model:
        assert model.runtime.details["replicas"] == 3

        def calls(x: Any) -> list[Any]:
            return [model.infer(x, timeout=30 if n % 3 == 0 else None)["y"] for n in range(200)]

        with ThreadPoolExecutor(8) as pool:
            for x, answers in zip(feeds, pool.map(calls, feeds), strict=True):
                assert all((y == x + x).all() for y in answers)
        assert model.do_command({"command": "stats"})["calls"] == 1600
        with model.bind() as binding:
            binding.inputs["x"][...] = 2
            binding.run()
            assert binding.outputs["y"].tolist() == [4, 4, 4]
        assert model.do_command({"command": "warmup", "runs": 2})["runs"] == 2


@ANY
def test_renamed_tensors_and_metadata_of_replicas(engine: str) -> None:
    names = {"inputs": {"x": "mine"}, "outputs": {"y": "out"}}
    with load(odd_models.add3(), engine, replicas=2, tensor_names=names) as model:
        assert [t.name for t in model.metadata().inputs] == ["mine"]
        assert model.infer({"x": np.ones(3, np.float32)})["out"].tolist() == [2, 2, 2]


def sum_of_dynamic_inputs() -> bytes:
    """a + b, each float32 [-1, 3]: shapes that do not go together fail in the runtime, not in our checks."""
    graph = Graph()
    graph.inputs = [graph.tensor(name, (-1, 3), "float32") for name in ("a", "b")]
    graph.outputs = [graph.tensor("y", (-1, 3), "float32")]
    graph.op("ADD", graph.inputs, graph.outputs, schema.AddOptionsT())
    return build([graph])


def test_replicas_convert_inputs_as_their_backend_does() -> None:
    odd_onnx = pytest.importorskip("odd_onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with (
        accelerate.load(odd_onnx.unknown_rank(), backend="onnxruntime") as one,
        accelerate.load(odd_onnx.unknown_rank(), backend="onnxruntime", replicas=2) as two,
    ):
        (expected,), (answer,) = one.infer(x).values(), two.infer(x).values()
        np.testing.assert_array_equal(answer, expected)
        assert two.runtime.details["replicas"] == 2


@ANY
def test_an_exception_leaks_no_replica(engine: str) -> None:
    two, four = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    with load(sum_of_dynamic_inputs(), engine, replicas=2) as model:
        for _ in range(10):
            with pytest.raises(TensorError, match="cannot run"):
                model.infer({"a": two, "b": four})
            with pytest.raises(TensorError, match="cannot run"):
                model.infer({"a": two, "b": four}, timeout=5)
        assert model.infer({"a": two, "b": two}, timeout=5)["y"].shape == (2, 3)
        assert model.infer({"a": four, "b": four}, timeout=5)["y"].shape == (4, 3)


@ANY
def test_a_replica_that_was_left_comes_back_and_the_other_serves_meanwhile(engine: str) -> None:
    with load(odd_models.slow(0.3), engine, replicas=2) as model:
        inputs = random_inputs(model)
        with pytest.raises(InferenceTimeoutError):
            model.infer(inputs, timeout=0.03)
        with pytest.raises(InferenceTimeoutError):
            model.infer(inputs, timeout=0.03)
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match="all 2 replicas were busy"):
            model.infer(inputs, timeout=0.03)
        assert time.monotonic() - started < 0.3
        for _ in range(2):
            model.infer(inputs, timeout=60)


@ANY
def test_closing_replicas(engine: str) -> None:
    model = load(odd_models.slow(0.3), engine, replicas=2)
    inputs = random_inputs(model)
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(model.infer(inputs))) for _ in range(2)]
    for caller in callers:
        caller.start()
    time.sleep(0.05)
    started = time.monotonic()
    model.close()
    assert time.monotonic() - started < 0.1
    for caller in callers:
        caller.join(60)
    assert len(answers) == 2
    with pytest.raises(ClosedError):
        model.infer(inputs)


@pytest.mark.parametrize("replicas", [0, -1, 1.5, True, "2"])
def test_impossible_replicas(replicas: Any) -> None:
    with pytest.raises(OptionError, match="replicas"):
        accelerate.load(odd_models.add3(), replicas=replicas)


def test_a_failure_to_load_a_replica_closes_the_others() -> None:
    before = threading.active_count()
    with pytest.raises(accelerate.UnsupportedModelError):
        accelerate.load(odd_models.custom_op("Mystery"), replicas=3)
    assert threading.active_count() == before


# infer_async


@ANY
def test_awaiting_does_not_block_the_loop(engine: str) -> None:
    async def main() -> tuple[list[Any], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        results = await asyncio.gather(*(model.infer_async(inputs) for _ in range(2)))
        ticking.cancel()
        return results, ticks

    with load(odd_models.slow(0.3), engine, replicas=2) as model:
        inputs = random_inputs(model)
        results, ticks = asyncio.run(main())
        assert ticks > 10
        np.testing.assert_allclose([next(iter(r.values())) for r in results], [inputs["x"]] * 2, rtol=1e-3)


@ANY
def test_errors_deadlines_and_cancelling_of_awaited_calls(engine: str) -> None:
    async def main() -> None:
        with pytest.raises(TensorError, match="did you mean"):
            await model.infer_async({"X": 1})
        with pytest.raises(InferenceTimeoutError):
            await model.infer_async(inputs, timeout=0.05)
        task = asyncio.create_task(model.infer_async(inputs))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(await model.infer_async(inputs, timeout=60, dequantize=True)) == {"y"}

    model = load(odd_models.slow(0.3), engine)
    inputs = random_inputs(model)
    asyncio.run(main())
    model.close()
    with pytest.raises(ClosedError):
        asyncio.run(model.infer_async(inputs))


@ANY
@pytest.mark.parametrize("options", [{}, {"replicas": 2}])
def test_frames_are_awaited(engine: str, options: dict[str, Any]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), np.uint8)
    ways: dict[str, Any] = {"color": "BGR", "resize": "letterbox", "anchor": "top-left", "fill": (1, 2, 3)}
    with load(odd_models.image_float(), engine, normalization=(127.5, 127.5), **options) as model:

        async def run() -> None:
            answers = await asyncio.gather(*(model.infer_image_async(frame, **ways) for frame in frames))
            for frame, answer in zip(frames, answers, strict=True):
                np.testing.assert_array_equal(answer["y"], model.infer_image(frame, **ways)["y"])
            with pytest.raises(OptionError, match="color is 'bgr'"):
                await model.infer_image_async(frames[0], color="bgr")
            with pytest.raises(InferenceTimeoutError):
                await model.infer_image_async(frames[0], timeout=1e-9)

        asyncio.run(run())
    with pytest.raises(ClosedError):
        asyncio.run(model.infer_image_async(frames[0]))


@ANY
def test_an_awaited_frame_is_resized_off_the_event_loop(engine: str) -> None:
    shutter = threading.Event()

    class Camera:
        def __array__(self, *_: Any, **__: Any) -> Any:
            assert shutter.wait(60)
            return np.full((9, 9, 3), 255, np.uint8)

    async def run() -> None:
        task = asyncio.create_task(model.infer_image_async(Camera(), timeout=60))
        await asyncio.sleep(0.05)
        assert not task.done()  # it waits for the picture, and this loop goes on
        shutter.set()
        np.testing.assert_array_equal((await task)["y"], np.ones((1, 4, 4, 3)))

    with load(odd_models.image_float(), engine, normalization=(127.5, 127.5)) as model:
        asyncio.run(run())


# map


@ANY
@pytest.mark.parametrize("options", [{}, {"in_flight": 1}, {"in_flight": 7}])
def test_map_keeps_the_order_and_every_item(engine: str, options: dict[str, Any]) -> None:
    frames: list[Any] = [np.full(3, n, np.float32) for n in range(40)]
    frames[5] = {"wrong": 1}
    frames[11] = np.zeros(7, np.float32)
    with load(odd_models.add3(), engine, replicas=2) as model:
        results = list(accelerate.map(model, frames, **options))
    assert len(results) == 40
    for n, result in enumerate(results):
        if n in (5, 11):
            assert isinstance(result, TensorError)
        else:
            assert isinstance(result, dict)
            assert result["y"].tolist() == [2 * n] * 3


@ANY
def test_map_takes_no_more_than_it_has_room_for(engine: str) -> None:
    taken = 0

    def frames() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield np.ones(3, np.float32)

    with load(odd_models.add3(), engine) as model:
        results = accelerate.map(model, frames(), in_flight=3)
        for n in range(10):
            assert isinstance(next(results), dict)
            assert taken <= n + 3
        results.close()  # type: ignore[attr-defined]


@ANY
def test_map_converts_frames_of_the_tensors_size_like_others(engine: str) -> None:
    digits = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    with load(digits, engine, normalization=(0, 255)) as model:
        want = model.infer_image(frame)["scores"]
        same: list[Any] = list(
            accelerate.map(model, [frame, frame[None], frame.repeat(2, 0).repeat(2, 1)], resample="nearest")
        )
        assert np.array_equal(same[0]["scores"], want)
        assert np.array_equal(same[2]["scores"], want)
        assert not np.array_equal(want, model.infer(frame)["scores"])


@ANY
def test_map_with_progress_shows_a_bar_and_passes_results_on(engine: str, capsys: Any) -> None:
    with load(odd_models.add3(), engine) as model:
        results = list(accelerate.map(model, [np.ones(3, np.float32)] * 5, progress=True))
    assert len(results) == 5
    assert "inference" in capsys.readouterr().out


@ANY
def test_map_takes_whatever_infer_takes(engine: str, tmp_path: Path) -> None:
    class Like:
        def __array__(self, *_: Any, **__: Any) -> Any:
            return np.ones(3, np.float32)

    with load(odd_models.add3(), engine) as model:
        for result in accelerate.map(model, [[1.0, 1.0, 1.0], (1, 1.0, 1), Like(), {"x": [1.0, 1.0, 1.0]}]):
            assert isinstance(result, dict)
            assert result["y"].tolist() == [2, 2, 2]
    with load(odd_models.strings(), engine) as model:
        (result,) = accelerate.map(model, ["a path, were this an image"])
        assert not isinstance(result, OptionError)
    Image.fromarray(np.full((20, 20, 3), 255, np.uint8)).save(tmp_path / "white.png")
    with load(odd_models.image_float(), engine, normalization=(127.5, 127.5)) as model:
        by_path, by_array = accelerate.map(model, [tmp_path / "white.png", np.ones((1, 4, 4, 3), np.float32)])
        assert isinstance(by_path, dict)
        assert isinstance(by_array, dict)
        np.testing.assert_allclose(by_path["y"], by_array["y"])


@ANY
@pytest.mark.parametrize(
    "ways", [{}, {"color": "BGR", "resize": "letterbox", "anchor": "top-left", "fill": 114, "resample": "area"}]
)
def test_map_takes_frames_of_any_size_and_kind(engine: str, ways: dict[str, Any], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = [
        random.integers(0, 256, shape, np.uint8) for shape in ((20, 30, 3), (4, 4, 3), (5, 4, 1), (7, 9), (3, 3, 3))
    ]
    picture = tmp_path / "frame.png"
    Image.fromarray(arrays[0]).save(picture)
    pictures = [picture, picture.read_bytes(), bytearray(picture.read_bytes()), Image.fromarray(arrays[0])]
    frames: list[Any] = arrays if ways else [*arrays, *pictures]
    with load(odd_models.image_float(), engine, normalization=(127.5, 127.5)) as model:
        for frame, result in zip(frames, accelerate.map(model, frames, **ways), strict=True):
            assert isinstance(result, dict), result
            np.testing.assert_array_equal(result["y"], model.infer_image(frame, **ways)["y"])
        tensor = random.uniform(-1, 1, (1, 4, 4, 3)).astype(np.float32)
        levels = random.integers(0, 256, (1, 4, 4, 3), np.uint8)
        for given, result in zip((tensor, levels), accelerate.map(model, [tensor, levels], **ways), strict=True):
            assert isinstance(result, dict), result
            np.testing.assert_array_equal(result["y"], model.infer(given)["y"])
        wrong, unknown = accelerate.map(model, [arrays[0].astype(np.float64), b"no picture"])
        assert isinstance(wrong, TensorError)
        assert isinstance(unknown, OptionError)


@ANY
def test_map_goes_on_where_the_model_is_closed_meanwhile(engine: str) -> None:
    with load(odd_models.image_float(), engine) as model:

        def frames() -> Iterator[Any]:
            for n in range(6):
                if n == 3:
                    model.close()
                yield f"picture {n}.png"

        results = list(accelerate.map(model, frames()))
    assert len(results) == 6
    assert all(isinstance(result, accelerate.AccelerateError) for result in results)
    assert isinstance(results[-1], ClosedError)


@ANY
def test_map_gives_what_it_has_before_the_failure_of_its_source(engine: str) -> None:
    def frames() -> Iterator[Any]:
        for n in range(5):
            yield np.full(3, n, np.float32)
        raise OSError("the camera is gone")

    with load(odd_models.add3(), engine) as model:
        results = accelerate.map(model, frames(), in_flight=3)
        firsts = [next(results) for _ in range(5)]
        assert [r["y"][0] for r in firsts if isinstance(r, dict)] == [0, 2, 4, 6, 8]
        with pytest.raises(OSError, match="camera"):
            next(results)


def test_map_starts_no_more_threads_than_it_uses() -> None:
    def workers() -> int:
        return sum(t.name == "accelerate-worker" for t in threading.enumerate())

    before = workers()
    with accelerate.load(odd_models.add3(), backend="tflite_cpu", replicas=2) as model:
        results = accelerate.map(model, (np.ones(3, np.float32) for _ in range(100)), in_flight=50)
        next(results)
        assert workers() - before <= 3
        results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("in_flight", [0, -3, 1.5, "2", True])
def test_impossible_in_flight(in_flight: Any) -> None:
    with (
        accelerate.load(odd_models.add3(), backend="tflite_cpu") as model,
        pytest.raises(OptionError, match="in_flight"),
    ):
        accelerate.map(model, [], in_flight=in_flight)
