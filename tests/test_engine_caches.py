"""Engines that are kept in the cache folder: the folders themselves, and what ONNX Runtime's providers build."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate import Model
from accelerate.contract import KeptEngine, kept_engine
from accelerate.source import Source
from accelerate.system import kept

TESTS = Path(__file__).parent
DIGITS = Path(accelerate.__file__).parent / "data" / "digits.onnx"
HAS_OPENVINO = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxruntime_ep_openvino"))
KEY = {"model": "abc", "device": "npu", "versions": ["one 1.0", "two 2.0"]}


@pytest.fixture(scope="module")
def tried() -> Path:
    """The folder in which it is kept that the plugin has been tried, which takes seconds."""
    if HAS_OPENVINO:
        load().close()
    return Path(os.environ["EDGE_ACCELERATE_CACHE"]) / "onnxruntime-plugins"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, tried: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    if tried.exists():
        shutil.copytree(tried, tmp_path / "cache" / tried.name)
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(key: dict[str, Any], size: int = 10) -> KeptEngine:
    engine = kept_engine("runtime", key)
    assert not engine.found
    (engine.path / "engine").write_bytes(os.urandom(size))
    assert engine.keep()
    return engine


def engines(cache: Path) -> set[str]:
    return {path.name for path in (cache / "engines").glob("*/*")}


# The folders


def test_an_engine_is_found_again_and_under_no_other_key(cache: Path) -> None:
    first = build(KEY)
    content = (first.path / "engine").read_bytes()
    assert first.path.is_relative_to(cache)
    assert first.path.stat().st_mode & 0o077 == 0
    first.close()
    again = kept_engine("runtime", dict(reversed(KEY.items())))
    assert again.found
    assert (again.path / "engine").read_bytes() == content
    for other in ({**KEY, "model": "abd"}, {**KEY, "versions": ["one 1.1", "two 2.0"]}, {**KEY, "more": ""}):
        assert not kept_engine("runtime", other).found
    assert not kept_engine("another", KEY).found


def test_what_was_not_finished_is_built_anew() -> None:
    killed = kept_engine("runtime", KEY)
    (killed.path / "half").write_bytes(b"half of an engine")
    killed.close()
    engine = kept_engine("runtime", KEY)
    assert not engine.found
    assert not (engine.path / "half").exists()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"model='something else'\n"])
def test_a_damaged_description_makes_an_engine_unusable(damage: bytes) -> None:
    engine = build(KEY)
    engine.close()
    (engine.path / "about").write_bytes(damage)
    again = kept_engine("runtime", KEY)
    assert not again.found
    assert not (again.path / "engine").exists()


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone", "more", "a link", "a pipe", "a folder"])
def test_an_engine_that_has_changed_is_built_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = kept_engine("runtime", KEY)
    file = engine.path / "deep" / "engine"
    file.parent.mkdir()
    file.write_bytes(bytes(1000))
    engine.keep()
    engine.close()
    if damage == "a bit":
        file.write_bytes(bytes(500) + b"\1" + bytes(499))
    elif damage == "cut":
        os.truncate(file, 999)
    elif damage == "more":
        file.with_name("another").write_bytes(b"1")
    else:
        file.unlink()
        (tmp_path / "elsewhere").write_bytes(bytes(1000))
        if damage == "a link":
            file.symlink_to(tmp_path / "elsewhere")
        elif damage == "a pipe":
            os.mkfifo(file)
        elif damage == "a folder":
            file.mkdir()
    again = kept_engine("runtime", KEY)
    assert not again.found
    assert [path.name for path in again.path.iterdir()] == ["about"]
    assert "is damaged and built again" in caplog.text
    assert damage != "a link" or (tmp_path / "elsewhere").exists()


def test_a_damaged_engine_that_is_in_use_is_done_without() -> None:
    engine = build(KEY)
    (engine.path / "engine").write_bytes(b"damaged")
    with pytest.raises(BlockingIOError, match="in use"):
        kept_engine("runtime", KEY)
    engine.close()
    assert not kept_engine("runtime", KEY).found


def test_what_we_have_not_made_is_never_removed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 0)
    elsewhere = tmp_path / "elsewhere"
    theirs = [cache / "engines" / "yolo" / "v1", cache / "engines" / "yolo" / ("a" * 32), elsewhere / ("b" * 32)]
    for folder in theirs:
        folder.mkdir(parents=True)
        (folder / "model.plan").write_bytes(b"precious")
    (cache / "engines" / "yolo" / "notes.txt").write_text("precious")
    for named in (theirs[0], theirs[2]):
        (named / "about").touch()
    (cache / "engines" / "link").symlink_to(elsewhere)
    (cache / "engines" / "yolo" / ("c" * 32)).symlink_to(elsewhere / ("b" * 32))
    build(KEY).close()
    build({**KEY, "number": 1}).close()
    precious = [*(folder / "model.plan" for folder in theirs), cache / "engines" / "yolo" / "notes.txt"]
    assert [path for path in precious if not path.exists()] == []
    assert len(list((cache / "engines" / "runtime").iterdir())) == 1  # and what we have made is


def test_a_link_in_the_place_of_an_engine_is_left_alone(tmp_path: Path) -> None:
    engine = build(KEY)
    engine.close()
    shutil.rmtree(engine.path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo").touch()
    engine.path.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic link"):
        kept_engine("runtime", KEY)
    assert (tmp_path / "mine" / "photo").exists()


def test_an_engine_that_is_of_no_use_can_be_renewed() -> None:
    build(KEY).close()
    engine = kept_engine("runtime", KEY)
    engine.renew()
    assert not engine.found
    assert not (engine.path / "engine").exists()
    (engine.path / "engine").write_bytes(b"new")
    assert engine.keep()
    engine.close()
    assert kept_engine("runtime", KEY).found


def test_nothing_is_left_of_what_was_discarded_or_never_written(cache: Path) -> None:
    engine = kept_engine("runtime", KEY)
    (engine.path / "half").write_bytes(b"half")
    engine.discard()
    assert not engines(cache)
    engine = kept_engine("runtime", KEY)
    assert not engine.keep()
    engine.discard()
    assert not engines(cache)


def test_one_builds_and_others_do_without(cache: Path) -> None:
    builder = kept_engine("runtime", KEY)
    with pytest.raises(BlockingIOError, match="another load builds this engine"):
        kept_engine("runtime", KEY)
    (builder.path / "engine").write_bytes(b"engine")
    builder.keep()
    users = [kept_engine("runtime", KEY) for _ in range(3)]
    assert all(user.found for user in users)
    with pytest.raises(BlockingIOError, match="in use"):
        users[0].renew()
    assert (builder.path / "engine").exists()


def test_a_builder_that_was_killed_is_no_builder() -> None:
    code = "from test_engine_caches import *; e = kept_engine('runtime', KEY); print('x', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError):
            kept_engine("runtime", KEY)
        process.kill()
        process.wait()
    assert not kept_engine("runtime", KEY).found


def forked_sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_that_was_forked_meanwhile_holds_nobody_up(cache: Path) -> None:
    builder = kept_engine("runtime", {**KEY, "number": 1})
    with kept._alone(cache / "engines"):
        pid = forked_sleeper()
    try:
        builder.close()
        began = time.monotonic()
        kept_engine("runtime", KEY)
        kept_engine("runtime", {**KEY, "number": 1})
        assert time.monotonic() - began < 2
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_process_that_is_stopped_holds_nobody_up_for_ever(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_PATIENCE", 0.05)
    build(KEY).close()
    with kept._alone(cache / "engines"), pytest.raises(BlockingIOError, match="another process holds the lock on"):
        kept_engine("runtime", KEY)
    assert kept_engine("runtime", KEY).found


def test_the_longest_unused_goes_first_and_what_is_in_use_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 3500)
    built = [build({**KEY, "number": n}, 1000) for n in range(3)]
    for n, engine in enumerate(built):
        os.utime(engine.path / "about", (1000 + n, 1000 + n))
        if n != 0:
            engine.close()
    kept_engine("runtime", {**KEY, "number": 1}).close()  # used last
    half = cache / "engines" / "another" / ("0" * 32)
    half.mkdir(parents=True)
    (half / "about").touch()
    (half / "part").write_bytes(b"x" * 100)
    newest = build({**KEY, "number": 3}, 1000)
    assert engines(cache) == {built[0].path.name, built[1].path.name, newest.path.name}  # 2 is gone: 0 is in use


def test_an_engine_above_the_limit_stays_while_it_is_the_newest(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    big = build(KEY, 1000)
    assert engines(cache) == {big.path.name}
    big.close()
    build({**KEY, "number": 1}, 10)
    assert big.path.name not in engines(cache)


@pytest.mark.parametrize("place", ["file/cache", "/proc/self/none/cache"])
def test_a_folder_that_cannot_be_made(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", os.path.join(tmp_path, place))
    with pytest.raises(OSError, match=r"(?i)not a directory|no such file"):
        kept_engine("runtime", KEY)


def test_no_descriptor_is_left() -> None:
    build(KEY).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        kept_engine("runtime", KEY)  # collected
        kept_engine("runtime", KEY).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads_and_one_bound(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 3000)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        numbers = np.random.default_rng(seed)
        for _ in range(60):
            try:
                engine = kept_engine("runtime", {**KEY, "number": int(numbers.integers(6))})
            except BlockingIOError:
                continue
            try:
                if not engine.found:
                    (engine.path / "engine").write_bytes(bytes(1000))
                    engine.keep()
                assert (engine.path / "engine").stat().st_size == 1000
            except BaseException as error:
                failures.append(error)
            engine.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# OpenVINO's, as a plugin of ONNX Runtime

NEEDS_OPENVINO = pytest.mark.skipif(
    not HAS_OPENVINO,
    reason="onnxruntime-ep-openvino is not installed; it has wheels for x86-64 only",
)


def load(model: Any = DIGITS, **options: Any) -> Model:
    return accelerate.load(model, backend="onnxruntime", **{"device": "openvino:cpu", **options})


def told(model: Model) -> dict[str, str]:
    details: dict[str, str] = model.runtime.details["engine_cache"]
    return details


@pytest.fixture
def x() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((1, 1, 8, 8), np.float32)


@pytest.fixture
def wanted(x: Any) -> Iterator[Any]:
    with load(device="cpu") as model:
        yield model.infer(x)["scores"]


def check(model: Model, x: Any, wanted: Any) -> None:
    np.testing.assert_allclose(model.infer(x)["scores"], wanted, atol=1e-6)


@NEEDS_OPENVINO
def test_the_second_load_finds_what_the_first_has_built(cache: Path, x: Any, wanted: Any) -> None:
    for state in ("built", "kept", "kept"):
        with load() as model:
            check(model, x, wanted)
            assert told(model) == {"state": state, "path": str(next((cache / "engines" / "onnxruntime").iterdir()))}
            assert list(Path(told(model)["path"]).glob("*.blob"))
    with load(shutil.copy(DIGITS, cache)) as model:  # the content counts, not where it lies
        assert told(model)["state"] == "kept"


@NEEDS_OPENVINO
def test_a_model_that_came_as_bytes_is_not_written_to_the_disk(cache: Path, x: Any, wanted: Any) -> None:
    with load(DIGITS.read_bytes()) as model:
        check(model, x, wanted)
        assert told(model) == {"state": "not kept", "reason": "the model came as bytes"}
    assert not (cache / "engines").exists()


@NEEDS_OPENVINO
def test_a_cache_folder_whose_name_is_no_text_is_done_without(
    cache: Path, x: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = cache.rename(os.fsdecode(os.fsencode(cache) + b"\xff"))
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(odd))
    with load() as model:
        check(model, x, wanted)
        assert told(model) == {"state": "not kept", "reason": "the path of the cache folder is no UTF-8"}
    assert not engines(odd)


@NEEDS_OPENVINO
def test_a_word_that_has_cache_in_it_is_none_on_caches() -> None:
    for properties, state in (({"KV_CACHE_PRECISION": "f16"}, "built"), ({"CACHE_MODE": "OPTIMIZE_SIZE"}, None)):
        providers = [("OpenVINOExecutionProvider", {"load_config": {"CPU": properties}})]
        with load(device=None, providers=providers) as model:
            assert model.runtime.details.get("engine_cache", {}).get("state") == state


@NEEDS_OPENVINO
def test_what_an_engine_depends_on_is_built_anew_where_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.backends.onnxruntime import engines as module

    load().close()
    for options in ({"num_threads": 1}, {"shapes": (2, 1, 8, 8)}):
        with load(**options) as model:
            assert told(model)["state"] == "built"
    with load() as model:
        assert told(model)["state"] == "kept"
    monkeypatch.setattr(module, "__version__", "0.0.0")
    with load() as model:
        assert told(model)["state"] == "built"


@NEEDS_OPENVINO
def test_nothing_is_kept_for_the_cpu(cache: Path) -> None:
    with load(device="cpu") as model:
        assert "engine_cache" not in model.runtime.details
    assert not (cache / "engines").exists()


@NEEDS_OPENVINO
@pytest.mark.parametrize("damage", ["a bit", "cut", "emptied", "noise", "gone"])
def test_a_damaged_engine_is_built_anew(damage: str, x: Any, wanted: Any) -> None:
    with load() as model:
        (blob,) = Path(told(model)["path"]).glob("*.blob")
    content = bytearray(blob.read_bytes())
    blob.unlink()
    half = len(content) // 2
    if damage == "a bit":
        content[half] ^= 4
    damaged = {"cut": bytes(content[:half]), "emptied": b"", "noise": os.urandom(len(content))}
    if damage != "gone":
        blob.write_bytes(damaged.get(damage, bytes(content)))
    for state in ("built", "kept"):
        with load() as model:
            check(model, x, wanted)
            assert told(model)["state"] == state


@NEEDS_OPENVINO
def test_an_engine_in_use_may_be_cut_short(x: Any, wanted: Any) -> None:
    load().close()
    with load() as model:
        assert told(model)["state"] == "kept"
        assert ".blob" not in Path("/proc/self/maps").read_text()  # a mapping would end the process
        (blob,) = Path(told(model)["path"]).glob("*.blob")
        os.truncate(blob, 0)
        check(model, x, wanted)


@NEEDS_OPENVINO
@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_used_breaks_no_load(
    tmp_path: Path, x: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "file" / "cache"))
    with load() as model:
        check(model, x, wanted)
        assert told(model) == {"state": "not kept", "reason": "Not a directory"}


@NEEDS_OPENVINO
@pytest.mark.slow
@pytest.mark.parametrize("room", [10, 2000])
def test_a_full_disk_breaks_no_load(room: int, cache: Path) -> None:
    code = f"""
import resource, sys
sys.dont_write_bytecode = True  # it would be cut short, for everybody who imports it afterwards
from test_engine_caches import *
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
x = np.ones((1, 1, 8, 8), np.float32)
model, other = load(num_threads=1), load(device="cpu")
assert np.abs(model.infer(x)["scores"] - other.infer(x)["scores"]).max() < 1e-6
print(json.dumps(told(model)))
"""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["state"] in ("not kept", "built"), answer
    with load(num_threads=1) as model:  # with room again
        model.infer(np.ones((1, 1, 8, 8), np.float32))


@NEEDS_OPENVINO
def test_an_engine_in_use_is_locked_until_its_model_is_closed() -> None:
    model = load()
    path = Path(told(model)["path"])
    assert not kept._remove_unused(path)
    with load() as again:
        assert told(again)["state"] == "kept"
    model.close()
    assert kept._remove_unused(path)
    with load() as model:
        assert told(model)["state"] == "built"


@NEEDS_OPENVINO
def test_a_model_that_is_refused_leaves_nothing(cache: Path) -> None:
    odd_onnx = pytest.importorskip("odd_onnx", reason="onnx builds the model")
    with pytest.raises(accelerate.UnsupportedModelError):
        load(odd_onnx.default_input())
    assert not engines(cache)


# Compiled models ("EP context"), which QNN keeps: tried with OpenVINO, whose plugin writes them as well


@NEEDS_OPENVINO
def test_a_compiled_model_takes_the_models_place(x: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.backends.onnxruntime import engines as module

    monkeypatch.setattr(module, "KEEPING", frozenset())
    monkeypatch.setattr(module, "COMPILING", frozenset({"OpenVINOExecutionProvider"}))
    for state in ("built", "kept", "kept"):
        with load() as model:
            check(model, x, wanted)
            check(model, np.repeat(x, 2, 0), np.repeat(wanted, 2, 0))
            assert told(model)["state"] == state
            assert (model.runtime.delegated, model.runtime.total) == (5, 5)  # of the model, which is one node now
            assert model.metadata().inputs[0].name == "image"
            folder = Path(told(model)["path"])
            assert (folder / "model.onnx").stat().st_size < DIGITS.stat().st_size
    for path in folder.glob("*.bin"):
        path.write_bytes(os.urandom(100))
    with load() as model:  # of no use any more
        check(model, x, wanted)
        assert told(model)["state"] == "built"
    with load() as model:
        check(model, x, wanted)
        assert told(model)["state"] == "kept"


# TensorRT's: what its provider is told. No GPU takes part: whether it does so is tried on one


class TestTensorRT:
    @pytest.fixture
    def module(self) -> Any:
        pytest.importorskip("onnxruntime")
        from accelerate.backends.onnxruntime import engines as module

        return module

    def opened(self, module: Any, *, options: dict[str, Any] | None = None) -> Any:
        from accelerate.backends.onnxruntime.providers import ProviderChain
        from accelerate.reports import LoadOptions

        name = "TensorrtExecutionProvider"
        providers = [
            (name, {"device_id": "0", **(options or {})}),
            ("CUDAExecutionProvider", {}),
            "CPUExecutionProvider",
        ]
        chain = ProviderChain("tensorrt:0", name, providers)
        return module.EngineCache(chain, Source(str(DIGITS)), LoadOptions(device="tensorrt:0"))

    def test_it_is_told_where_to_keep_engines_and_timings(self, module: Any, cache: Path) -> None:
        opened = self.opened(module)
        (_, options), *others = opened.chain.providers
        folder = options["trt_engine_cache_path"]
        assert Path(folder).is_relative_to(cache)
        assert options == {
            "device_id": "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
        assert others == [("CUDAExecutionProvider", {}), "CPUExecutionProvider"]
        opened.close()

    def test_the_users_options_go_first_and_belong_to_the_key(self, module: Any) -> None:
        mine = {"trt_fp16_enable": "1"}
        plain, given = self.opened(module), self.opened(module, options=mine)
        assert given.chain.providers[0][1].items() >= mine.items()
        assert (
            plain.chain.providers[0][1]["trt_timing_cache_path"] != given.chain.providers[0][1]["trt_timing_cache_path"]
        )
        plain.close()
        given.close()

    def test_who_says_something_of_caches_is_left_alone(
        self, module: Any, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mine = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "/mine"}
        given = self.opened(module, options=mine)
        given.announce()
        given.finish({})
        assert given.chain.providers[0][1] == {"device_id": "0", **mine}
        assert not given.told()
        assert not caplog.records
        assert not engines(cache)

    def test_a_build_that_takes_minutes_is_said_before_it_and_only_then(
        self, module: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened = self.opened(module)
        opened.announce()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "tensorrt:0 builds an engine for" in record.message
        assert "minutes; it is kept for the next load" in record.message
        Path(opened.chain.providers[0][1]["trt_engine_cache_path"], "graph.engine").write_bytes(b"engine")
        opened.finish({"TensorrtExecutionProvider": 5})
        assert opened.told()["state"] == "built"
        opened.close()
        caplog.clear()
        again = self.opened(module)
        again.announce()
        again.finish({"TensorrtExecutionProvider": 5})
        assert again.told()["state"] == "kept"
        assert not caplog.records
        again.close()

    def test_where_nothing_can_be_kept_that_is_said_with_what_helps(
        self, module: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "file" / "cache"))
        opened = self.opened(module)
        opened.announce()
        assert "it cannot be kept (Not a directory)" in caplog.text
        assert "EDGE_ACCELERATE_CACHE names another folder" in caplog.text
        assert opened.chain.providers[0][1] == {"device_id": "0"}
        assert opened.told() == {"state": "not kept", "reason": "Not a directory"}
