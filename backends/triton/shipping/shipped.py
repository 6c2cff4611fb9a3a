"""A model file that runs on a server: shipped there when it is loaded, brought back after a restart, and taken away."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace

from accelerate.conventions import ASSUMED_NORMALIZATION
from accelerate.errors import AccelerateError, InferenceTimeoutError
from accelerate.metadata import TensorInfo
from accelerate.reports import LoadOptions
from accelerate.source import Source

from ..address import server_address
from ..connection import Connection, Settings
from ..description import ModelDescription
from ..model import TritonModel
from .server import Deployment, deploy, redeploy, undeploy

__all__ = ["load_deployed"]

_log = logging.getLogger("accelerate")


class _TFLiteModel(TritonModel):
    """What is taken for granted of a .tflite model here is so on a server."""

    _assumed_normalization = ASSUMED_NORMALIZATION


def load_deployed(source: Source, options: LoadOptions) -> TritonModel:
    """Ship a model file and connect to it. `close` unloads it if nothing else in this process uses it.

    Raises
    ------
    The errors of `deploy.deploy` and `TritonModel.connect`.
    """
    address = server_address(options.backend_options.get("url"))
    # a connection of its own, which lives until the model has been taken away
    connection = Connection(address, address.target(), Settings.parse(options, address))
    device = None if options.device == "server" else options.device
    kind = _TFLiteModel if source.format == "tflite" else TritonModel
    try:
        deployment = deploy(
            connection, source, device=device, num_threads=options.num_threads, signature=options.signature
        )
    except BaseException:
        connection.close()
        raise
    try:
        model = kind.connect(
            replace(address, model=deployment.name),
            options,
            lambda description: _with_file(description, deployment),
            lambda through, deadline: redeploy(through, source, deployment, deadline),
        )
    except BaseException:
        _take_away(connection, deployment)
        raise
    model.after_close(weakref.finalize(model, _take_away, connection, deployment))
    return model


def _take_away(connection: Connection, deployment: Deployment) -> None:
    if connection.pid == os.getpid():
        try:
            undeploy(connection, deployment)
        except InferenceTimeoutError:
            _log.warning(
                "the server at %s does not answer: the model %s may stay there until it is loaded and closed again, or "
                "the server is restarted",
                connection.address,
                deployment.name,
            )
        except AccelerateError:  # the server is gone, and the model with it
            pass
        connection.close()


def _with_file(description: ModelDescription, deployment: Deployment) -> ModelDescription:
    """Add what the file says about its tensors, which the server does not tell."""
    told = deployment.metadata
    if told is None or (len(told.inputs), len(told.outputs)) != (len(description.inputs), len(description.outputs)):
        return description
    inputs, outputs = description.infos
    # what the server tells of the shim is what it was told of the file, but for scalars
    by_shim = deployment.backend == "python"
    infos = (_merged(inputs, told.inputs, by_shim=by_shim), _merged(outputs, told.outputs, by_shim=by_shim))
    specs = tuple(
        replace(spec, shape=(), scalar=True) if by_shim and not info.shape else spec
        for spec, info in zip(description.inputs, told.inputs, strict=True)
    )
    return replace(description, inputs=specs, infos=infos, told=told)


def _merged(served: Sequence[TensorInfo], told: Sequence[TensorInfo], *, by_shim: bool) -> tuple[TensorInfo, ...]:
    return tuple(
        replace(
            mine,
            data_type=theirs.data_type,
            shape=mine.shape if by_shim else theirs.shape,
            aliases=tuple(dict.fromkeys(n for n in (*mine.aliases, theirs.name) if n != mine.name)),
        )
        for theirs, mine in zip(served, told, strict=True)
    )
