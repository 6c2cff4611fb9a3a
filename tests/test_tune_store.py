"""What `tune` stores: for what it holds, and that nothing in the store can break a load."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tune_backends import Install, install, model

import accelerate
from accelerate import measurements
from accelerate.bench.candidates import Given
from accelerate.measurements import Measurement
from accelerate.reports import LoadOptions
from accelerate.source import Source
from accelerate.system import cpus

__all__ = ["install", "model"]  # fixtures


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the test's own."""
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "tuned"
    assert not list((tmp_path / "cache").glob("tuned/*.*")), "drafts"


def winner(**other: Any) -> Measurement:
    return Measurement(**{**_WINNER, **other})


_WINNER: dict[str, Any] = {
    **{"backend": "tuned", "device": "npu", "num_threads": None, "version": "Toy 1", "date": "2026-11-27"},
    **{"p50_ms": 2.13, "lead": 1.63},
}


def keep(path: Path, found: Measurement | None = None, **arguments: Any) -> None:
    decided = Given(Source(path), path.name, "auto", arguments).decide()
    assert measurements.keep(decided.source, decided.options, found or winner()) == ""


def goes_first(path: Path, **arguments: Any) -> bool:
    """Return whether `auto` goes by what is stored."""
    chosen = accelerate.plan(path, **arguments).chosen
    assert chosen is not None
    assert (chosen.backend == "tuned") is chosen.reason.startswith("tuned on 2026-11-27: 2.13 ms")
    return chosen.backend == "tuned"


@pytest.fixture
def backends(install: Install) -> Any:
    install("own", own=True, kind="gpu")
    return install("tuned", kind="npu")


def test_the_reason_has_date_and_figures(backends: Any, model: Path) -> None:
    keep(model)
    assert accelerate.plan(model).chosen.reason == (  # type: ignore[union-attr]
        "tuned on 2026-11-27: 2.13 ms, 1.6 times as fast as the next; a toy model; Toy 1 on npu"
    )
    for other, words in (
        ({"num_threads": 1}, "2.13 ms with 1 thread, 1.6 times as fast as the next;"),
        ({"num_threads": 4, "lead": 0.98}, "2.13 ms with 4 threads, as fast as the next;"),
        ({"p50_ms": 0.00535, "lead": None}, "5.35 µs;"),
        ({"lead": None, "apart": 0.0}, "2.13 ms;"),
        ({"apart": 0.0039}, "as fast as the next, answers within 0.39 % of an output's range;"),
    ):
        keep(model, winner(**other))
        assert words in accelerate.plan(model).chosen.reason  # type: ignore[union-attr]


_CHANGES: dict[str, Callable[[Path], object]] = {
    "touched": lambda path: os.utime(path, (1, 1)),
    "written": lambda path: path.write_bytes(path.read_bytes() + b"."),
    "replaced": lambda path: shutil.copy2(path, f"{path}.new") and Path(f"{path}.new").replace(path),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_it_holds_for_the_file(backends: Any, model: Path, change: str) -> None:
    keep(model)
    assert goes_first(model)
    link = model.with_name("link")
    link.symlink_to(model)
    assert goes_first(link)
    moved = model.rename(model.with_name("moved.toy"))
    assert goes_first(moved)
    _CHANGES[change](moved)
    assert not goes_first(moved)


def _tuned(model: Path, arguments: dict[str, Any]) -> bool:
    return any(one.reason.startswith("tuned on") for one in accelerate.plan(model, **arguments).candidates)


def test_it_holds_for_the_arguments_that_matter(backends: Any, model: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    keep(model)
    same: list[dict[str, Any]] = [
        {"label_path": labels},
        {"tensor_names": {"outputs": {"y": "z"}}},
        *({"strict": True}, {"dequantize": True}, {"replicas": 2}, {"normalization": (0, 1)}, {"mode": None}),
    ]
    other: list[dict[str, Any]] = [
        *({"device": "npu"}, {"num_threads": 2}, {"signature": "s"}, {"shapes": (1, 4)}, {"mode": "x"}),
    ]
    assert all(goes_first(model, **arguments) for arguments in same)
    for arguments in other:
        assert not _tuned(model, arguments)
        keep(model, **arguments)
        assert _tuned(model, arguments)
    for never in ({"backend": "tuned"}, {"backend": ["own", "tuned"]}, {"mode": object()}):
        assert not _tuned(model, never)
    assert goes_first(model), "each has an entry of its own"
    assert len(list(measurements.stored())) == 6


def test_a_shape_by_name_is_that_without(backends: Any, model: Path) -> None:
    keep(model, shapes={"x": (1, 4)})
    assert goes_first(model, shapes=(1, 4))
    assert not goes_first(model, shapes=(1, 5))
    keep(model, shapes=(1, 5))
    assert goes_first(model, shapes={"x": (1, 5)})
    assert not goes_first(model, shapes={"x": (1, 50)})


def test_the_shape_of_another_input_is_another(backends: Any, model: Path) -> None:
    keep(model, shapes={"x": (1, 4)})
    assert not goes_first(model, shapes={"z": (1, 4)})
    keep(model, shapes={"z": (1, 4), "x": (1, 4)})
    assert goes_first(model, shapes={"x": (1, 4), "z": (1, 4)})
    assert not goes_first(model, shapes={"x": (1, 4), "z": (1, 5)})


def test_it_holds_for_the_machine(backends: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(model)
    monkeypatch.setattr(measurements, "usable_cpus", lambda: 64)
    assert not goes_first(model)
    keep(model, winner(num_threads=8))
    assert "with 8 threads" in accelerate.plan(model).chosen.reason  # type: ignore[union-attr]
    monkeypatch.setattr(measurements, "usable_cpus", cpus.usable_cpus)
    assert goes_first(model), "both are stored"
    assert sorted(bool(reason) for _, reason in measurements.stored()) == [False, True]


def test_runtime_and_device_are_checked_again(backends: Any, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(model)
    assert goes_first(model)
    backends.version = "Toy 2"
    with caplog.at_level(logging.INFO, "accelerate"):
        assert not goes_first(model)
    assert "what tune found best for" in caplog.text
    assert "Toy 1, tuned on npu is not here as it was" in caplog.text
    backends.version, backends.here = "Toy 1", False
    assert not goes_first(model)
    backends.here = True
    backends.match = lambda source, options: accelerate.Match(False, "not any more")
    assert not goes_first(model)
    del backends.match
    assert goes_first(model)
    backends.kinds = lambda: 1 / 0
    assert not goes_first(model)


def test_the_weights_beside_a_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnx", reason="builds models")
    import odd_onnx

    path, weights = tmp_path / "net.onnx", tmp_path / "weights.bin"
    path.write_bytes(odd_onnx.with_external_data("weights.bin"))
    weights.write_bytes(np.arange(3, dtype=np.float32).tobytes())
    version = accelerate.list_backends()["onnxruntime"].version
    found = winner(backend="onnxruntime", device="cpu", version=version, num_threads=2)
    keep(path, found)
    assert accelerate.plan(path).chosen.reason.startswith("tuned on")  # type: ignore[union-attr]
    os.utime(weights, (1, 1))
    assert not accelerate.plan(path).chosen.reason.startswith("tuned on")  # type: ignore[union-attr]
    ((_, reason),) = measurements.stored()
    assert reason == "the file has changed"


def test_what_changes_while_it_is_measured_is_not_stored(model: Path) -> None:
    source = Source(model)
    os.utime(model, (1, 1))
    assert "was changed meanwhile" in measurements.keep(source, LoadOptions(), winner())


def test_list_and_forget(backends: Any, model: Path, tmp_path: Path, cache: Path) -> None:
    other = tmp_path / "other.toy"
    shutil.copy(model, other)
    for path in (model, other):
        keep(path)
        keep(path, num_threads=2)
    assert {(Path(one.path).name, reason) for one, reason in measurements.stored()} == {
        *(("net.toy", ""), ("other.toy", ""))
    }
    os.utime(other, (1, 1))
    assert {reason for one, reason in measurements.stored() if one.path == str(other)} == {"the file has changed"}
    other.unlink()
    assert {reason for one, reason in measurements.stored() if one.path == str(other)} == {"the file is gone"}
    assert measurements.forget(tmp_path / "nothing") == 0
    assert measurements.forget(other) == 2
    moved = model.rename(tmp_path / "moved.toy")
    assert measurements.forget(moved) == 2
    assert list(cache.iterdir()) == []
    keep(moved)
    assert measurements.forget() == 1
    assert not goes_first(moved)


def test_the_newest_entries_are_kept(backends: Any, model: Path) -> None:
    for count in range(1, 105):
        keep(model, num_threads=count)
    assert len(list(measurements.stored())) == 100
    chosen = accelerate.plan(model, num_threads=104).chosen
    assert chosen is not None
    assert chosen.reason.startswith("tuned on")


def test_a_path_that_is_no_text(backends: Any, model: Path) -> None:
    path = model.rename(os.fsdecode(os.fsencode(model.parent) + b"/n\xff\n\\e t.toy"))
    keep(Path(path))
    assert goes_first(Path(path))
    ((kept, reason),) = measurements.stored()
    assert (kept.path, reason) == (str(path), "")
    assert measurements.forget(path) == 1


# Whatever is in the store


def _file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def _loads(model: Path) -> None:
    with accelerate.load(model) as loaded:
        assert loaded.backend in ("own", "tuned")
    list(measurements.stored())


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 100, b"{}", b"edge-accelerate tuned 2\n\nbackend=tuned", b"edge-accelerate tuned 1"),
        *(b"edge-accelerate tuned 1\n\nbackend", b"\xff\xfe", b"edge-accelerate tuned 1\n\nbackend=tuned\n" * 10000),
    ],
)
def test_a_foreign_store(backends: Any, model: Path, cache: Path, content: bytes) -> None:
    keep(model)
    _file(cache).write_bytes(content)
    assert not goes_first(model)
    _loads(model)
    keep(model)
    assert goes_first(model), "it is written anew"
    _file(cache).write_bytes(content)
    measurements.forget()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("num_threads", "0"), ("num_threads", "-1"), ("num_threads", "99999999"), ("num_threads", "two")),
        *(
            ("p50_ms", "nan"),
            ("p50_ms", "-1"),
            ("lead", "inf"),
            ("apart", "-1"),
            ("date", "yesterday"),
            ("date", "2026-11-27\x1b[2J"),
        ),
        *(
            ("backend", "nobody"),
            ("backend", "tu\x1bned"),
            ("device", "warp:9"),
            ("device", "gpu"),
            ("version", "Toy 9"),
        ),
        *(
            ("surplus", "x"),
            ("weights", "1-2-3 gone.bin"),
            ("weights", "x" * 1000),
            ("machine", ""),
            ("arguments", "x"),
        ),
    ],
)
def test_a_wrong_field(backends: Any, model: Path, cache: Path, field: str, value: str) -> None:
    keep(model, winner(num_threads=2))
    path = _file(cache)
    lines = path.read_text().split("\n")
    changed = [f"{field}={value}" if line.startswith(f"{field}=") else line for line in lines]
    path.write_text("\n".join(changed if changed != lines else [*lines, f"{field}={value}"]))
    assert not goes_first(model)
    _loads(model)


def test_a_device_that_the_user_did_not_name(backends: Any, model: Path, cache: Path) -> None:
    keep(model, winner(backend="own", device="gpu"), device="gpu")
    path = _file(cache)
    path.write_text(path.read_text().replace("backend=own\ndevice=gpu", "backend=tuned\ndevice=npu"))
    assert [one.device for one in accelerate.plan(model, device="gpu").candidates] == ["gpu"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_the_store_keeps_nobody_waiting(backends: Any, model: Path, cache: Path) -> None:
    keep(model)
    path = _file(cache)
    path.unlink()
    os.mkfifo(path)
    _loads(model)
    with path.open("r+b", buffering=0) as writer:  # one that says nothing
        _loads(model)
        writer.write(b"edge-accelerate tuned 1\n")
        _loads(model)
    keep(model)
    assert goes_first(model), "it is written anew"


def test_a_store_that_cannot_be_read(backends: Any, model: Path, cache: Path) -> None:
    keep(model)
    path = _file(cache)
    path.unlink()
    path.mkdir()
    _loads(model)
    path.rmdir()
    cache.rmdir()
    cache.write_text("a file in the place of the folder")
    _loads(model)
    decided = accelerate.Source(model)
    assert "the cache folder cannot be used: " in measurements.keep(decided, LoadOptions(), winner())


@pytest.fixture
def mutated(backends: Any, model: Path, cache: Path) -> tuple[Path, Path, bytes]:
    keep(model, winner(num_threads=2))
    return model, _file(cache), _file(cache).read_bytes()


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_in_the_store_break_a_load(mutated: tuple[Path, Path, bytes], data: Any) -> None:
    model, path, valid = mutated
    content = bytearray(valid)
    for place, piece in data.draw(st.lists(st.tuples(st.integers(0, len(valid)), st.binary(max_size=6)), max_size=8)):
        content[place : place + len(piece)] = piece
    whole = data.draw(st.one_of(st.just(bytes(content)), st.binary(max_size=200), st.just(valid[: len(content) // 2])))
    path.write_bytes(whole)
    _loads(model)


@given(
    paths=st.text(max_size=60).filter(lambda text: max(text, default="") < "\ud800"),
    names=st.text(st.characters(categories=("L", "N", "Zs")), min_size=1, max_size=20),
    threads=st.one_of(st.none(), st.integers(1, 1024)),
    p50=st.floats(1e-6, 1e6),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(cache: Path, paths: str, names: str, threads: int | None, p50: float) -> None:
    entry = winner(path=paths, backend=names, num_threads=threads, p50_ms=p50, weights=f"{paths}\n{names}\\n")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / "1-2-3"
    path.write_bytes(measurements._written([entry, entry]))
    expected = [entry, entry] if names.isprintable() else []
    assert measurements._read(path) == expected
