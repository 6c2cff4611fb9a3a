"""Vision tasks as programs use them: arguments, results that are arrays, threads, asyncio and maps."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelerate
from accelerate import AssumptionWarning, InferenceTimeoutError, Metadata, OptionError, TensorError, TensorInfo
from accelerate.image import geometry
from accelerate.vision import Classifier, Detection, Detections, Detector, Layout, PoseEstimator, Segmenter, task_for

SIZE = 32
#: Boxes as shares of the tensor, classes and scores, in no order.
BOXES = np.array([[0.25, 0.25, 0.5, 0.75], [0, 0, 1, 1], [0.5, 0.125, 0.75, 0.25], [0.1, 0.1, 0.2, 0.2]], np.float32)
CLASSES = np.array([1, 0, 2, 7], np.float32)
SCORES = np.array([0.75, 0.25, 0.875, 0.125], np.float32)


def listing(boxes: Any = BOXES, classes: Any = CLASSES, scores: Any = SCORES, work: int = 0) -> bytes:
    """Return a detector that finds the same in each picture: boxes in the order ymin xmin ymax xmax."""
    parts = {"detection_boxes": boxes, "detection_classes": classes, "detection_scores": scores}
    return constant({name: np.asarray(values, np.float32)[np.newaxis] for name, values in parts.items()}, work)


def constant(outputs: Mapping[str, Any], work: int = 0) -> bytes:
    """Return a model that gives the same for each picture, after so many products of large matrices."""
    constants = [numpy_helper.from_array(np.zeros((), np.float32), "nothing")]
    constants.append(numpy_helper.from_array(np.full((900, 900), 1 / 900, np.float32), "large"))
    nodes = [helper.make_node("ReduceMin", ["image"], ["least"], keepdims=0)]
    nodes += [
        helper.make_node("Mul", ["least", "nothing"], ["zero"]),
        helper.make_node("Add", ["large", "least"], ["m0"]),
    ]
    for i in range(work):
        nodes.append(helper.make_node("MatMul", [f"m{i}", "large"], [f"m{i + 1}"]))
    nodes.append(helper.make_node("ReduceMin", [f"m{work}"], ["made"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["made", "nothing"], ["waited"]))
    for name, values in outputs.items():
        constants.append(numpy_helper.from_array(values, f"{name} told"))
        nodes.append(helper.make_node("Add", [f"{name} told", "waited"], [name]))
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name, values in outputs.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIZE, SIZE))
    graph = helper.make_graph(nodes, "constant", [image], given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture
def model() -> Iterator[accelerate.Model]:
    with accelerate.load(listing(), normalization=(0, 255)) as loaded:
        yield loaded


def frame(height: int = 64, width: int = 96) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_results_are_sequences_and_arrays(model: accelerate.Model) -> None:
    found = Detector(model)(frame())
    assert isinstance(found, Detections)
    assert len(found) == 2
    assert [str(array.dtype) for array in (found.boxes, found.scores, found.classes)] == ["float32", "float32", "int64"]
    assert (found.boxes.shape, found.boxes.flags.c_contiguous) == ((2, 4), True)
    assert (found.scores.tolist(), found.classes.tolist()) == ([0.875, 0.75], [1, 0])
    assert (found.masks, found.keypoints, found.corners) == (None, None, None)


def test_classes_of_the_object_detection_api_count_from_one(model: accelerate.Model) -> None:
    found = Detector(model, min_score=0.1)(frame())
    assert [(one.label, one.index, one.score) for one in found] == [("1", 1, 0.875), ("0", 0, 0.75), ("6", 6, 0.125)]
    first = found[0]
    assert isinstance(first, Detection)
    assert first.box == pytest.approx((0.125 * 96, 0.5 * 64, 0.25 * 96, 0.75 * 64))
    assert (first.keypoints, first.mask, first.corners) == (None, None, None)


def test_what_results_show_steers_no_terminal(model: accelerate.Model) -> None:
    wild = replace(model.metadata(), labels=("\x1b[31m", "b\n"))
    found = Detector(wild).decode(model.infer_image(frame()), geometry((64, 96), wild.inputs[0]))
    assert repr(found) == "<Detections: 2: b\\n 0.88, \\x1b[31m 0.75>"


def test_results_are_taken_by_slice_mask_and_list(model: accelerate.Model) -> None:
    found = Detector(model, min_score=0.1)(frame())
    for rows in (slice(1, None), [1, 2], np.array([False, True, True])):
        some = found[rows]
        assert isinstance(some, Detections)
        assert some.classes.tolist() == [0, 6]
        assert some.labels.tolist() == ["0", "6"]
    assert found[-1].index == 6
    assert [one.index for one in reversed(found)] == [6, 0, 1]
    with pytest.raises(IndexError, match="there are 3 results"):
        found[3]
    odd: Any
    for odd in (None, [[0, 1]], np.True_, 1.5, "0"):
        with pytest.raises(IndexError):
            found[odd]
    assert repr(found) == "<Detections: 3: 1 0.88, 0 0.75, 6 0.12>"
    assert not Detector(model)(frame(), min_score=1)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"min_score": 0.75}, [1, 0]),  # a score that equals it is not left out
        ({"min_score": 0.7500001}, [1]),
        ({"max_results": 1, "min_score": 0}, [1]),
        ({"allow": ["0", "6"], "min_score": 0}, [0, 6]),
        ({"allow": {"0": 0.8, "6": None, "1": 0.1}, "min_score": 0.1}, [1, 6]),
        ({"allow": {"6": 0.125}}, [6]),
        ({"deny": ["1"]}, [0]),
        ({"deny": ["1", "0", "6"], "min_score": 0}, []),
    ],
)
def test_what_is_left_out(model: accelerate.Model, options: Mapping[str, Any], wanted: list[int]) -> None:
    assert Detector(model, **options)(frame()).classes.tolist() == wanted


def test_a_call_has_its_own_limits(model: accelerate.Model) -> None:
    detect = Detector(model)
    assert len(detect(frame(), min_score=0, max_results=2)) == 2
    assert len(detect(frame(), min_score=0)) == 3
    assert len(detect(frame())) == 2
    outputs = model.infer_image(frame())
    assert len(detect.decode(outputs, geometry((64, 96), model.metadata().inputs[0]), min_score=0.1)) == 3


def test_boxes_are_cut_off_where_that_is_asked_for() -> None:
    boxes = np.array([[-0.5, 0.25, 2, 0.5]], np.float32)
    with accelerate.load(listing(boxes, [1], [0.5]), normalization=(0, 1)) as model:
        assert Detector(model)(frame())[0].box == pytest.approx((24, -32, 48, 128))
        assert Detector(model, clip=True)(frame())[0].box == pytest.approx((24, 0, 48, 64))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (10_000, 10_000)])
def test_frames_of_any_size(model: accelerate.Model, size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    for resize in ("letterbox", "crop"):
        assert np.isfinite(Detector(model, resize=resize)(picture).boxes).all()
    shares = Detector(model)(picture).boxes[0] / np.array((size[1], size[0]) * 2)
    np.testing.assert_allclose(shares, (0.125, 0.5, 0.25, 0.75), rtol=1e-5)


def test_letterbox_is_undone(model: accelerate.Model) -> None:
    """The tensor shows the frame, 3:2, in its upper two thirds, or between two sixths."""
    relative = np.array([0.125, 0.5, 0.25, 0.75])
    for anchor, shift in (("top-left", 0.0), ("center", 16.0)):
        found = Detector(model, resize="letterbox", anchor=anchor)(frame())
        tall = relative * 96 - (0, shift, 0, shift)
        np.testing.assert_allclose(found[0].box, tall, atol=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layout": "yolo"}, r"layout is 'yolo'; wanted 'auto', a Layout, or a mapping"),
        ({"layout": {"unitt": "pixels"}}, r"no 'unitt' \(did you mean 'unit'\?\)"),
        ({"layout": {"unit": "inches"}}, "layout.'unit'. is 'inches'; wanted one of"),
        ({"layout": {"kind": "rows", "outputs": {"rows": "box"}}}, "the model has no output 'box'"),
        ({"layout": {"kind": "list", "outputs": {"rows": "detection_boxes"}}}, "hold no 'rows'"),
        ({"layout": Layout("scores", {"scores": "detection_scores"})}, "layout is of kind 'scores'"),
        ({"box_order": "xyx"}, "box_order is 'xyx'; wanted one of 'xyxy'"),
        ({"min_score": 25}, "min_score is 25; wanted a number from 0 to 1"),
        ({"iou": float("nan")}, "iou is nan"),
        ({"max_results": 0}, "max_results is 0"),
        ({"nms_candidates": 0.5}, "nms_candidates is 0.5"),
        ({"allow": "person"}, "allow is 'person'; wanted labels"),
        ({"allow": ["persn"]}, r"no label 'persn' \(did you mean 'person'\?\)"),
        ({"allow": {"person": 2}}, r"allow\['person'\] is 2"),
        ({"input_color": "bgr"}, "input_color is 'bgr'"),
        ({"resize": "squash"}, "resize is 'squash'"),
    ],
)
def test_wrong_arguments_say_what_is_wanted(arguments: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("person\ndog\n")
    with (
        accelerate.load(listing(), normalization=(0, 1), label_path=labels) as model,
        pytest.raises(OptionError, match=said),
    ):
        Detector(model, **arguments)(frame())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Detector was given str 'model[.]tflite'; wanted a model"):
        Detector("model.tflite")  # type: ignore[arg-type]


def test_metadata_alone_decodes(model: accelerate.Model) -> None:
    metadata = model.metadata()
    detect = Detector(metadata)
    where = geometry((64, 96), metadata.inputs[0])
    outputs = model.infer_image(frame())
    ours, theirs = detect.decode(outputs, where), Detector(model)(frame())
    np.testing.assert_array_equal(ours.boxes, theirs.boxes)
    with pytest.raises(OptionError, match="made of a Metadata and has no model to run"):
        detect(frame())
    with pytest.raises(TensorError, match="there is no output 'detection_boxes' among 'x'"):
        detect.decode({"x": np.zeros(3)}, where)


def test_a_task_goes_to_other_processes_with_its_model(model: accelerate.Model) -> None:
    detect = Detector(model, min_score=0.8)
    wanted = detect(frame()).boxes.tolist()
    for again in (pickle.loads(pickle.dumps(detect)), copy.deepcopy(detect)):
        assert again.model not in (model, None)
        with again.model or model:
            assert again(frame()).boxes.tolist() == wanted
    alone = pickle.loads(pickle.dumps(Detector(model.metadata(), min_score=0.8)))
    assert alone.decode(model.infer_image(frame()), detect.prepare(frame())[1]).boxes.tolist() == wanted


def test_a_model_of_several_frames_is_refused_by_its_batch() -> None:
    image = TensorInfo("image", shape=(2, 64, 64, 3), layout="NHWC")
    for task in (Classifier, Detector, Segmenter, PoseEstimator):
        with pytest.raises(OptionError, match=r"takes 2 frames at once: input 'image', float32\[2, 64, 64, 3\]"):
            task(Metadata("", "", "", (image,), (TensorInfo("scores", shape=(2, 10)),)))


def test_many_threads_share_a_detector(model: accelerate.Model) -> None:
    detect, wanted, wrong = Detector(model), Detector(model)(frame()).boxes, list[Any]()

    def call() -> None:
        for height in range(40, 60):
            found = detect(frame(height, 96))
            if not np.allclose(found.boxes, wanted * np.array((1, height / 64, 1, height / 64)), atol=1e-3):
                wrong.append(found)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_event_loop_is_not_blocked() -> None:
    with accelerate.load(listing(work=12), normalization=(0, 1), num_threads=1) as model:
        detect = Detector(model)

        async def both() -> tuple[int, Any]:
            task, ticks = asyncio.ensure_future(detect.call_async(frame())), 0
            while not task.done():
                await asyncio.sleep(0.001)
                ticks += 1
            return ticks, await task

        ticks, found = asyncio.run(both())
        assert ticks > 3
        assert len(found) == 2


def test_a_deadline_is_kept() -> None:
    with accelerate.load(listing(work=60), normalization=(0, 1), num_threads=1) as model:
        detect = Detector(model)
        detect(frame())
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError):
            detect(frame(), timeout=0.001)
        assert time.monotonic() - started < 1


def test_a_map_gives_results_in_order_of_frames_of_any_size(model: accelerate.Model) -> None:
    detect = Detector(model)
    frames = [frame(30 + n % 7, 40 + n) for n in range(30)]
    mapped = list(accelerate.map(detect, frames))
    for found, one in zip(mapped, frames, strict=True):
        np.testing.assert_array_equal(found.boxes, detect(one).boxes)


def test_a_map_over_several_gives_each_item_once() -> None:
    with (
        accelerate.load(listing(), normalization=(0, 1), replicas=2) as one,
        accelerate.load(listing(), normalization=(0, 1)) as other,
    ):
        frames = [frame(30, 40 + n) for n in range(40)]
        mapped = list(accelerate.map([Detector(one), Detector(other)], iter(frames)))
        assert [round(float(found.boxes[0, 2] * 4)) for found in mapped] == [40 + n for n in range(40)]


def test_a_failure_in_a_map_is_its_items_alone(model: accelerate.Model) -> None:
    good = frame()
    first, second, third = accelerate.map(Detector(model), [good, np.zeros((3, 3)), good])
    assert isinstance(second, TensorError)
    assert len(first) == len(third) == 2


def test_a_slow_consumer_holds_the_map_back(model: accelerate.Model) -> None:
    taken = []

    def frames() -> Iterator[Any]:
        for n in range(50):
            taken.append(n)
            yield frame()

    for n, _ in enumerate(accelerate.map(Detector(model), frames(), in_flight=3)):
        assert len(taken) <= n + 4
        time.sleep(0.001)
    assert len(taken) == 50


def test_a_map_heeds_what_it_is_given(model: accelerate.Model) -> None:
    detect = Detector(model)
    with pytest.raises(OptionError, match="given resize, and a Detector"):
        accelerate.map(detect, [], resize="letterbox")
    with pytest.raises(OptionError, match="wanted a model, a vision task that has one"):
        accelerate.map(Detector(model.metadata()), [])
    for frames in (5, "street.jpg", Path("street.jpg"), b"", None):
        with pytest.raises(OptionError, match=r"map.. was given the frames .*; wanted several; for one give .frame"):
            accelerate.map(detect, frames)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"map\(\) was given NoneType None; wanted a model"):
        accelerate.map(None, [frame()])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="there is no model to map"):
        accelerate.map([], [])
    (found,) = accelerate.map(detect, [np.zeros((30, 40), np.uint8)], color="GRAY")
    assert len(found) == 2


# What nobody says


def info(name: str, *shape: int, **more: Any) -> TensorInfo:
    return TensorInfo(name, shape=shape, **more)


def test_what_is_assumed_is_said_once(recwarn: pytest.WarningsRecorder) -> None:
    rows = np.zeros((SIZE * SIZE * 21 // 1024, 85), np.float32)
    case = {"output": rows[np.newaxis]}
    with accelerate.load(constant(case)) as model:
        detect = Detector(model)
        with pytest.warns(AssumptionWarning, match="nothing says how a frame .* this assumes resize='letterbox'"):
            detect(frame())
        recwarn.clear()
        detect(frame())
        assert not recwarn.list
        told = Detector(model, resize="stretch", input_color="RGB")
        with pytest.warns(AssumptionWarning) as warned:
            told(frame())
    assert "resize" not in str(warned[0].message)
    assert "normalization=(0.0, 1.0)" in str(warned[0].message)


def test_the_look_at_values_is_told(caplog: pytest.LogCaptureFixture) -> None:
    image = info("images", 1, 3, 64, 64, layout="NCHW")
    metadata = Metadata("net", "", "", (image,), (info("output", 1, 84, 85),))
    detect = Detector(metadata)
    rows = np.zeros((1, 84, 85), np.float32)
    rows[0, 3, :6] = (0.5, 0.5, 0, 0, 1, 1)
    caplog.set_level(logging.INFO, logger="accelerate")
    for _ in range(3):
        (found,) = detect.decode({"output": rows}, geometry((64, 64), image))
    assert found.box == pytest.approx((24, 0, 32, 8))
    (record,) = caplog.records
    assert "net: by the values of the first answers the outputs are: dense, boxes grid" in record.getMessage()
    assert detect.layout is not None
    assert detect.layout.source == "values"


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ([info("scores", 1, 10)], Classifier),
        ([info("a", 1, 5, 4), info("b", 1, 5), info("c", 1, 5)], None),
        ([info("location", 1, 5, 4, extra={"boxOrder": [1, 0, 3, 2]}), info("category", 1, 5), info("score", 1, 5)],
         Detector),
        ([info("map", 1, 21, 64, 64)], Segmenter),
        ([info("points", 1, 1, 17, 3)], PoseEstimator),
        ([info("embedding", 1, 3, 3, 3, 3)], None),
    ],
)  # fmt: skip
def test_the_task_that_a_model_is_for(outputs: list[TensorInfo], kind: Any) -> None:
    metadata = Metadata("", "", "", (info("image", 1, 64, 64, 3, layout="NHWC"),), tuple(outputs))
    if kind is None:
        with pytest.raises(OptionError, match=r"box_order|nothing tells what the outputs of this model hold"):
            task_for(metadata)
    else:
        assert type(task_for(metadata)) is kind
