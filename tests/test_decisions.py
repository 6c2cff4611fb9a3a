"""The table of decisions: a machine, a model and what the program says, and the plan in words.

The facts of the machine are put in the place of what the backends find out: nothing here has a device, nor needs a
runtime. What the backends make of a file, of options and of the environment is theirs, and `load` is held to each plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgetpu_stand_in as stand_in
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import AccelerateError, Availability, Device, LoadOptions, RuntimeInfo, Source, measurements, registry
from accelerate.contract import RuntimeModel
from accelerate.measurements import Measurement
from accelerate.metadata import TensorInfo

DATA = Path(accelerate.__file__).parent / "data"


@dataclass(frozen=True)
class Machine:
    """What is there."""

    litert: bool = True
    onnx: bool = True
    grpc: bool = True
    sticks: Sequence[str] = ()  # Edge TPUs: "usb:0", or "usb:0 is in use"
    libedgetpu: bool = True
    gpus: int = 0
    gpu_build: bool = True  # of ONNX Runtime
    gpu_fault: str = ""
    tensorrt: bool = True
    openvino: Sequence[str] = ()  # its devices


LAPTOP = Machine()
CORAL = Machine(sticks=("usb:0",))
TWO_STICKS = Machine(sticks=("usb:0", "usb:1"))
BUSY = Machine(sticks=("usb:0 is in use",))
BARE = Machine(litert=False, onnx=False, grpc=False)
JETSON = Machine(gpus=1)
JETSON_WITHOUT_BUILD = Machine(gpus=1, gpu_build=False)
JETSON_BROKEN = Machine(gpus=1, gpu_fault="no CUDA-capable device is detected")
INTEL = Machine(openvino=("gpu:0", "cpu"))
WITH_OPENVINO = Machine(openvino=("cpu",))
EVERYTHING = Machine(sticks=("pci:0",), gpus=1)

TPU = "edgetpu on usb:0"
CPU = "tflite_cpu on cpu"
ORT = "onnxruntime on cpu"
CUDA = "onnxruntime on cuda:0"
OPENVINO = "openvino on cpu"
SIDECAR = {"EDGE_ACCELERATE_TRITON_URL": "jetson:8001"}
SERVER = "triton on server"


@dataclass(frozen=True)
class Case:
    """One row of the table; `words` names what can run the model, in order, "nothing" for none."""

    words: str
    machine: Machine
    model: str
    given: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tuned: tuple[str, str] | None = None  # the backend and device that `tune` found to be the fastest
    why: str = ""  # stands in the reason or remedy of a row that was skipped, or in the error before any row


TABLE = [
    # A laptop: the file's own engine, and what would help for others
    Case(CPU, LAPTOP, "plain"),
    Case(ORT, LAPTOP, "onnx"),
    Case(CPU, LAPTOP, "bytes"),
    Case("nothing", LAPTOP, "compiled", why="no Edge TPU"),
    Case("nothing", LAPTOP, "compiled beside plain", why="net.tflite"),
    Case("nothing", LAPTOP, "picture", why="PNG"),
    Case("nothing", LAPTOP, "damaged", why="damaged"),
    Case("nothing", LAPTOP, "folder", why="folder"),
    Case("nothing", BARE, "plain", why='pip install "edge-accelerate[litert]"'),
    Case("nothing", BARE, "onnx", why='pip install "edge-accelerate[onnxruntime]"'),
    Case(ORT, Machine(litert=False), "onnx"),
    Case("nothing", Machine(litert=False), "plain", why="LiteRT is not installed"),
    # A Coral: a TPU before a CPU, a compiled file or its twin, and never a device that is not there
    Case(TPU, CORAL, "compiled"),
    Case(f"{TPU}, {CPU}", CORAL, "plain with twin"),
    Case(CPU, CORAL, "plain", why="not compiled for the Edge TPU; compile it: edgetpu_compiler"),
    Case(CPU, CORAL, "plain with older twin", why="is older than it"),
    Case(CPU, LAPTOP, "plain with twin", why="no Edge TPU"),
    Case(f"{TPU}, edgetpu on usb:1, {CPU}", TWO_STICKS, "plain with twin"),
    Case("edgetpu on usb:1", TWO_STICKS, "compiled", {"device": "usb:1"}),
    Case(f"{TPU}, edgetpu on usb:1", TWO_STICKS, "compiled", {"device": "tpu"}),
    Case("nothing", TWO_STICKS, "compiled", {"device": "usb:7"}, why="no device 'usb:7'"),
    Case("nothing", BUSY, "compiled", why="usb:0 is in use"),
    Case(CPU, BUSY, "plain with twin", why="usb:0 is in use"),
    Case("nothing", Machine(sticks=("usb:0",), libedgetpu=False), "compiled", why="libedgetpu"),
    Case(CPU, Machine(sticks=("usb:0",), libedgetpu=False), "plain with twin", why="libedgetpu"),
    Case("nothing", Machine(litert=False, sticks=("usb:0",)), "compiled", why="LiteRT is not installed"),
    Case(CPU, CORAL, "plain with twin", {"device": "cpu"}, why="no device of the kind 'cpu'"),
    Case(TPU, CORAL, "plain with twin", {"device": "tpu"}, why="no device of the kind 'tpu'"),
    Case(CPU, CORAL, "plain with twin", {"backend": "tflite_cpu"}),
    Case("nothing", CORAL, "compiled", {"backend": "tflite_cpu"}, why="compiled for the Edge TPU"),
    Case(f"{CPU}, {TPU}", CORAL, "plain with twin", {"backend": ["tflite_cpu", "edgetpu"]}),
    Case(TPU, CORAL, "compiled", {"delegate_options": {"Performance": "Max"}}, why="no option 'delegate_options'"),
    Case("nothing", CORAL, "plain", {"xnnpack": "no"}, why="xnnpack is 'no'"),
    # GPUs
    Case(f"{CUDA}, {ORT}", JETSON, "onnx"),
    Case(CPU, JETSON, "plain"),
    Case(ORT, JETSON_WITHOUT_BUILD, "onnx", why="built without CUDAExecutionProvider"),
    Case(ORT, JETSON_BROKEN, "onnx", why="no CUDA-capable device"),
    Case(CUDA, JETSON, "onnx", {"device": "gpu"}),
    Case(CUDA, JETSON, "onnx", {"device": "cuda"}),
    Case(ORT, JETSON, "onnx", {"device": "cpu"}),
    Case("onnxruntime on tensorrt:0", JETSON, "onnx", {"device": "tensorrt"}),
    Case("nothing", Machine(gpus=1, tensorrt=False), "onnx", {"device": "tensorrt:0"}, why="without TensorrtExecution"),
    Case("nothing", JETSON, "onnx", {"device": "cuda:3"}, why="out of range"),
    Case("nothing", LAPTOP, "onnx", {"device": "gpu"}, why="no device of the kind 'gpu'"),
    Case("nothing", LAPTOP, "onnx", {"device": "npu"}, why="no device of the kind 'npu'"),
    Case(ORT, JETSON, "onnx", {"providers": ["CPUExecutionProvider"]}, why="no option 'providers'"),
    Case("nothing", LAPTOP, "onnx", {"providers": ["CUDAExecutionProvider"]}, why="built without CUDA"),
    Case("nothing", LAPTOP, "onnx", {"signature": "serve"}, why="no signatures"),
    Case(f"edgetpu on pci:0, {CPU}", EVERYTHING, "plain with twin"),
    Case(f"{CUDA}, {ORT}", EVERYTHING, "onnx"),
    # OpenVINO: a GPU before the files' own engines, its CPU behind them
    Case(f"{CPU}, {OPENVINO}", WITH_OPENVINO, "plain"),
    Case(f"{ORT}, {OPENVINO}", WITH_OPENVINO, "onnx"),
    Case(f"openvino on gpu:0, {CPU}, {OPENVINO}", INTEL, "plain"),
    Case("openvino on gpu:0", INTEL, "plain", {"device": "gpu"}),
    Case(OPENVINO, Machine(litert=False, onnx=False, openvino=("cpu",)), "onnx"),
    Case(f"{OPENVINO}, {CPU}", INTEL, "plain", {"device": "cpu", "backend": ["openvino", "tflite_cpu"]}),
    # What was measured here goes before all of that, as far as it can be had
    Case(f"{OPENVINO}, {CPU}", WITH_OPENVINO, "plain", tuned=("openvino", "cpu")),
    Case(f"{CPU}, openvino on gpu:0, {OPENVINO}", INTEL, "plain", tuned=("tflite_cpu", "cpu")),
    Case(f"{CPU}, {TPU}", CORAL, "plain with twin", tuned=("tflite_cpu", "cpu")),
    Case(f"{ORT}, {CUDA}", JETSON, "onnx", tuned=("onnxruntime", "cpu")),
    Case(f"{CUDA}, {ORT}", JETSON, "onnx", {"backend": ["onnxruntime"]}, tuned=("onnxruntime", "cpu")),
    Case(f"{CUDA}, {ORT}", JETSON, "onnx", {}, {"EDGE_ACCELERATE_TUNED": "0"}, tuned=("onnxruntime", "cpu")),
    Case(CUDA, JETSON, "onnx", {"device": "gpu"}, tuned=("onnxruntime", "cpu")),
    Case(CPU, LAPTOP, "plain", tuned=("openvino", "cpu")),
    Case(CPU, BUSY, "plain with twin", tuned=("edgetpu", "usb:0"), why="usb:0 is in use"),
    Case(f"{CPU}, {SERVER}", LAPTOP, "plain", {}, SIDECAR, tuned=("tflite_cpu", "cpu")),
    # Servers: behind the GPUs where they are named, not there where they are not
    Case(f"{SERVER}, {CPU}", LAPTOP, "plain", environment=SIDECAR),
    Case(f"{CUDA}, {SERVER}, {ORT}", JETSON, "onnx", environment=SIDECAR),
    Case(f"{TPU}, {SERVER}, {CPU}", CORAL, "plain with twin", environment=SIDECAR),
    Case(TPU, CORAL, "compiled", environment=SIDECAR, why="compiled for the Edge TPU"),
    Case(CPU, Machine(grpc=False), "plain", environment=SIDECAR, why="grpc is not installed"),
    Case(SERVER, LAPTOP, "plain", {"backend": "triton", "url": "jetson:8001"}),
    Case(SERVER, LAPTOP, "plain", {"device": "server"}, SIDECAR),
    Case("triton on gpu", LAPTOP, "onnx", {"backend": "triton", "url": "jetson:8001", "device": "gpu"}),
    Case("nothing", LAPTOP, "plain", {"backend": "triton"}, why="EDGE_ACCELERATE_TRITON_URL"),
    Case(SERVER, LAPTOP, "triton url"),
    Case("nothing", LAPTOP, "triton url", {"num_threads": 2}, why="num_threads is settled"),
    Case("nothing", LAPTOP, "other url", why="http://"),
    Case("an error", LAPTOP, "plain", environment={"EDGE_ACCELERATE_TRITON_URL": "http://x"}, why="TRITON_URL: url is"),
    # The environment stands in for auto and None alone
    Case(CPU, CORAL, "plain with twin", environment={"EDGE_ACCELERATE_BACKEND": "tflite_cpu"}),
    Case(f"{CPU}, {TPU}", CORAL, "plain with twin", environment={"EDGE_ACCELERATE_BACKEND": "tflite_cpu,edgetpu"}),
    Case(TPU, CORAL, "plain with twin", {"backend": "edgetpu"}, {"EDGE_ACCELERATE_BACKEND": "tflite_cpu"}),
    Case(CPU, CORAL, "plain with twin", environment={"EDGE_ACCELERATE_DEVICE": "cpu"}, why="EDGE_ACCELERATE_DEVICE"),
    Case(TPU, CORAL, "plain with twin", {"device": "tpu"}, {"EDGE_ACCELERATE_DEVICE": "cpu"}),
    Case("nothing", LAPTOP, "onnx", {}, {"EDGE_ACCELERATE_DEVICE": "cuda:0"}, why="EDGE_ACCELERATE_DEVICE=cuda:0: "),
    Case("an error", LAPTOP, "onnx", {}, {"EDGE_ACCELERATE_BACKEND": "coral"}, why="there is no backend 'coral'"),
    Case(SERVER, LAPTOP, "triton url", {}, {"EDGE_ACCELERATE_BACKEND": "tflite_cpu"}),
]  # fmt: skip


class Stand(RuntimeModel):
    """What a load gives here."""

    def execute(self, feeds: list[Any]) -> list[Any]:
        return feeds


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Any]:
    """The models by what the table calls them."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    write("twins/net.tflite", odd_models.add3())
    write("twins/net_edgetpu.tflite", stand_in.floats([3]))
    write("pair/net.tflite", odd_models.add3())
    write("old/net.tflite", odd_models.add3())
    os.utime(write("old/net_edgetpu.tflite", stand_in.floats([3])), ns=(0, 0))
    whole = (DATA / "digits_uint8.tflite").read_bytes()
    return {
        "plain": DATA / "digits_uint8.tflite",
        "bytes": whole,
        "onnx": DATA / "digits.onnx",
        "compiled": write("alone/net_edgetpu.tflite", odd_models.edgetpu_like()),
        "compiled beside plain": write("pair/net_edgetpu.tflite", stand_in.floats([3])),
        "plain with twin": tmp_path / "twins/net.tflite",
        "plain with older twin": tmp_path / "old/net.tflite",
        "picture": DATA / "digit.png",
        "damaged": write("damaged.tflite", whole[: len(whole) // 2]),
        "folder": tmp_path,
        "triton url": "triton://jetson:8001/detector",
        "other url": "http://jetson:8000/detector",
    }


def inject(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the facts of a machine in the place of what backends find out."""
    from accelerate.backends import onnxruntime as ort
    from accelerate.backends.onnxruntime import providers

    litert = Availability(True, "LiteRT 2.3.0", "LiteRT 2.3.0 is here")
    if not machine.litert:
        litert = Availability(False, reason="LiteRT is not installed", remedy='pip install "edge-accelerate[litert]"')
    grpc = Availability(True, "gRPC 1.80.0") if machine.grpc else Availability(False, reason="grpc is not installed")
    onnx = Availability(True, "ONNX Runtime 1.32.0")
    if not machine.onnx:
        onnx = Availability(False, reason="not installed", remedy='pip install "edge-accelerate[onnxruntime]"')
    library = (
        Availability(False, reason="there is no libedgetpu", remedy="install it") if not machine.libedgetpu else litert
    )
    openvino = Availability(bool(machine.openvino), "OpenVINO 2026.4.1", reason="OpenVINO's", remedy="install it")
    seen = bool(machine.sticks)
    stubs: Mapping[str, Mapping[str, Any]] = {
        "tflite_cpu": {"availability_for": lambda *_: litert},
        "edgetpu": {
            "kinds": lambda: ("tpu",) if seen else (),
            "availability_for": lambda *_: library if seen and litert.available else litert if seen else _NO_STICK,
            "devices": lambda _: [_stick(one) for one in machine.sticks],
        },
        "onnxruntime": {"availability_for": lambda *_: onnx},
        "triton": {"availability": lambda: grpc},
        "openvino": {
            "kinds": lambda: [one.partition(":")[0] for one in machine.openvino or ["cpu"]],
            "availability_for": lambda *_: openvino,
            "devices": lambda _: [Device("openvino", one, one.partition(":")[0], one) for one in machine.openvino],
        },
    }  # fmt: skip
    for name, answers in stubs.items():
        backend = registry.find(name)
        for hook, answer in answers.items():
            monkeypatch.setattr(backend, hook, answer)
    for name in registry.backends():
        monkeypatch.setattr(registry.find(name), "load", _load_of(name))
    built = ["CPUExecutionProvider"]
    if machine.gpus and machine.gpu_build:
        built = ["TensorrtExecutionProvider"] * machine.tensorrt + ["CUDAExecutionProvider", *built]
    monkeypatch.setattr(providers, "available", lambda: built)
    monkeypatch.setattr(ort, "shows_gpu", lambda: machine.gpus > 0)
    monkeypatch.setattr(ort, "_has_gpu_build", lambda: machine.gpu_build)

    def tried(_: str, index: str, dtypes: Sequence[str]) -> dict[str, tuple[str, str]]:
        fault = machine.gpu_fault or ("device ordinal out of range" if int(index) >= machine.gpus else "")
        return dict.fromkeys(dtypes, (fault, "")) if fault else {}

    monkeypatch.setattr(providers, "_try_provider", tried)


_NO_STICK = Availability(False, reason="no Edge TPU is connected", remedy="connect one")


#: The version of each backend's runtime, as `inject` has it.
_VERSIONS = {
    "tflite_cpu": "LiteRT 2.3.0", "edgetpu": "LiteRT 2.3.0", "onnxruntime": "ONNX Runtime 1.32.0",
    "openvino": "OpenVINO 2026.4.1",
}  # fmt: skip


def measure(source: Path, given: Mapping[str, Any], backend: str, device: str) -> None:
    """Store what `tune` would have found out about a model for the arguments of a load."""
    options = LoadOptions(**{name: value for name, value in given.items() if name != "backend"})
    measured = Measurement(backend, device, None, _VERSIONS[backend], "2026-11-27", 1.5, 2.0, str(source), "", "", "")
    assert measurements.keep(Source(source), options, measured) == ""


def _stick(said: str) -> Device:
    device, _, problem = said.partition(" ")
    return Device("edgetpu", device, "tpu", "an Edge TPU", not problem, said if problem else "", "wait" * bool(problem))


def _load_of(name: str) -> Any:
    def load(source: Any, options: LoadOptions) -> Stand:
        tensors = [TensorInfo("x", data_type="float32", shape=(3,))]
        return Stand(name, tensors, tensors, RuntimeInfo(name, "1", options.device or "?"), options)

    return load


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BACKEND", "DEVICE", "TUNED", "TRITON_URL", "EDGETPU_LIBRARY", "TFLITE_DELEGATE"):
        monkeypatch.delenv(f"EDGE_ACCELERATE_{name}", raising=False)
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.model} -> {case.words}".replace(" ", "_"))
def test_decision(case: Case, models: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    inject(case.machine, monkeypatch)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    source, given = models[case.model], {"backend": "auto", **case.given}
    if case.words == "an error":
        for function in (accelerate.plan, accelerate.load):
            with pytest.raises(AccelerateError) as caught:
                function(source, **given)
            assert case.why in str(caught.value)
        return
    if case.tuned is not None:
        measure(source, case.given, *case.tuned)
    decided = accelerate.plan(source, **given)
    assert ", ".join(f"{c.backend} on {c.device}" for c in decided.candidates) == case.words.replace("nothing", "")
    told = [f"{one.reason}; {one.remedy}" for one in decided.skipped]
    assert not case.why or any(case.why in one for one in told), "\n".join(told)
    assert all(one.reason for one in (*decided.candidates, *decided.skipped))
    if decided.chosen is None:
        with pytest.raises(AccelerateError) as caught:
            accelerate.load(source, **given)
        assert case.why in str(caught.value)
        return
    with accelerate.load(source, **given) as model:
        assert (model.backend, model.device) == (decided.chosen.backend, decided.chosen.device)
        assert model.infer(np.ones(3, np.float32))["x"].tolist() == [1, 1, 1]


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(TABLE) >= 60
    assert len({case.words for case in TABLE}) >= 15
