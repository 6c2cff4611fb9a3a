"""The lines of Viam's documentation and of docs/viam.md, as they stand there, on the module and without one."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import numpy as np
import odd_models
import pytest
from conftest import ROOT

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from viam.proto.common import ResourceName
from viam.resource.registry import Registry
from viam.resource.types import API
from viam.services.mlmodel import MLModelClient
from viam.services.vision import VisionClient
from viam_module import DIGITS, GENERIC, MLMODEL, RunningModule, running_module

import accelerate
from accelerate.serve.viam import LocalMLModel
from accelerate.services.file import parse

# The documentation of 2023 of Viam's ML model service, section API, its lines for Python
CLIENT = 'my_mlmodel = MLModelClient.from_robot(robot=robot, name="my_mlmodel_service")'
INFER = """
import numpy as np

my_mlmodel = MLModelClient.from_robot(robot=robot, name="my_mlmodel_service")

nd_array = np.array([1, 2, 3], dtype=np.float64)
input_tensors = {"0": nd_array}

output_tensors = await my_mlmodel.infer(input_tensors)
"""
METADATA = """
my_mlmodel = MLModelClient.from_robot(robot=robot, name="my_mlmodel_service")

metadata = await my_mlmodel.metadata()
"""
DO_COMMAND = """
my_mlmodel = MLModelClient.from_robot(robot=robot, name="my_mlmodel_service")

my_command = {
  "command": "dosomething",
  "someparameter": 52
}

await my_mlmodel.do_command(my_command)
"""


def page(section: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / "viam.md").read_text("utf-8")
    shown = re.split(r"^##+ ", text[text.index(f"# {section}\n") + 2 :], maxsplit=1, flags=re.M)[0]
    return re.findall(rf"^```{kind}\n(.*?)^```$", shown, re.M | re.S)


async def run(lines: str, names: dict[str, Any]) -> None:
    """Run lines with `await` in them."""
    code: CodeType = compile(lines, "the page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if (waiting := eval(code, names)) is not None:
        await waiting


def robot_of(module: RunningModule) -> Any:
    """Return what clients ask of a RobotClient; the service behind it is viam-server's, which passes calls on."""

    def service(name: ResourceName) -> Any:
        return Registry.lookup_api(API.from_resource_name(name)).create_rpc_client(name.name, module.channel)

    return SimpleNamespace(get_service=service)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model of three values; it is the page's, too."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    return path


def check(names: dict[str, Any]) -> None:
    (doubled,) = names["output_tensors"].values()
    np.testing.assert_array_equal(doubled, [2, 4, 6])
    (info,) = names["metadata"].input_info
    assert (info.name, info.data_type, list(info.shape)) == ("x", "float32", [3])


def test_the_documentations_lines_on_the_module(model: Path) -> None:
    async def program() -> None:
        async with running_module() as module:
            name = "my_mlmodel_service"
            await module.add(MLMODEL, "edge-accelerate:mlmodel:tflite_cpu", name, {"model_path": str(model)})
            await module.add(GENERIC, "edge-accelerate:generic:mlmodel", "fruit_commands", {"mlmodel_name": name})
            names: dict[str, Any] = {"robot": robot_of(module), "MLModelClient": MLModelClient}
            await run(INFER, names)
            await run(METADATA, names)
            check(names)
            with pytest.raises(NotImplementedError):
                await run(DO_COMMAND, names)
            names = {"robot": robot_of(module)}
            await run(page("From a program", "python")[0], names)
            check(names)
            await run(page("Commands", "python")[0], names)

    asyncio.run(program())


def test_the_documentations_lines_without_a_machine(model: Path) -> None:
    async def program() -> None:
        mlmodel = LocalMLModel("my_mlmodel_service", accelerate.load(model))
        names: dict[str, Any] = {"mine": mlmodel}
        for lines in (INFER, METADATA):
            assert CLIENT in lines
            await run(lines.replace(CLIENT, "my_mlmodel = mine"), names)
        check(names)
        with pytest.raises(NotImplementedError, match="known: reset, stats, warmup"):
            await run(DO_COMMAND.replace(CLIENT, "my_mlmodel = mine"), names)
        await mlmodel.close()
        names = {"input_tensors": names["input_tensors"]}
        await run(page("From a program", "python")[1], names)
        check(names)

    asyncio.run(program())


def test_the_pages_services_can_be_configured(tmp_path: Path) -> None:
    (tmp_path / "my_fruit_model.tflite").write_bytes(DIGITS.read_bytes())
    (tmp_path / "labels.txt").write_text("\n".join(map(str, range(10))))
    (shown,) = page("The module", "json")
    services = parse(shown.replace("${packages.ml_model.my_fruit_model}", str(tmp_path)))["services"]

    async def program() -> None:
        async with running_module() as module:
            for one in services:
                what = one["api"], one["model"], one["name"], one["attributes"]
                await module.validate(*what)
                await module.add(*what)
            properties = await VisionClient("fruit", module.channel).get_properties()
            assert (properties.classifications_supported, properties.default_camera) == (True, "eye")

    assert len(services) == 3
    asyncio.run(program())
