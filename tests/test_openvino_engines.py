"""Compiled models in the cache folder: found again, never another model's, and no load fails for them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")  # builds models

import odd_onnx
from onnx import TensorProto, helper
from openvino_models import compiled, raw_answer, written

import accelerate
from accelerate.contract import Array, random_tensor


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(odd_onnx.convolution())
    return path


def state(model: accelerate.Model) -> str:
    """Return what the cache had to do with a load: "built", "kept", "not kept", or nothing."""
    told: str = model.runtime.details.get("engine_cache", {}).get("state", "")
    return told


def loaded(path: Any, **options: Any) -> tuple[str, list[Array]]:
    """Return what the cache had to do with a load, and the model's answer to something."""
    with accelerate.load(path, backend="openvino", num_threads=1, **options) as model:
        random = np.random.default_rng(0)
        inputs = {t.name: random_tensor(t, random) for t in model.metadata().inputs}
        return state(model), list(model.infer(inputs).values())


def engines(cache: Path) -> list[Path]:
    return sorted(cache.rglob("compiled"))


def same(one: list[Array], other: list[Array]) -> bool:
    return all(map(np.array_equal, one, other)) and len(one) == len(other)


def test_a_second_load_finds_the_first_ones(path: Path, cache: Path) -> None:
    first, answer = loaded(path)
    second, again = loaded(path)
    assert (first, second) == ("built", "kept")
    assert same(answer, again)
    (engine,) = engines(cache)
    assert engine.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "yolox_nano.onnx", "vww_96_int8.tflite"])
def test_what_was_kept_answers_as_what_was_compiled(models_dir: Path, name: str) -> None:
    raw = compiled(models_dir / name)
    for wanted in ("built", "kept"):
        with accelerate.load(models_dir / name, backend="openvino", num_threads=1) as model:
            assert state(model) == wanted
            random = np.random.default_rng(3)
            inputs = [random_tensor(t, random) for t in model.metadata().inputs]
            if -1 in model.metadata().inputs[0].shape:
                inputs = [np.repeat(inputs[0], 2, axis=0)]
            outputs = model.infer({str(i): value for i, value in enumerate(inputs)})
            assert same(list(outputs.values()), raw_answer(raw, inputs))


def test_another_model_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    """OpenVINO's own cache takes it for the old one."""
    path = tmp_path / "model.onnx"
    answers = []
    for operator in ("Mul", "Add"):
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3,)) for name in ("a", "b", "c")]
        graph = helper.make_graph([helper.make_node(operator, ["a", "b"], ["c"])], "g", tensors[:2], tensors[2:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        os.utime(path, (1e9, 1e9))
        answers.append(loaded(path)[1])
    assert not same(*answers)


def test_what_decides_about_it_is_part_of_its_name(path: Path, cache: Path) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"config": {"EXECUTION_MODE_HINT": "PERFORMANCE"}},
        {"replicas": 2},
    ]
    for options in ways:
        with accelerate.load(path, backend="openvino", **options) as model:
            assert state(model) == "built"
    assert len(engines(cache)) == len(ways)
    dynamic = path.with_name("dynamic.onnx")
    dynamic.write_bytes(odd_onnx.double(("batch", 3)))
    for shapes in (None, {"x": (2, 3)}, {"x": (4, 3)}):
        with accelerate.load(dynamic, backend="openvino", shapes=shapes) as model:
            assert state(model) == "built"
            assert model.metadata().inputs[0].shape == ((-1, 3) if shapes is None else shapes["x"])


def test_weights_in_another_file_are_part_of_its_name(tmp_path: Path) -> None:
    path = written(odd_onnx.convolution(), tmp_path / "model.xml")
    before = loaded(path)
    weights = path.with_suffix(".bin")
    content = np.frombuffer(weights.read_bytes(), np.float32).copy()
    content[:4] += 1
    weights.write_bytes(content.tobytes())
    after = loaded(path)
    assert (before[0], after[0]) == ("built", "built")
    assert not same(before[1], after[1])


def test_bytes_and_a_users_own_cache_leave_nothing_in_ours(path: Path, cache: Path, tmp_path: Path) -> None:
    for source, options in (
        (path.read_bytes(), {}),
        (path, {"config": {"CACHE_DIR": ""}}),
        (path, {"config": {"CACHE_DIR": str(tmp_path / "theirs")}}),
    ):
        assert loaded(source, **options)[0] == ""
    assert engines(cache) == []
    assert any((tmp_path / "theirs").iterdir())


def test_another_versions_engines_are_not_taken(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    loaded(path)
    monkeypatch.setattr(openvino, "__version__", "2027.0.0-1-other")
    assert loaded(path)[0] == "built"
    assert len(engines(cache)) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "grown", "another's", "a folder", "gone"])
def test_damaged_ones_are_compiled_anew(path: Path, cache: Path, damage: str) -> None:
    _, answer = loaded(path)
    (engine,) = engines(cache)
    content = bytearray(engine.read_bytes())
    middle = len(content) // 2
    if damage == "changed":
        content[middle] ^= 4
    engine.unlink()
    if damage == "a folder":
        engine.mkdir()
    elif damage != "gone":
        pieces = {"cut": bytes(content[:middle]), "empty": b"", "grown": bytes(content) + b"0", "another's": bytes(99)}
        engine.write_bytes(pieces.get(damage, bytes(content)))
    told, again = loaded(path)
    assert told == "built"
    assert same(answer, again)
    assert loaded(path)[0] == "kept"


def test_one_whose_digest_is_right_and_that_openvino_does_not_take(path: Path, cache: Path) -> None:
    loaded(path)
    (engine,) = engines(cache)
    about = engine.with_name("about")
    content = b"compiled by somebody else"
    theirs, other = (sha256(each).hexdigest().encode() for each in (engine.read_bytes(), content))
    about.write_bytes(about.read_bytes().replace(theirs, other))
    engine.write_bytes(content)
    assert loaded(path)[0] == "built"


def test_a_model_that_is_refused_leaves_nothing(path: Path, cache: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(accelerate.UnsupportedModelError):
        loaded(path)
    assert not list(cache.glob("engines/*/*"))


def test_one_that_another_program_builds_now(path: Path, cache: Path) -> None:
    with accelerate.load(path, backend="openvino", num_threads=1) as model:
        folder = Path(model.runtime.details["engine_cache"]["path"])
    (folder / "about").unlink()
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert loaded(path)[0] == "not kept"
    finally:
        os.close(lock)
    assert loaded(path)[0] == "built"


def test_a_folder_that_cannot_be_written(path: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "engines").write_text("a file")
    assert loaded(path)[0] == "not kept"


@pytest.fixture
def small_disk(cache: Path) -> Iterator[Path]:
    """A file system of 64 kB as the cache folder."""
    cache.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid():
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k", "none", str(cache)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
    yield cache
    subprocess.run(["umount", str(cache)], check=True)


def test_a_full_folder(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(60 << 10))
    path = tmp_path / "model.onnx"
    path.write_bytes(odd_onnx.convolution())
    for _ in range(2):
        told, answer = loaded(path)
        assert told == "not kept"
        assert answer
    assert [one for one in small_disk.rglob("*") if one.is_file()] == [small_disk / "filler"]


def test_a_read_only_folder(small_disk: Path, path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert loaded(path)[0] == "not kept"
