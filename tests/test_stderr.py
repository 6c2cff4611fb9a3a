"""What native runtimes write to stderr, and what others do meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import engines
import odd_models
import pytest

import accelerate
from accelerate.system.stderr import held_back

OURS = re.compile(rb"INFO: ")
DIGITS = Path(accelerate.__path__[0]) / "data"


def test_other_writers_keep_their_stderr(capfd: Any) -> None:
    with held_back(OURS):
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: disk is full\n")
        print("a warning of the program", file=sys.stderr)
    assert sorted(capfd.readouterr().err.splitlines()) == ["ERROR: disk is full", "a warning of the program"]


def test_threads_share_a_redirection_and_each_has_its_lines_dropped(capfd: Any) -> None:
    theirs = re.compile(rb"\[W:other\]")
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with held_back(theirs):
            os.write(2, b"[W:other] slow\nINFO: a model\nsomebody else\n")
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with held_back(OURS):
        thread.start()
        assert entered.wait(10)
    assert capfd.readouterr().err == ""  # the other one is not done
    leave.set()
    thread.join()
    assert capfd.readouterr().err == "somebody else\n"
    with held_back(OURS):
        os.write(2, b"[W:other] slow\n")
    assert capfd.readouterr().err == "[W:other] slow\n"  # it takes no part in this one


def test_stderr_that_nobody_reads_is_no_reason_to_fail() -> None:
    program = (
        "import accelerate, os, re, sys\n"
        "from accelerate.system.stderr import held_back\n"
        "read, write = os.pipe(); os.dup2(write, 2); os.close(read); os.close(write)\n"
        "with held_back(re.compile(b'nobody')): os.write(2, b'somebody else\\n')\n"
        "accelerate.load(sys.stdin.buffer.read(), backend='tflite_cpu')\n"
        "os.close(2)\n"
        "accelerate.load(accelerate.Source(b'x').read() and open(sys.argv[1], 'rb').read(), backend='tflite_cpu')\n"
    )
    path = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        input=odd_models.add3(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_forked_during_a_load_keeps_its_stderr(capfd: Any) -> None:
    with held_back(OURS):
        forker: list[int] = []

        def fork() -> None:
            child = os.fork()
            if child == 0:
                try:
                    os.write(2, b"the child's own words\n")
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            forker.append(child)

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        written = capfd.readouterr().err
    assert "the child's own words" in written


LINES = {
    "onnxruntime": "onnxruntime cpuid_info warning: Unknown CPU vendor. cpuinfo_vendor value: 0",
    "ai_edge_litert": "Error in cpuinfo: prctl(PR_SVE_GET_VL) failed",
    "tflite_runtime": "Error in cpuinfo: prctl(PR_SVE_GET_VL) failed",
}


@pytest.mark.parametrize(
    ("package", "backend", "options", "model"),
    [
        pytest.param(
            "ai_edge_litert", "tflite_cpu", "engine='litert'", "digits_uint8.tflite",
            marks=pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here"),
        ),
        pytest.param(
            "tflite_runtime", "tflite_cpu", "engine='tflite-runtime'", "digits_uint8.tflite",
            marks=pytest.mark.skipif("tflite-runtime" not in engines.INSTALLED, reason="tflite-runtime is not here"),
        ),
        ("onnxruntime", "onnxruntime", "", "digits.onnx"),
        ("onnxruntime", "onnxruntime", "providers=['CPUExecutionProvider']", "digits.onnx"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["", "accelerate.list_backends(); accelerate.list_devices()"])
def test_what_a_runtime_says_as_it_is_imported(
    package: str, backend: str, options: str, model: str, first: str
) -> None:
    pytest.importorskip(package)
    program = f"""if True:
        import accelerate, os, sys
        def hear(event, arguments):
            if event == "import" and f"{{arguments[0]}}.".startswith({package + "."!r}):
                os.write(2, {LINES[package] + chr(10) + "somebody else" + chr(10)!r}.encode())
        sys.addaudithook(hear)
        {first}
        accelerate.load({str(DIGITS / model)!r}, backend={backend!r}, {options}).close()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stderr.splitlines()) == {"somebody else"}


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (b"onnxruntime cpuid_info warning: Unknown CPU vendor. cpuinfo_vendor value: 0\n", True),
        (b"Unknown CPU vendor. cpuinfo_vendor value: 0\n", True),  # as older versions write it
        (b"onnxruntime warning: cpuinfo_initialize failed. May cause CPU EP performance degradation\n", True),
        (b"Error in cpuinfo: failed to parse the list of possible processors in /sys/a\n", True),
        (b"Fatal error in cpuinfo: no memory\n", True),
        (b"\x1b[0;93m2026-11-26 17:45:26.23 [W:onnxruntime:, graph.cc:1492 Graph] Initializer w\n", True),
        (b"my program: Error in cpuinfo: or so\n", False),
        (b"onnxruntime is slow today\n", False),
    ],
)  # fmt: skip
def test_the_lines_of_onnx_runtime_on_arm_boards(line: bytes, ours: bool) -> None:
    from accelerate.backends.onnxruntime.runtime import LINES

    assert bool(LINES.match(line)) == ours
