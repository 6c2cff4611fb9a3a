"""What a remedy says where pip has no wheel for this Python, machine or C library."""

from __future__ import annotations

import re

import pytest

from accelerate.backends.onnxruntime import ONNXRuntime
from accelerate.backends.tflite import engines
from accelerate.system.wheels import Here, Wheels

LITERT, OLD = (engines.ENGINES[name].wheels for name in ("litert", "tflite-runtime"))
BOOKWORM = (2, 36)


@pytest.mark.parametrize(
    ("published", "here", "missing"),
    [
        (LITERT, Here((3, 11), "linux aarch64", BOOKWORM), ""),
        (LITERT, Here((3, 14), "linux x86_64", (2, 27)), ""),
        (LITERT, Here((3, 12), "darwin arm64", ()), ""),
        (LITERT, Here((3, 15), "linux x86_64", BOOKWORM), "Python 3.14 or older"),
        (LITERT, Here((3, 12), "linux x86_64", ()), "a system with glibc 2.27 or newer"),  # Alpine
        (LITERT, Here((3, 11), "linux armv7l", BOOKWORM), r"linux x86_64 or linux aarch64 or .*"),
        (LITERT, Here((3, 12), "darwin x86_64", ()), r"linux x86_64 or .*darwin arm64.*"),
        (OLD, Here((3, 11), "linux armv7l", BOOKWORM), ""),
        (OLD, Here((3, 13), "linux armv7l", BOOKWORM), "Python 3.11 or older"),
        (OLD, Here((3, 12), "linux x86_64", ()), "Python 3.11 or older, a system with glibc 2.17 or newer"),
    ],
)
def test_what_a_wheel_takes(published: Wheels, here: Here, missing: str) -> None:
    assert re.fullmatch(missing, published.missing(here))
    remedy = published.remedy(here)
    assert (remedy == f'pip install "edge-accelerate[{published.extra}]"') is (not missing)
    assert missing == "" or f"Python {here.python[0]}.{here.python[1]} on {here.machine}" in remedy


def test_this_process_can_have_what_its_environment_has() -> None:
    pytest.importorskip("ai_edge_litert")
    assert LITERT.remedy() == 'pip install "edge-accelerate[litert]"'


def test_backends_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "now", lambda: Here((3, 11), "linux armv7l", BOOKWORM))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("accelerate.system.known_answers._tried", {})
    state = engines.availability()
    assert not state.available
    assert state.remedy == 'pip install "edge-accelerate[tflite-runtime]"'  # the one that has a wheel
    assert "no wheel for Python 3.11 on linux armv7l" in ONNXRuntime().availability().remedy
