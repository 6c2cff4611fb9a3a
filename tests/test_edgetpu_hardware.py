"""The edgetpu backend with the Edge TPU's own library, and with a device: see tests/README.md for how to run it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate import BackendNotAvailableError, DeviceLostError, DeviceNotFoundError
from accelerate.backends.edgetpu.hardware import look
from accelerate.backends.edgetpu.library import Library, open_library

COMPILED = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"


@pytest.fixture(scope="module")
def real_library() -> Library:
    try:
        found = open_library(None)
    except BackendNotAvailableError as error:
        pytest.skip(f"needs the Edge TPU's own library: {error}")
    return found


@pytest.fixture
def device(real_library: Library) -> str:
    listed = real_library.devices()
    if not listed:
        pytest.skip("needs an Edge TPU")
    return listed[0].id


@pytest.fixture
def frame() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)


def test_library_without_a_device(real_library: Library, models_dir: Path) -> None:
    """Everything up to "no device" runs for real wherever the library is installed."""
    assert real_library.runtime_version is not None
    if real_library.devices():
        pytest.skip("there is a device")
    info = accelerate.list_backends()["edgetpu"]
    assert not info.available
    assert "no Edge TPU is connected" in info.reason
    with pytest.raises(DeviceNotFoundError, match="no Edge TPU is connected"):
        accelerate.load(models_dir / COMPILED, backend="edgetpu")
    with pytest.raises(DeviceNotFoundError, match="does not open the device"):
        real_library.create({"device": "usb:0"})


@pytest.mark.edgetpu_hardware
def test_listed_alike(real_library: Library, device: str) -> None:
    assert device in [d.id for d in accelerate.list_devices() if d.backend == "edgetpu" and d.ready]
    keys = {d.path.rpartition("/")[2] for d in real_library.devices()}
    assert keys == {seen.key for seen in look()}


@pytest.mark.edgetpu_hardware
def test_answers_like_the_cpu(device: str, models_dir: Path, frame: np.ndarray[Any, Any]) -> None:
    started = time.monotonic()
    with (
        accelerate.load(models_dir / COMPILED, backend="edgetpu") as tpu,
        accelerate.load(models_dir / COMPILED.replace("_edgetpu", ""), backend="tflite_cpu") as cpu,
    ):
        print(f"loaded in {time.monotonic() - started:.2f} s: {tpu.runtime}")
        assert (tpu.device, tpu.runtime.delegated) == (device, tpu.runtime.total)
        ours, theirs = (next(iter(m.infer(frame).values())).astype(int) for m in (tpu, cpu))
        assert ours.argmax() == theirs.argmax()
        assert abs(ours - theirs).max() <= 2
        times = []
        for _ in range(1000):
            begun = time.perf_counter()
            tpu.infer(frame)
            times.append(1e3 * (time.perf_counter() - begun))
        centiles = statistics.quantiles(times, n=100)
        print(f"1,000 calls: p50 {centiles[49]:.3f} ms, p99 {centiles[98]:.3f} ms")


@pytest.mark.edgetpu_hardware
def test_busy(device: str, models_dir: Path) -> None:
    with accelerate.load(models_dir / COMPILED, backend="edgetpu", device=device):
        code = (
            f"import accelerate; accelerate.load({str(models_dir / COMPILED)!r}, backend='edgetpu', device={device!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "it is busy" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr


@pytest.mark.edgetpu_hardware
def test_two_models_on_one_device(device: str, models_dir: Path, frame: np.ndarray[Any, Any]) -> None:
    path = models_dir / COMPILED
    with (
        accelerate.load(path, backend="edgetpu", device=device) as one,
        accelerate.load(path, backend="edgetpu", device=device) as two,
    ):
        wanted = one.infer(frame)
        for _ in range(50):
            for model in (one, two):
                np.testing.assert_equal(model.infer(frame), wanted)


@pytest.mark.edgetpu_hardware
def test_pulled_out_and_plugged_in(device: str, models_dir: Path, frame: np.ndarray[Any, Any]) -> None:
    if not device.startswith("usb"):
        pytest.skip("needs a stick")
    if not sys.stdin.isatty():
        pytest.skip("needs somebody at the machine: run pytest with -s")
    with accelerate.load(models_dir / COMPILED, backend="edgetpu", device=device) as model:
        wanted = model.infer(frame)
        print("\npull the stick out, and plug it in again 10 seconds later")
        deadline, lost, back = time.monotonic() + 120, 0, False
        while time.monotonic() < deadline and not back:
            try:
                np.testing.assert_equal(model.infer(frame, timeout=30), wanted)
                back = lost > 0
            except DeviceLostError:
                lost += 1
                time.sleep(0.1)
        assert lost
        assert back


@pytest.mark.edgetpu_hardware
def test_replicas_on_two_devices(real_library: Library, device: str, models_dir: Path) -> None:
    if len(real_library.devices()) < 2:
        pytest.skip("needs two Edge TPUs")
    with accelerate.load(models_dir / COMPILED, backend="edgetpu", replicas=2) as model:
        used = {replica.device for replica in model.models}  # type: ignore[attr-defined]
        assert len(used) == 2
        assert device in used
