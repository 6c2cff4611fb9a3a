"""LocalMLModel, and the module as viam-server runs it: a real process, the SDK's own clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from conftest import ROOT

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from grpclib import GRPCError, Status
from grpclib.exceptions import StreamTerminatedError
from grpclib.testing import ChannelFor
from viam.proto.module import ReadyRequest
from viam.resource.manager import ResourceManager
from viam.services.generic.client import GenericClient
from viam.services.mlmodel import LabelType, Metadata, MLModel, MLModelClient
from viam.services.mlmodel.service import MLModelRPCService
from viam_module import DIGITS, GENERIC, MLMODEL, running_module

import accelerate
from accelerate._version import __version__ as VERSION
from accelerate.metadata import Metadata as MetadataOfOurs
from accelerate.metadata import TensorInfo
from accelerate.serve.viam import LocalMLModel
from accelerate.serve.viam.description import to_message

PIXELS = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 1), np.uint8)
OURS = "edge-accelerate:mlmodel:"


def answer() -> Any:
    with accelerate.load(DIGITS) as model:
        return model.infer(PIXELS)["scores"]


async def refused(call: Awaitable[Any]) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as refusal:
        await call
    return refusal.value.status, str(refusal.value.message)


# LocalMLModel


def test_a_programs_own_lines() -> None:
    async def program() -> None:
        my_mlmodel = LocalMLModel("my_mlmodel_service", accelerate.load(DIGITS))
        assert isinstance(my_mlmodel, MLModel)
        output_tensors = await my_mlmodel.infer({"0": PIXELS})
        np.testing.assert_array_equal(output_tensors["scores"], answer())
        metadata = await my_mlmodel.metadata()
        assert isinstance(metadata, Metadata)
        assert (metadata.name, metadata.type) == ("Digits", "tflite_classifier")
        my_command = {"command": "warmup", "runs": 2.0}
        assert (await my_mlmodel.do_command(my_command))["runs"] == 2
        with pytest.raises(NotImplementedError, match="known: reset, stats, warmup"):
            await my_mlmodel.do_command({"command": "dosomething", "someparameter": 52})
        status = await my_mlmodel.get_status()
        assert (status["backend"], status["device"], status["stats"]["calls"]) == ("tflite_cpu", "cpu", 1)
        await my_mlmodel.close()
        with pytest.raises(accelerate.ClosedError, match="my_mlmodel_service"):
            await my_mlmodel.infer({"image": PIXELS})

    asyncio.run(program())


def test_a_close_that_nobody_waits_for_still_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        model = accelerate.load(DIGITS)

        async def slow(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(0.3)
            return {"scores": PIXELS}

        monkeypatch.setattr(model, "infer_async", slow)
        mlmodel = LocalMLModel("digits", model)
        call = asyncio.create_task(mlmodel.infer({"image": PIXELS}))
        await asyncio.sleep(0.01)
        with pytest.raises(asyncio.TimeoutError):  # as at the deadline of a reconfiguration
            await asyncio.wait_for(mlmodel.close(), 0.05)
        assert "scores" in await call
        await asyncio.sleep(0.1)
        with pytest.raises(accelerate.ClosedError):
            model.infer({"image": PIXELS})

    asyncio.run(program())


def test_metadata_in_the_sdks_message(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefghij"))

    async def program() -> None:
        mlmodel = LocalMLModel("digits", accelerate.load(DIGITS, label_path=labels))
        metadata = await mlmodel.metadata(timeout=1)
        (image,), (scores,) = metadata.input_info, metadata.output_info
        assert (image.name, image.data_type, list(image.shape)) == ("image", "uint8", [1, 8, 8, 1])
        assert image.description.startswith("A grey picture")
        assert (scores.name, scores.data_type, list(scores.shape)) == ("scores", "uint8", [1, 10])
        assert scores.extra["labels"] == str(labels)
        assert list(scores.extra["quantization"]["scale"]) == [1 / 256]
        (file,) = scores.associated_files
        assert (file.name, file.label_type) == ("labels.txt", LabelType.LABEL_TYPE_TENSOR_AXIS)
        await mlmodel.close()

    asyncio.run(program())


def test_boxes_say_their_order() -> None:
    box = TensorInfo("location", shape=(1, 10, 4), extra={"boxOrder": (1, 0, 3, 2), "range": (0, 1)})
    message = to_message(MetadataOfOurs("", "", "", (), (box,)))
    assert dict(message.output_info[0].extra) == {"boxOrder": [1, 0, 3, 2]}


def test_dtypes_that_the_protocol_lacks() -> None:
    async def program() -> None:
        for file, wanted in ((odd_models.boolean(), "uint8"), (odd_models.float16(), "float32")):
            model = accelerate.load(file, backend="tflite_cpu")
            ((x,), (y,)) = model.metadata().inputs, model.metadata().outputs
            given = np.resize(np.array([1, 0, 1], wanted), x.shape)
            mlmodel = LocalMLModel("m", model)
            async with ChannelFor([MLModelRPCService(ResourceManager([mlmodel]))]) as channel:
                client = MLModelClient("m", channel)
                metadata = await client.metadata()
                for info, own in ((metadata.input_info[0], x), (metadata.output_info[0], y)):
                    assert info.data_type == wanted
                    assert dict(info.extra).get("data_type", wanted) == own.data_type
                (found,) = (await client.infer({"x": given})).values()
                assert found.dtype == wanted
                np.testing.assert_array_equal(found, model.infer(given.astype(x.data_type))[y.name])
            await mlmodel.close()
        with (
            accelerate.load(odd_models.strings(), backend="tflite_cpu") as strings,
            pytest.raises(accelerate.UnsupportedModelError, match="is string, which Viam"),
        ):
            LocalMLModel("m", strings)

    asyncio.run(program())


# The module


def test_the_life_of_a_model() -> None:
    async def program() -> None:
        async with running_module() as module:
            attributes = {"model_path": str(DIGITS), "num_threads": 2}
            checked = await module.validate(MLMODEL, f"{OURS}tflite_cpu", "digits", attributes)
            assert (list(checked.dependencies), list(checked.optional_dependencies)) == ([], [])
            await module.add(MLMODEL, f"{OURS}tflite_cpu", "digits", attributes)
            client = MLModelClient("digits", module.channel)
            np.testing.assert_array_equal((await client.infer({"image": PIXELS}))["scores"], answer())
            np.testing.assert_array_equal((await client.infer({"0": PIXELS}, timeout=5))["scores"], answer())
            assert (await client.metadata()).output_info[0].name == "scores"
            status = await client.get_status()
            runtime: Any = status["runtime"]
            assert (status["backend"], runtime["details"]["num_threads"]) == ("tflite_cpu", 2)
            with pytest.raises(NotImplementedError):  # the SDK's own: the protocol has no such call
                await client.do_command({"command": "stats"})
            await module.add(GENERIC, "edge-accelerate:generic:mlmodel", "commands", {"mlmodel_name": "digits"})
            commands = GenericClient("commands", module.channel)
            assert (await commands.do_command({"command": "warmup", "runs": 3}))["runs"] == 3
            assert (await commands.do_command({"command": "stats"}))["calls"] == 2
            await module.reconfigure(MLMODEL, f"{OURS}auto", "digits", {"model_path": str(DIGITS)})
            assert (await commands.do_command({"command": "stats"}))["calls"] == 0  # of the new one
            np.testing.assert_array_equal((await client.infer({"image": PIXELS}))["scores"], answer())
            await module.remove(MLMODEL, "digits")
            assert (await refused(client.infer({"image": PIXELS})))[0] is Status.NOT_FOUND
            status_, said = await refused(commands.do_command({"command": "stats"}))
            assert status_ is Status.INVALID_ARGUMENT
            assert "no ML model service 'digits'" in said

    asyncio.run(program())


def test_every_backend_is_a_model() -> None:
    async def program() -> list[str]:
        async with running_module() as module:
            handlers = (await module.stub.Ready(ReadyRequest())).handlermap.handlers
            return [model for handler in handlers for model in handler.models]

    models = asyncio.run(program())
    assert {f"{OURS}{name}" for name in ("auto", *accelerate.list_backends())} <= set(models)


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    (MLMODEL, f"{OURS}tflite_cpu", {}, "there is no model_path"),
    (MLMODEL, f"{OURS}tflite_cpu", {"model_path": 3}, "model_path is 3"),
    (MLMODEL, f"{OURS}tflite_cpu", {"model_path": str(DIGITS), "num_thread": 1}, "did you mean 'num_threads'"),
    (MLMODEL, f"{OURS}tflite_cpu", {"model_path": str(DIGITS), "num_threads": 1.5}, "num_threads"),
    (MLMODEL, f"{OURS}tflite_cpu", {"model_path": str(DIGITS), "backend": "auto"}, "backend is said by the model"),
    (GENERIC, "edge-accelerate:generic:mlmodel", {}, "there is no mlmodel_name"),
    (GENERIC, "edge-accelerate:generic:mlmodel", {"mlmodel_name": 1}, "mlmodel_name is 1"),
    (GENERIC, "edge-accelerate:generic:mlmodel", {"mlmodel_name": "m", "model": ""}, "there is no attribute 'model'"),
]


def test_wrong_attributes_are_named_and_leave_the_module_alive(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(DIGITS.read_bytes()[:900])

    async def program() -> None:
        async with running_module() as module:
            for api, model, attributes, wanted in WRONG:
                for call in (module.validate, module.add):
                    status, said = await refused(call(api, model, "one", attributes))
                    assert status is Status.INVALID_ARGUMENT, said
                    assert said.startswith("service 'one': "), said
                    assert wanted in said
            missing = {"model_path": str(tmp_path / "missing.tflite")}
            await module.validate(MLMODEL, f"{OURS}tflite_cpu", "one", missing)  # it may still arrive
            await module.validate(MLMODEL, f"{OURS}auto", "one", {**missing, "label_path": "/missing.txt"})
            status, said = await refused(module.add(MLMODEL, f"{OURS}tflite_cpu", "one", missing))
            assert status is Status.NOT_FOUND
            assert "model_path is" in said
            status, said = await refused(module.add(MLMODEL, f"{OURS}tflite_cpu", "one", {"model_path": str(damaged)}))
            assert status is Status.FAILED_PRECONDITION
            assert said.startswith("service 'one': ")
            await module.add(MLMODEL, f"{OURS}tflite_cpu", "one", {"model_path": str(DIGITS)})
            status, said = await refused(module.reconfigure(MLMODEL, f"{OURS}tflite_cpu", "one", missing))
            assert status is Status.NOT_FOUND
            client = MLModelClient("one", module.channel)
            assert (await refused(client.infer({"image": PIXELS})))[0] is Status.NOT_FOUND  # as in the SDK
            # viam-server corrects by the same call, for to it the resource is still there
            await module.reconfigure(MLMODEL, f"{OURS}tflite_cpu", "one", {"model_path": str(DIGITS)})
            status, said = await refused(client.infer({"image": PIXELS[:, :4]}))
            assert status is Status.INVALID_ARGUMENT
            assert "wanted uint8[1, 8, 8, 1]" in said
            np.testing.assert_array_equal((await client.infer({"image": PIXELS}))["scores"], answer())

    asyncio.run(program())


# A backend whose loads and calls take their time

SLOW = """
import time
import numpy as np
from accelerate.contract import *
from accelerate.metadata import Metadata, TensorInfo

X, Y = TensorInfo("x", data_type="float32", shape=(1,)), TensorInfo("y", data_type="float32", shape=(1,))

class Model(RuntimeModel):
    def describe(self):
        return Metadata("slow", "", "", (X,), (Y,))
    def execute(self, feeds):
        time.sleep(float(feeds[0][0]))
        return [feeds[0] * 2]

class Slow(Backend):
    name, description, extra, options = "slow", "sleeps", "", ("seconds",)
    def kinds(self): return ("cpu",)
    def availability(self): return Availability(True, "1")
    def devices(self, options): return [Device("slow", "cpu", "cpu", "the CPU")]
    def match(self, source, options): return Match(True)
    def load(self, source, options):
        time.sleep(float(options.backend_options.get("seconds", 0)))
        return Model("slow", (X,), (Y,), RuntimeInfo("slow", "1", "cpu"), options)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of an installed backend that sleeps; each value is how long a call takes."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow_backend.py").write_text(SLOW)
    info = folder / "slow-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[accelerate.backends]\nslow = slow_backend:Slow\n")
    return folder


@pytest.mark.slow
def test_loads_and_calls_keep_nothing_else_waiting(slow: Path) -> None:
    async def program() -> None:
        async with running_module(PYTHONPATH=str(slow)) as module:
            await module.add(MLMODEL, f"{OURS}tflite_cpu", "digits", {"model_path": str(DIGITS)})
            digits = MLModelClient("digits", module.channel)
            await digits.infer({"image": PIXELS})
            path = {"model_path": str(DIGITS)}
            loading = asyncio.create_task(module.add(MLMODEL, f"{OURS}slow", "slow", {**path, "seconds": 2}))
            await asyncio.sleep(0.2)
            slow_client = MLModelClient("slow", module.channel)
            early = asyncio.create_task(slow_client.infer({"x": np.array([0.01], np.float32)}))  # waits for the load
            with pytest.raises((GRPCError, asyncio.TimeoutError)) as late:
                await slow_client.infer({"x": np.array([0.01], np.float32)}, timeout=0.2)
            assert not isinstance(late.value, GRPCError) or late.value.status is Status.DEADLINE_EXCEEDED
            while not loading.done():
                before = time.monotonic()
                await digits.infer({"image": PIXELS}, timeout=0.5)
                assert time.monotonic() - before < 0.5
            await loading
            np.testing.assert_array_equal((await early)["y"], [np.float32(0.02)])
            # calls, too
            long = asyncio.create_task(slow_client.infer({"x": np.array([1], np.float32)}))
            await asyncio.sleep(0.1)
            await digits.infer({"image": PIXELS}, timeout=0.5)
            before = time.monotonic()
            with pytest.raises((GRPCError, asyncio.TimeoutError)):
                await slow_client.infer({"x": np.array([0.01], np.float32)}, timeout=0.3)
            assert time.monotonic() - before < 0.6
            np.testing.assert_array_equal((await long)["y"], [np.float32(2)])
            # a load at whose deadline nobody waits any more leaves nothing behind
            with pytest.raises((GRPCError, asyncio.TimeoutError)):
                await module.add(MLMODEL, f"{OURS}slow", "late", {**path, "seconds": 1}, timeout=0.3)
            await asyncio.sleep(0.2)
            late_client = MLModelClient("late", module.channel)
            assert (await refused(late_client.infer({"x": np.array([0], np.float32)})))[0] is Status.NOT_FOUND
            await module.add(MLMODEL, f"{OURS}slow", "late", path)
            await late_client.infer({"x": np.array([0], np.float32)})

    asyncio.run(program())


@pytest.mark.slow
def test_a_rebuild_lets_calls_end(slow: Path) -> None:
    async def program() -> None:
        async with running_module(PYTHONPATH=str(slow)) as module:
            path = {"model_path": str(DIGITS)}
            await module.add(MLMODEL, f"{OURS}slow", "slow", path)
            client = MLModelClient("slow", module.channel)
            before = [
                asyncio.create_task(client.infer({"x": np.array([0.5], np.float32)})) for _ in range(3)
            ]  # take turns
            await asyncio.sleep(0.2)
            rebuild = asyncio.create_task(module.reconfigure(MLMODEL, f"{OURS}slow", "slow", path))
            await asyncio.sleep(0.1)
            after = asyncio.create_task(client.infer({"x": np.array([0.25], np.float32)}))  # of the new one
            for call in before:
                np.testing.assert_array_equal((await call)["y"], [np.float32(1)])
            await rebuild
            np.testing.assert_array_equal((await after)["y"], [np.float32(0.5)])
            stats: Any = (await client.get_status())["stats"]
            assert stats["calls"] == 1

    asyncio.run(program())


@pytest.mark.slow
def test_clients_beside_rebuilds() -> None:
    wanted = answer()

    async def program() -> None:
        async with running_module() as module:
            attributes = {"model_path": str(DIGITS)}
            await module.add(MLMODEL, f"{OURS}tflite_cpu", "digits", attributes)

            async def calls() -> None:
                client = MLModelClient("digits", module.channel)
                for _ in range(100):
                    found = (await client.infer({"image": PIXELS}, timeout=10))["scores"]  # waits for the new model
                    np.testing.assert_array_equal(found, wanted)

            clients = [asyncio.create_task(calls()) for _ in range(4)]
            for _ in range(5):
                await module.reconfigure(MLMODEL, f"{OURS}tflite_cpu", "digits", attributes)
                await asyncio.sleep(0.02)
            await asyncio.gather(*clients)

    asyncio.run(program())


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    async def program() -> None:
        async with running_module(TMPDIR=str(tmp_path)) as module:
            await module.add(MLMODEL, f"{OURS}auto", "digits", {"model_path": str(DIGITS)})
            client = MLModelClient("digits", module.channel)
            await client.infer({"image": PIXELS})
            children = Path(f"/proc/{module.process.pid}/task/{module.process.pid}/children").read_text().split()
            os.kill(module.process.pid, signal.SIGKILL)
            module.process.wait(10)
            assert children == []
            assert list(tmp_path.iterdir()) == []
            with pytest.raises((ConnectionError, FileNotFoundError, StreamTerminatedError)):
                await client.infer({"image": PIXELS})

    asyncio.run(program())


def test_the_end_of_the_module_is_clean() -> None:
    async def program() -> int:
        async with running_module() as module:
            await module.add(MLMODEL, f"{OURS}auto", "digits", {"model_path": str(DIGITS)})
        return int(module.process.returncode)

    assert asyncio.run(program()) == 0


# The file for the registry


@pytest.mark.slow
def test_the_registrys_file_is_small_and_starts(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="needs the group: build")
    build = ROOT / "deploy" / "viam" / "build.sh"
    built = subprocess.run(
        [build, tmp_path], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=True
    )
    packed = tmp_path / "module.tar.gz"
    assert built.stdout.strip() == str(packed)
    assert packed.stat().st_size < 2 << 20
    unpacked = tmp_path / "unpacked"
    with tarfile.open(packed) as file:
        file.extractall(unpacked, filter="data")
    names = {path.name for path in unpacked.iterdir()}
    assert names == {"meta.json", "run.sh", "setup.sh", "README.md", f"edge_accelerate-{VERSION}-py3-none-any.whl"}
    told = json.loads((unpacked / "meta.json").read_text())
    assert {told["entrypoint"], told["first_run"]} <= names

    async def program() -> set[tuple[str, str]]:
        async with running_module(command=(str(unpacked / "run.sh"),), PYTHON=sys.executable) as module:
            await module.add(MLMODEL, f"{OURS}auto", "digits", {"model_path": str(DIGITS)})
            client = MLModelClient("digits", module.channel)
            np.testing.assert_array_equal((await client.infer({"image": PIXELS}))["scores"], answer())
            handlers = (await module.stub.Ready(ReadyRequest())).handlermap.handlers
            return {
                (f"rdk:service:{handler.subtype.subtype.subtype}", model)
                for handler in handlers
                for model in handler.models
            }

    assert {(one["api"], one["model"]) for one in told["models"]} == asyncio.run(program())
