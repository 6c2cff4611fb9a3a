"""Real model servers for tests: NVIDIA's tritonserver, and MLServer as a second maker's.

::

    with TritonServer() as server:             # ready, and has computed a known answer
        server.url                             # "127.0.0.1:PORT", gRPC
        server.http_url                        # "http://127.0.0.1:PORT"
        server.pid
        server.load("slow"); server.unload("slow")     # a model of MODELS; `load` waits until it is ready
        server.kill()                          # SIGKILL; what the killed process left behind is removed
        server.restart()                       # on the same ports, with the models that were loaded; ready again
        server.stop()                          # SIGTERM
        server.log()                           # all it has written, also before a restart

`TritonServer` starts at ``__enter__`` or `start`, and `stop` (or the end of the with-block) leaves nothing behind: no
process, nothing in /dev/shm, nothing in /tmp. Tests that only call models share the fixture ``triton`` (import it, or
name it in a conftest), which lives for the session; a test that kills or reconfigures starts its own. `MLServer` has
the same interface but for ``load`` and ``unload``, and the fixture ``mlserver``.

``TritonServer(models=("add",), arguments=("--grpc-use-ssl=1", ...), repository=None)``: `models` are loaded at the
start (0.35 s each, so other models of `MODELS` are best loaded when a test wants them); `arguments` are the server's
own; `repository` is another model repository than the one made of `MODELS`, and then `models` are its models. The
control mode is explicit; "--model-control-mode=none" among the arguments changes that, and all models of the
repository load.

What the models of `MODELS` compute (b: a batch dimension that is left out of the configuration's dims):

==================  ==================================  ==========================================================
model               inputs -> outputs                   computes
==================  ==================================  ==========================================================
add                 a, b FP32 [10,10] -> y              a + b
double_uint8        x UINT8 [b,4] -> y                  x + x in uint8; max_batch_size 8, dynamic batching
double_float32      x FP32 [b,4] -> y                   x + x; max_batch_size 8, dynamic batching
identity_DTYPE      x DTYPE [-1] -> y                   x; DTYPE: bool, int8 ... uint64, fp16, fp32, fp64, bf16, bytes
mixed               x0 BOOL [3], x1 INT16 [2], x2 BYTES y0, y1, y2: the same
                    [-1] -> y0, y1, y2
sink_u8             x UINT8 [1,1080,1920,3] -> y        UINT8 [16], the first 16 bytes of x
sink_f32            x FP32 [1,224,224,3] -> y           FP32 [4], the first 4 values of x
frame               x UINT8 [1,1080,1920,3] -> y        x
dynamic             x FP32 [-1,-1] -> y                 x + x
nonzero             x FP32 [-1] -> y INT64 [-1]         the indices at which x is not 0: the shape is known afterwards
classifier          x FP32 [3] -> scores FP32 [3]       x; the config names the label file labels.txt (cat, dog, bird)
versions            x FP32 [1] -> y                     x times the version; versions 1 and 3 are there
slow                seconds FP32 [1] -> y               seconds, after so many seconds
fail                x FP32 [1] -> y                     raises "told to fail"
crash               x FP32 [1] -> y                     ends its process where x is not 0, else x
decoupled           x FP32 [1] -> y                     decoupled: x, then the end; a unary call is UNIMPLEMENTED
optional            x FP32 [2], bias FP32 [1], word     x + bias + the length of word; 100 and 0 where they are left
                    BYTES [1] -> y                      out, which they may be
biased              the same without word                the same
optional_batched    the same with [b,2], [b,1], [b,1]   the same; max_batch_size 4
sum                 x FP32 [b,2] -> y                   the sum of the sequence's x, idle for at most 2 s; its end is
                                                        written to the log; max_batch_size 2
sum_ensemble        the same                            the same: an ensemble of sum
iterative           x FP32 [b,1] -> y                   x + 3, in three steps that the server sees: iterative_sequence
parameters          x FP32 [1] -> said BYTES [1]        the request's parameters as JSON
==================  ==================================  ==========================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from typing_extensions import Self

__all__ = [
    "MODELS",
    "TRITON",
    "MLServer",
    "TritonServer",
    "mlserver",
    "needs_mlserver",
    "needs_triton",
    "regions_of",
    "triton",
]

TRITON_ENV, MLSERVER_ENV = ROOT / ".venv-triton", ROOT / ".venv-mlserver"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0


def _missing(environment: Path) -> str:
    return "" if (environment / ".ready").is_file() else f"run make {environment.name}/.ready"


needs_triton = pytest.mark.skipif(bool(_missing(TRITON_ENV)), reason=_missing(TRITON_ENV) or "-")
needs_mlserver = pytest.mark.skipif(bool(_missing(MLSERVER_ENV)), reason=_missing(MLSERVER_ENV) or "-")


# The models

_HEADER = """\
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils

def given(request, name="x"):
    return pb_utils.get_input_tensor_by_name(request, name)

def answer(*tensors):
    return pb_utils.InferenceResponse(output_tensors=list(tensors))

class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])

    def execute(self, requests):
        return [self.one(request) for request in requests]

"""


def _one(*lines: str) -> str:
    return _HEADER + "    def one(self, request):\n" + "".join(f"        {line}\n" for line in lines)


def _elementwise(formula: str) -> str:
    return _one("x = given(request).as_numpy()", f"return answer(pb_utils.Tensor('y', {formula}))")


def _tensors(side: str, *tensors: tuple[str, str, str]) -> str:
    rows = ", ".join(f'{{name: "{name}", data_type: TYPE_{dtype}, dims: {dims}}}' for name, dtype, dims in tensors)
    return f"{side} [{rows}]\n"


def _config(
    inputs: Sequence[tuple[str, str, str]], outputs: Sequence[tuple[str, str, str]], more: str = "max_batch_size: 0\n"
) -> str:
    return (
        'backend: "python"\ninstance_group [{kind: KIND_CPU, count: 1}]\n'
        + _tensors("input", *inputs)
        + _tensors("output", *outputs)
        + more
    )


def _plain(dtype: str, dims: str, more: str = "max_batch_size: 0\n") -> str:
    return _config([("x", dtype, dims)], [("y", dtype, dims)], more)


_DTYPES = (
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"),
    *("BF16", "BYTES"),
)
_BATCHED = "max_batch_size: 8\ndynamic_batching {max_queue_delay_microseconds: 2000}\n"
_LABELS = """\
max_batch_size: 0
output [{name: "scores", data_type: TYPE_FP32, dims: [3], label_filename: "labels.txt"}]
"""
# numpy has no bfloat16: it passes through as a DLPack capsule
_BF16 = _one("return answer(pb_utils.Tensor.from_dlpack('y', given(request).to_dlpack()))")
_DECOUPLED = (
    _HEADER
    + """
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            sender.send(answer(pb_utils.Tensor("y", given(request).as_numpy())))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)


_OPTIONAL = _one(
    "x, bias, word = (given(request, name) for name in ('x', 'bias', 'word'))",
    "y = x.as_numpy() + (np.float32(100) if bias is None else bias.as_numpy())",
    "return answer(pb_utils.Tensor('y', y if word is None else y + np.float32(len(word.as_numpy().ravel()[0]))))",
)
_BIAS = """\
max_batch_size: 0
input [{name: "bias", data_type: TYPE_FP32, dims: [2], optional: true}]
"""
_SEQUENCES = """\
max_batch_size: 2
sequence_batching {
  max_sequence_idle_microseconds: 2000000
  oldest {max_candidate_sequences: 8}
  control_input [
    {name: "START" control [{kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]}]},
    {name: "END" control [{kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1]}]},
    {name: "ID" control [{kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT32}]}
  ]
}
"""
_SUM = _one(
    "start, end, key = (given(request, name).as_numpy().ravel()[0] for name in ('START', 'END', 'ID'))",
    "sums = self.__dict__.setdefault('sums', {})",
    "sums[key] = given(request).as_numpy() + (0 if start else sums[key])",
    "if end: print(f'ended sequence {key}', flush=True)",
    "return answer(pb_utils.Tensor('y', sums.pop(key) if end else sums[key]))",
)
_ITERATIVE = (
    _HEADER
    + """
    def execute(self, requests):
        return [self.step(request) for request in requests]

    def step(self, request):
        self.steps = self.__dict__.get("steps", 0) + 1
        if self.steps < 3:
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        steps, self.steps = self.steps, 0
        return answer(pb_utils.Tensor("y", given(request).as_numpy() + np.float32(steps)))
"""
)
_SUM_ENSEMBLE = """\
platform: "ensemble"
max_batch_size: 2
input [{name: "x", data_type: TYPE_FP32, dims: [2]}]
output [{name: "y", data_type: TYPE_FP32, dims: [2]}]
ensemble_scheduling {
  step [{model_name: "sum", model_version: -1, input_map {key: "x" value: "x"}, output_map {key: "y" value: "y"}}]
}
"""


def _optional(more: str) -> str:
    return (
        _config([("x", "FP32", "[2]")], [("y", "FP32", "[2]")], more)
        + """\
input [
  {name: "bias", data_type: TYPE_FP32, dims: [1], optional: true},
  {name: "word", data_type: TYPE_STRING, dims: [1], optional: true}
]
"""
    )


def _identity(dtype: str) -> tuple[str, str]:
    # the configuration calls bytes a string
    return _plain("STRING" if dtype == "BYTES" else dtype, "[-1]"), _BF16 if dtype == "BF16" else _elementwise("x")


_MIXED = [("0", "BOOL", "[3]"), ("1", "INT16", "[2]"), ("2", "STRING", "[-1]")]
_FRAME = "[1, 1080, 1920, 3]"

#: name -> (config.pbtxt without the name, model.py)
MODELS: Mapping[str, tuple[str, str]] = {
    "add": (
        _config([("a", "FP32", "[10, 10]"), ("b", "FP32", "[10, 10]")], [("y", "FP32", "[10, 10]")]),
        _one(
            "a, b = (given(request, name).as_numpy() for name in 'ab')",
            "return answer(pb_utils.Tensor('y', a + b))",
        ),
    ),
    "double_uint8": (_plain("UINT8", "[4]", _BATCHED), _elementwise("x + x")),
    "double_float32": (_plain("FP32", "[4]", _BATCHED), _elementwise("x + x")),
    **{f"identity_{dtype.lower()}": _identity(dtype) for dtype in _DTYPES},
    "mixed": (
        _config([(f"x{n}", t, d) for n, t, d in _MIXED], [(f"y{n}", t, d) for n, t, d in _MIXED]),
        _one(
            "x = [given(request, f'x{n}').as_numpy() for n in range(3)]",
            "return answer(*(pb_utils.Tensor(f'y{n}', x[n]) for n in range(3)))",
        ),
    ),
    "sink_u8": (
        _config([("x", "UINT8", _FRAME)], [("y", "UINT8", "[16]")]),
        _elementwise("x.ravel()[:16]"),
    ),
    "sink_f32": (
        _config([("x", "FP32", "[1, 224, 224, 3]")], [("y", "FP32", "[4]")]),
        _elementwise("x.ravel()[:4]"),
    ),
    "frame": (_plain("UINT8", _FRAME), _elementwise("x")),
    "dynamic": (_plain("FP32", "[-1, -1]"), _elementwise("x + x")),
    "nonzero": (
        _config([("x", "FP32", "[-1]")], [("y", "INT64", "[-1]")]),
        _elementwise("np.flatnonzero(x).astype(np.int64)"),
    ),
    "classifier": (
        _config([("x", "FP32", "[3]")], [], _LABELS),
        _one("return answer(pb_utils.Tensor('scores', given(request).as_numpy()))"),
    ),
    "versions": (
        _plain("FP32", "[1]", "max_batch_size: 0\nversion_policy: {all {}}\n"),
        _elementwise("x * np.float32(self.version)"),
    ),
    "slow": (
        _config([("seconds", "FP32", "[1]")], [("y", "FP32", "[1]")]),
        _one(
            "seconds = given(request, 'seconds').as_numpy()",
            "time.sleep(float(seconds[0]))",
            "return answer(pb_utils.Tensor('y', seconds))",
        ),
    ),
    "fail": (_plain("FP32", "[1]"), _one("raise pb_utils.TritonModelException('told to fail')")),
    "picky": (
        _plain("FP32", "[3]"),
        _one(
            "x = given(request).as_numpy()",
            "if (abs(x) > 1).any(): raise pb_utils.TritonModelException('told to fail')",
            "return answer(pb_utils.Tensor('y', x))",
        ),
    ),
    "crash": (
        _plain("FP32", "[1]"),
        _one(
            "x = given(request).as_numpy()",
            "if x[0]: os._exit(3)",
            "return answer(pb_utils.Tensor('y', x))",
        ),
    ),
    "optional": (_optional("max_batch_size: 0\n"), _OPTIONAL),
    "biased": (_config([("x", "FP32", "[2]")], [("y", "FP32", "[2]")], _BIAS), _OPTIONAL),
    "optional_batched": (_optional("max_batch_size: 4\n"), _OPTIONAL),
    "sum": (_plain("FP32", "[2]", _SEQUENCES), _SUM),
    "sum_ensemble": (_SUM_ENSEMBLE, ""),
    "iterative": (
        _plain("FP32", "[1]", "max_batch_size: 2\nsequence_batching {iterative_sequence: true}\n"),
        _ITERATIVE,
    ),
    "parameters": (
        _config([("x", "FP32", "[1]")], [("said", "STRING", "[1]")]),
        _one("return answer(pb_utils.Tensor('said', np.array([request.parameters()], object)))"),
    ),
    "decoupled": (
        _plain("FP32", "[1]", "max_batch_size: 0\nmodel_transaction_policy {decoupled: true}\n"),
        _DECOUPLED,
    ),
}


def _write_repository(folder: Path) -> None:
    for name, (config, code) in MODELS.items():
        for version in ("1", "3") if name == "versions" else ("1",):
            (folder / name / version).mkdir(parents=True)
            (folder / name / version / "model.py").write_text(code, encoding="utf-8")
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}', encoding="utf-8")
    (folder / "classifier" / "labels.txt").write_text("cat\ndog\nbird\n", encoding="utf-8")


# The servers


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class _Server:
    """A server process on two loopback ports, and a folder of its own that goes with it."""

    def __init__(self) -> None:
        self._http_port, self._grpc_port = free_ports(2)
        # names say whose they are: several test runs may share a machine
        self._folder = Path(tempfile.mkdtemp(prefix=f"edge-accelerate-server-{os.getpid()}-"))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        raise NotImplementedError

    def _check(self) -> None:
        """Raise where the server is up but computes nonsense."""

    def _sweep(self) -> None:
        """Remove what the process may have left outside of the folder."""

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._http_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def start(self) -> Self:
        assert self._process is None, "the server is running"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_ready()
            self._check()
        except BaseException:
            self.kill()
            raise
        return self

    def restart(self) -> Self:
        """Start again on the same ports; a server that still runs is stopped first."""
        if self._process is not None:
            self._end(kill=False)
        return self.start()

    def kill(self) -> None:
        """SIGKILL. The server can be started again."""
        self._end(kill=True)

    def stop(self) -> None:
        """SIGTERM, and remove all that belongs to the server."""
        self._end(kill=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send an HTTP request of the inference protocol: GET without a body, else POST."""
        data = None if body is None else json.dumps(body).encode()
        # a proxy of the environment has no place between here and the loopback device
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.http_url}/{path}", data, {"Content-Type": "application/json"})
        with opener.open(request, timeout=_START_TIMEOUT) as reply:
            content = reply.read()
        return json.loads(content) if content else {}

    def __enter__(self) -> Self:
        try:
            return self if self._process is not None else self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):  # refused, not ready, or half an answer
                self.request("v2/health/ready")
                return
            time.sleep(0.02)
        code = self._process.poll()
        state = f"ended with {code}" if code is not None else f"was not ready in {_START_TIMEOUT:g} s"
        raise RuntimeError(f"the server {state}:\n{self.log()[-4000:]}")

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._sweep()


class TritonServer(_Server):
    """See the module."""

    def __init__(
        self, models: Sequence[str] = ("add",), *, arguments: Sequence[str] = (), repository: Path | None = None
    ) -> None:
        if reason := _missing(TRITON_ENV):
            pytest.skip(reason)
        super().__init__()
        self._arguments = tuple(arguments)
        self._repository = repository
        self._loaded = list(models)
        # Triton's own name for the Python backend's regions would not say whose they are
        self.shm_prefix = f"ea_test_{os.getpid()}_{uuid.uuid4().hex[:12]}_"
        if repository is None:
            self._repository = self._folder / "models"
            _write_repository(self._repository)

    def load(self, name: str) -> None:
        """Load a model of the repository, unless that is done, and wait until it is ready."""
        if name not in self._loaded:
            self.request(f"v2/repository/models/{name}/load", {})
            self._loaded.append(name)

    def is_ready(self, name: str) -> bool:
        """Ask for one model; the index of the repository leaves out what came over the network."""
        try:
            self.request(f"v2/models/{name}/ready")
        except urllib.error.HTTPError:
            return False
        return True

    def unload(self, name: str) -> None:
        self.request(f"v2/repository/models/{name}/unload", {})
        self._loaded.remove(name)

    def _command(self) -> list[str]:
        explicit = not any(a.startswith("--model-control-mode") for a in self._arguments)
        return [
            str(TRITON / "bin" / "tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={TRITON / 'backends'}",
            "--http-address=127.0.0.1",
            f"--http-port={self._http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self._grpc_port}",
            "--allow-metrics=false",
            "--exit-timeout-secs=3",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            *(("--model-control-mode=explicit", *(f"--load-model={m}" for m in self._loaded)) if explicit else ()),
            *self._arguments,
        ]

    def _environment(self) -> dict[str, str]:
        return triton_environment()

    def _check(self) -> None:
        # with numpy 2 in its environment, or another Python than the one that it was built for, it answers zeros
        if "add" not in self._loaded:
            return
        ramp = list(range(100))
        tensors = [{"name": n, "shape": [10, 10], "datatype": "FP32", "data": ramp} for n in "ab"]
        answer = self.request("v2/models/add/infer", {"inputs": tensors})["outputs"][0]["data"]
        assert answer == [2 * n for n in ramp], f"the server computes nonsense: {answer}"

    def _sweep(self) -> None:
        # the processes of Python models outlive a killed server for seconds; each names its region, so it is ours
        for arguments in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended by itself
                command = arguments.read_bytes()
                if self.shm_prefix.encode() in command and b"triton_python_backend_stub" in command:
                    os.kill(int(arguments.parent.name), signal.SIGKILL)
                    for shipped in re.findall(rb"/tmp/folder\w{6}(?=/)", command):
                        shutil.rmtree(shipped.decode(), ignore_errors=True)
        for left in Path("/dev/shm").glob(f"{self.shm_prefix}*"):
            left.unlink(missing_ok=True)


class MLServer(_Server):
    """MLServer, an Open Inference Protocol server without Triton's extensions.

    Its models: "add" like Triton's, and "shout", which turns a BYTES x [-1] into upper case y.
    """

    def __init__(self) -> None:
        if reason := _missing(MLSERVER_ENV):
            pytest.skip(reason)
        super().__init__()
        settings = {
            "host": "127.0.0.1",
            "http_port": self._http_port,
            "grpc_port": self._grpc_port,
            "metrics_port": free_ports(1)[0],
            "metrics_endpoint": None,
            "parallel_workers": 0,
        }
        (self._folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (self._folder / "own_models.py").write_text(_MLSERVER_MODELS, encoding="utf-8")
        for name, spec in _MLSERVER_SPECS.items():
            (self._folder / name).mkdir()
            settings_of_model = json.dumps({"name": name, **spec})
            (self._folder / name / "model-settings.json").write_text(settings_of_model, encoding="utf-8")

    def _command(self) -> list[str]:
        return [str(MLSERVER_ENV / "bin" / "mlserver"), "start", str(self._folder)]

    def _environment(self) -> dict[str, str]:
        return {**_clean_environment(), "PYTHONPATH": str(self._folder)}

    def _check(self) -> None:
        tensors = [{"name": n, "shape": [10, 10], "datatype": "FP32", "data": [1.5] * 100} for n in "ab"]
        answer = self.request("v2/models/add/infer", {"inputs": tensors})["outputs"][0]["data"]
        assert answer == [3.0] * 100, f"the server computes nonsense: {answer}"


_MLSERVER_MODELS = """\
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Add(MLModel):
    async def predict(self, payload):
        given = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        outputs = [NumpyCodec.encode_output("y", given["a"] + given["b"])]
        return InferenceResponse(model_name=self.name, outputs=outputs)


class Shout(MLModel):
    async def predict(self, payload):
        words = [word.upper() for word in StringCodec.decode_input(payload.inputs[0])]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("y", words)])
"""
_MLSERVER_SPECS: dict[str, dict[str, Any]] = {
    "add": {
        "implementation": "own_models.Add",
        "inputs": [{"name": n, "datatype": "FP32", "shape": [10, 10]} for n in "ab"],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [10, 10]}],
    },
    "shout": {
        "implementation": "own_models.Shout",
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    },
}


def _clean_environment() -> dict[str, str]:
    """Return what a server may see of this process's environment."""
    kept = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "USER")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _described(environment: Path) -> dict[str, str]:
    """Ask the environment's Python where its parts are."""
    code = (
        "import json, sys, sysconfig; "
        "print(json.dumps({'site': sysconfig.get_path('purelib'), 'lib': sys.base_prefix + '/lib'}))"
    )
    done = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def _find_triton() -> tuple[Path, str]:
    if _missing(TRITON_ENV):
        return TRITON_ENV, ""
    found = _described(TRITON_ENV)
    return Path(found["site"]) / "pytriton" / "tritonserver", found["lib"]


#: The folder of tritonserver in the environment: bin/tritonserver, backends/
TRITON, _PYTHON_LIBRARY = _find_triton()


def triton_environment() -> dict[str, str]:
    """Return the environment variables with which tritonserver finds its Python."""
    kept = _clean_environment()
    return {
        **kept,
        # without it the Python backend takes the system's library with another Python's standard library
        "LD_LIBRARY_PATH": _PYTHON_LIBRARY,
        # the first python3 on it decides on the packages; PYTHONPATH does not
        "PATH": os.pathsep.join([str(TRITON_ENV / "bin"), kept.get("PATH", os.defpath)]),
    }


@pytest.fixture(scope="session")
def triton() -> Iterator[TritonServer]:
    """A server for tests that only call models; `load` what you need beside "add"."""
    with TritonServer() as server:
        yield server
        server.kill()  # a farewell takes seconds


@pytest.fixture(scope="session")
def mlserver() -> Iterator[MLServer]:
    with MLServer() as server:
        yield server
        server.kill()


def regions_of(pid: int | None = None) -> set[str]:
    """Return the shared memory regions of this process, or of another; other programs may have theirs."""
    made_by = f"-{pid or os.getpid()}-"
    return {name for name in os.listdir("/dev/shm") if name.startswith("edge-accelerate-") and made_by in name}


def _serve_until_interrupted() -> None:
    """``python tests/triton_server.py [MODEL...]``: a server to try things on by hand."""
    with TritonServer(sys.argv[1:] or ("add",)) as server:
        print(f"gRPC {server.url}, HTTP {server.http_url}, pid {server.pid}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    _serve_until_interrupted()
