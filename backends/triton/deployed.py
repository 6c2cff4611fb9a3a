"""A model file that runs on a server: shipped there when it is loaded, brought back after a restart, and taken away."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace

from ...contract import LoadOptions
from ...errors import AccelerateError
from ...metadata import TensorInfo
from ...source import Source
from .address import server_address
from .connection import Connection, Settings
from .deploy import Deployment, deploy, redeploy, undeploy
from .description import ModelDescription
from .model import TritonModel

__all__ = ["load_deployed"]


def load_deployed(source: Source, options: LoadOptions) -> TritonModel:
    """Ship a model file and connect to it. `close` unloads it if nothing else in this process uses it.

    Raises
    ------
    The errors of `deploy.deploy` and `TritonModel.connect`.
    """
    address = server_address(options.backend_options.get("url"))
    # a connection of its own, which lives until the model has been taken away
    connection = Connection(address, address.target(), Settings.parse(options, address))
    device, threads = None if options.device == "server" else options.device, options.num_threads
    try:
        deployment = deploy(connection, source, device=device, num_threads=threads)
    except BaseException:
        connection.close()
        raise
    try:
        model = TritonModel.connect(
            replace(address, model=deployment.name),
            options,
            lambda description: _with_file(description, deployment),
            lambda: redeploy(connection, source, deployment, device=device, num_threads=threads),
        )
    except BaseException:
        _take_away(connection, deployment)
        raise
    model.after_close(weakref.finalize(model, _take_away, connection, deployment))
    return model


def _take_away(connection: Connection, deployment: Deployment) -> None:
    if connection.pid == os.getpid():
        with contextlib.suppress(AccelerateError):  # the server is gone, and the model with it
            undeploy(connection, deployment)
        connection.close()


def _with_file(description: ModelDescription, deployment: Deployment) -> ModelDescription:
    """Add what the file says about its tensors, which the server does not tell."""
    told = deployment.metadata
    if told is None or (len(told.inputs), len(told.outputs)) != (len(description.inputs), len(description.outputs)):
        return description
    inputs, outputs = description.infos
    infos = (_merged(inputs, told.inputs), _merged(outputs, told.outputs))
    return replace(description, infos=infos, told=told)


def _merged(served: Sequence[TensorInfo], told: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    return tuple(
        replace(
            mine,
            data_type=theirs.data_type,
            shape=theirs.shape,
            aliases=tuple(dict.fromkeys(n for n in (*mine.aliases, theirs.name) if n != mine.name)),
        )
        for theirs, mine in zip(served, told, strict=True)
    )
