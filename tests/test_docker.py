"""deploy/docker's Dockerfile: its steps, one after the other, in a clean environment in the place of an image."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", FILE.read_text()))
    return [(kind, rest) for kind, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_what_is_copied_is_all_that_a_wheel_is_made_of() -> None:
    copied = {
        name for kind, rest in instructions() if kind == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    modules = re.search(r"py-modules = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert modules is not None
    assert {f"{name}.py" for name in re.findall(r'"(\w+)"', modules[1])} <= copied
    assert {"accelerate", "backends", "README.md", "LICENSE"} <= copied


@pytest.mark.long
def test_the_steps_run_and_the_result_answers(tmp_path: Path) -> None:
    """Without the two that need an image: the base and the user."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    source.mkdir()
    extras, ran = "", 0
    for kind, rest in instructions():
        if kind == "COPY" and "--from" not in rest:
            *names, target = rest.split()
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(
                        ROOT / name, source / target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                    )
                else:
                    shutil.copy(ROOT / name, source)
        elif kind == "ARG":
            extras = rest.partition("=")[2]
            assert extras.split(",")[:2] == ["litert", "onnxruntime"]
        elif kind == "RUN" and "useradd" not in rest:
            command = rest.replace("/wheels", str(wheels)).replace("pip ", f"{tmp_path}/venv/bin/pip -q ", 1)
            environment = {"EXTRAS": extras, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
            subprocess.run(["/bin/sh", "-c", command], cwd=source, env=environment | _pips_own(), check=True)
            ran += 1
    assert ran == 2
    (entry,) = (shlex.split(rest.strip("[]")) for kind, rest in instructions() if kind == "ENTRYPOINT")
    model = ROOT / "accelerate" / "data" / "digits_uint8.tflite"
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / entry[0], "run", model, model.with_name("digit.png")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "seven" in done.stdout


def _pips_own() -> dict[str, str]:
    """Return where pip looks here."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
