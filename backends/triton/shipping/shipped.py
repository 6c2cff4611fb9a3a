"""A model file that runs on a server: shipped there when it is loaded, brought back after a restart, and taken away."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from accelerate.contract import LoadOptions, Source
from accelerate.errors import AccelerateError, InferenceTimeoutError, UnsupportedModelError
from accelerate.formats.tflite.assumptions import ASSUMED_NORMALIZATION
from accelerate.metadata import Metadata, TensorInfo

from ..address import server_address
from ..connection import Connection, Settings
from ..description import ModelDescription
from ..model import TritonModel
from .package import Package, describe, pack
from .server import BackendMissingError, Shipment, restore, ship, withdraw

__all__ = ["load_shipped", "ship_file"]

_log = logging.getLogger("accelerate")
_told: set[tuple[str, str]] = set()  # of which it was said that they run on the CPU; replicas need not repeat it


class _TFLiteModel(TritonModel):
    """What is taken for granted of a .tflite model here is so on a server."""

    assumed_normalization = ASSUMED_NORMALIZATION


def load_shipped(source: Source, server: object, options: LoadOptions) -> TritonModel:
    """Ship a model file to a server and connect to it. `close` unloads it if nothing else in this process uses it.

    Raises
    ------
    The errors of `package.pack`, `server.ship` and `TritonModel.connect`.
    """
    address = server_address(server)
    # a connection of its own, which lives until the model has been taken away
    connection = Connection(address, address.target(), Settings.parse(options, address))
    try:
        about = describe(source, options.signature)
        shipment, make = ship_file(connection, source, about, options)
    except BaseException:
        connection.close()
        raise
    kind = _TFLiteModel if source.format == "tflite" else TritonModel
    try:
        model = kind.connect(
            replace(address, model=shipment.name),
            options,
            # what the server tells of the shim is what it was told of the file, but for scalars
            lambda served: _with_file(served, about, by_shim=shipment.backend == "python"),
            lambda through, deadline: restore(through, shipment, make, deadline),
        )
    except BaseException:
        _take_away(connection, shipment)
        raise
    model.after_close(weakref.finalize(model, _take_away, connection, shipment))
    return model


def ship_file(
    connection: Connection, source: Source, about: Metadata | None, options: LoadOptions
) -> tuple[Shipment, Callable[[], Package]]:
    """Ship a model file; return what makes its package again, too.

    An ONNX model goes to Triton's ONNX Runtime backend. Where the server has none, it goes with a small shim to its
    Python backend like a .tflite model, and runs on the CPU there.
    """
    device = None if options.device == "server" else options.device
    make = partial(
        pack,
        source,
        about,
        device,
        num_threads=options.num_threads,
        signature=options.signature,
        # requests that Triton joins are limited in size, which would set the model apart from one that is loaded here
        joined=False,
    )
    try:
        return ship(connection, make()), make
    except BackendMissingError as missing:
        if source.format != "onnx":
            raise
        if device == "gpu":
            raise UnsupportedModelError(
                f"{missing.reason}, and its Python backend runs ONNX models on the CPU only",
                "start a server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), or ship a TensorRT plan",
            ) from missing
        reason = missing.reason
    make = partial(make, by_shim=True)
    package = make()
    where = (connection.server, package.unique_name())
    if device is None and where not in _told:
        _told.add(where)
        _log.warning("%s: its Python backend runs the model, on the CPU", reason)
    return ship(connection, package), make


def _take_away(connection: Connection, shipment: Shipment) -> None:
    if connection.pid == os.getpid():
        try:
            withdraw(connection, shipment)
        except InferenceTimeoutError:
            _log.warning(
                "the server at %s does not answer: the model %s may stay there until it is loaded and closed again, or "
                "the server is restarted",
                connection.address,
                shipment.name,
            )
        except AccelerateError:  # the server is gone, and the model with it
            pass
        connection.close()


def _with_file(served: ModelDescription, about: Metadata | None, *, by_shim: bool) -> ModelDescription:
    """Add what the file says about its tensors, which the server does not tell."""
    if about is not None:
        # an optional input that is left out of the configuration is left out of every call
        there = {tensor.name for tensor in served.inputs}
        about = replace(about, inputs=tuple(t for t in about.inputs if not t.optional or t.name in there))
    if about is None or (len(about.inputs), len(about.outputs)) != (len(served.inputs), len(served.outputs)):
        return served
    inputs, outputs = served.infos
    infos = (_merged(inputs, about.inputs, by_shim=by_shim), _merged(outputs, about.outputs, by_shim=by_shim))
    specs = tuple(
        replace(spec, shape=(), scalar=True) if by_shim and not info.shape else spec
        for spec, info in zip(served.inputs, about.inputs, strict=True)
    )
    return replace(served, inputs=specs, infos=infos, told=about)


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
