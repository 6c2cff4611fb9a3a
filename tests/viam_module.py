"""The module of accelerate.serve.viam as viam-server runs it: a process of its own, driven over its socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conftest import ROOT
from grpclib.client import Channel
from viam.proto.app.robot import ComponentConfig
from viam.proto.module import (
    AddResourceRequest,
    ModuleServiceStub,
    ReadyRequest,
    ReconfigureResourceRequest,
    RemoveResourceRequest,
    ValidateConfigRequest,
)
from viam.utils import dict_to_struct

MLMODEL, GENERIC, VISION = (f"rdk:service:{kind}" for kind in ("mlmodel", "generic", "vision"))
DIGITS = ROOT / "accelerate" / "data" / "digits_uint8.tflite"


class RunningModule:
    """A module that is ready."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, path: str) -> None:
        self.process, self.channel, self.path = process, channel, path
        self.stub = ModuleServiceStub(channel)

    async def validate(self, api: str, model: str, name: str, attributes: Mapping[str, Any]) -> Any:
        return await self.stub.ValidateConfig(ValidateConfigRequest(config=config(api, model, name, attributes)))

    async def add(
        self, api: str, model: str, name: str, attributes: Mapping[str, Any], timeout: float | None = None
    ) -> None:
        await self.stub.AddResource(AddResourceRequest(config=config(api, model, name, attributes)), timeout=timeout)

    async def reconfigure(self, api: str, model: str, name: str, attributes: Mapping[str, Any]) -> None:
        await self.stub.ReconfigureResource(ReconfigureResourceRequest(config=config(api, model, name, attributes)))

    async def remove(self, api: str, name: str) -> None:
        await self.stub.RemoveResource(RemoveResourceRequest(name=f"{api}/{name}"))


def config(api: str, model: str, name: str, attributes: Mapping[str, Any]) -> ComponentConfig:
    return ComponentConfig(name=name, api=api, model=model, attributes=dict_to_struct(attributes))


@asynccontextmanager
async def running_module(
    *, parent: str = "", command: tuple[str, ...] = (sys.executable, "-m", "accelerate.serve.viam"), **environment: str
) -> AsyncIterator[RunningModule]:
    """Start the module, wait until it answers, and end it."""
    with tempfile.TemporaryDirectory(prefix="viam-") as folder:  # pytest's are too long for a socket
        path = str(Path(folder) / "module.sock")
        alone = {} if parent else {"VIAM_NO_MODULE_PARENT": "true"}
        process = subprocess.Popen(
            [*command, path], env={**os.environ, **alone, **environment}, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        channel = Channel(path=path)
        try:
            for _ in range(600):
                try:  # the file exists before it listens
                    await ModuleServiceStub(channel).Ready(ReadyRequest(parent_address=parent))
                    break
                except (FileNotFoundError, ConnectionError):
                    assert process.poll() is None, "the module has ended"
                    await asyncio.sleep(0.05)
            yield RunningModule(process, channel, path)
        finally:
            channel.close()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
