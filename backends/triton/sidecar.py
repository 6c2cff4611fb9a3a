"""``edge-accelerate sidecar``: a Triton server beside the program, which on a Jetson is the way to the GPU."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from accelerate.contract import Source
from accelerate.errors import ModelError

__all__ = ["sidecar"]

_PROGRAM = "tritonserver"
_INSTALLED = Path("/opt/tritonserver")
# deploy/jetson/README.md says which board takes which: up to JetPack 6, which is release 36 of Jetson Linux, they have
# images of their own, of which this is the last
_IMAGE, _JETSON_IMAGE = (f"nvcr.io/nvidia/tritonserver:{tag}" for tag in ("26.03-py3", "26.02-py3-igpu"))
_JETSON_RELEASE, _LAST_OF_ITS_OWN = Path("/etc/nv_tegra_release"), 36


@click.group(short_help="Set up and run a Triton server beside the program.")
def sidecar() -> None:
    """Set up and run a Triton server beside the program.

    A program reaches it as accelerate.load("triton://localhost:8001/MODEL"), or by backend="auto" with
    EDGE_ACCELERATE_TRITON_URL=localhost:8001.
    """


@sidecar.command(short_help="Write models as a Triton model repository.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--repository", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Made if missing.")
@click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), help="Where Triton must run them; default: a GPU if there is one."
)
@click.option("--python-backend", is_flag=True, help="Write ONNX models for a server without ONNX Runtime's backend.")
def export(models: Sequence[str], repository: Path, device: str | None, *, python_backend: bool) -> int:
    """Write each MODEL into the Triton model repository DIR, with a configuration made for it.

    MODEL is an ONNX or TFLite model, a TensorRT plan, a TorchScript model or the .xml of an OpenVINO model. TFLite
    models run on the CPU, in Triton's Python backend, whose Python needs ai-edge-litert; with --python-backend ONNX
    models, too, for which it needs onnxruntime.
    """
    from .shipping.configuration import write_repository
    from .shipping.package import describe, pack

    sources = [Source(model) for model in models]
    packages = [pack(source, describe(source), device, by_shim=python_backend) for source in sources]
    for folder in write_repository(repository, packages):
        click.echo(f"wrote {folder}: load it as triton://HOST:8001/{folder.name}")
    return 0


@sidecar.command(short_help="Run this machine's tritonserver on a repository.")
@click.option(
    "--repository", metavar="DIR", type=click.Path(path_type=Path), required=True, help="What `export` has written."
)
@click.argument("arguments", metavar="[-- ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
def run(repository: Path, arguments: Sequence[str]) -> int:
    """Run this machine's tritonserver in the foreground, with every model of the repository DIR.

    It is reached from this machine only, takes models from programs, and is given each ARGUMENT as it is. Without a
    tritonserver here, this prints the docker command that does the same, and exits with 1.
    """
    if not repository.is_dir():
        raise ModelError(
            f"there is no folder {repository}",
            f"write one: edge-accelerate sidecar export MODEL --repository {shlex.quote(str(repository))}",
        )
    program = _find_server()
    if program is not None:
        command = [str(program), *_arguments(str(repository), arguments, program.resolve().parents[1] / "backends")]
        # in place of this process: signals and the exit status are the server's own
        os.execv(program, command)
    click.echo(
        f"error: there is no {_PROGRAM} on this machine's PATH or in {_INSTALLED}; this runs it in Docker:", err=True
    )
    click.echo(shlex.join(_docker_command(repository, arguments)))
    return 1


def _find_server() -> Path | None:
    found = shutil.which(_PROGRAM) or shutil.which(_INSTALLED / "bin" / _PROGRAM)
    return None if found is None else Path(found)


def _arguments(repository: str, given: Sequence[str], backends: Path | None = None) -> Iterator[str]:
    """Yield the server's arguments; one that the user gives takes the place of ours."""
    defaults = {
        "--model-repository": repository,
        # every model of the repository, and those that programs send
        "--model-control-mode": "explicit",
        "--load-model": "*",
        "--http-address": "127.0.0.1",
        "--grpc-address": "127.0.0.1",
        # one model that cannot be loaded leaves the others running
        "--exit-on-error": "false",
    }
    if backends is not None and backends.is_dir():  # on JetPack tritonserver does not find them by itself
        defaults["--backend-directory"] = str(backends)
    theirs = {argument.partition("=")[0] for argument in given}
    yield from (f"{name}={value}" for name, value in defaults.items() if name not in theirs)
    yield from given


def _docker_command(repository: Path, given: Sequence[str]) -> list[str]:
    release = _jetson_release()
    gpu = ["--runtime=nvidia"] if release else ["--gpus=all"] if shutil.which("nvidia-smi") else []
    return [
        # the host's /dev/shm is where programs and server share memory
        *("docker", "run", "--rm", "--ipc=host", "--network=host", *gpu),
        f"--volume={repository.resolve()}:/models:ro",
        _JETSON_IMAGE if 0 < release <= _LAST_OF_ITS_OWN else _IMAGE,
        *(_PROGRAM, *_arguments("/models", given)),
    ]


def _jetson_release() -> int:
    """Return the release of Jetson Linux, such as 36, or 0 on another machine."""
    try:
        found = re.match(r"# R(\d+) ", _JETSON_RELEASE.read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[1]) if found else 0
