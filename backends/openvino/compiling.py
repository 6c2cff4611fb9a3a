"""Reads a model file by OpenVINO and compiles it, or takes what was compiled before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accelerate.contract import LoadOptions, Source, default_threads, held_back, settle
from accelerate.errors import AccelerateError, OptionError, UnsupportedModelError
from accelerate.formats.openvino.file import ModelFile
from accelerate.formats.openvino.weights import weights_path
from accelerate.metadata import Metadata

from .devices import AUTO, native_name
from .engines import Engine
from .ports import arranged, own_names, restore_unread
from .runtime import LINES, core, settings

__all__ = ["check_config", "compiled", "with_required"]


def check_config(given: Any, num_threads: int | None) -> None:
    """Judge ``config=`` of `load`, without the runtime.

    Raises
    ------
    OptionError
    """
    plain = (str, int, float, bool)
    if not isinstance(given, Mapping) or not all(
        isinstance(key, str) and isinstance(value, plain) for key, value in given.items()
    ):
        raise OptionError(
            f"config is {given!r:.100}; wanted OpenVINO's properties by name, each a text, number or truth value, such "
            "as {'INFERENCE_PRECISION_HINT': 'f16'}"
        )
    threads = given.get("INFERENCE_NUM_THREADS")
    if num_threads is not None and threads is not None and str(threads) != str(num_threads):
        raise OptionError(f"num_threads={num_threads} and config's INFERENCE_NUM_THREADS={threads} differ", "give one")


def compiled(source: Source, told: Metadata, options: LoadOptions, count: int) -> tuple[Any, dict[str, str]]:
    """Compile a model file for the device that was chosen, for `count` callers at once.

    Returns
    -------
    CompiledModel, dict
        And what the cache has to do with it; empty for nothing.
    """
    assert options.device is not None, "the core has chosen one"
    device = native_name(options.device)
    given = options.backend_options.get("config") or {}
    config = settings(device, default_threads(options) * count, count) | given
    shapes = _settled_shapes(told, options)
    engine = None
    # what came as bytes may be no matter for the disk; with a cache of the user's, or "" for none, we have none
    if source.path is not None and options.device != AUTO and "CACHE_DIR" not in given:
        digest = source.digest()
        engine = None if digest is None else Engine(digest, device, repr(shapes), config)
    try:
        with held_back(LINES):
            made = None if engine is None else engine.read()
            if made is None:
                made = core().compile_model(_model(source, told, shapes), device, config)
                if engine is not None:
                    engine.keep(made)
    except BaseException:
        if engine is not None:
            engine.discard()
        raise
    return made, {} if engine is None else engine.told()


def _model(source: Source, told: Metadata, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Return OpenVINO's model of a file, as it is to be compiled."""
    model = _read(source)
    if source.format == "onnx" and source.utf8_path is None:
        restore_unread(model, source, told)
    _check_texts(model, source)
    if shapes:
        _reshape(model, source, told, shapes)
    return model


def _settled_shapes(told: Metadata, options: LoadOptions) -> Sequence[tuple[int, ...]]:
    """Return the inputs' shapes where `load` was given any."""
    if not options.shapes:
        return ()
    return [t.shape for t in settle(told.required_inputs, options.shapes, options.tensor_names)]


def _read(source: Source) -> Any:
    """Return OpenVINO's model of a file; what is wrong with it is translated by the backend."""
    if source.format == "tflite":
        with _tflite_path(source) as path:
            return core().read_model(path)
    if source.format == "openvino":
        weights = weights_path(source.opened(ModelFile), source.path)
        if (xml := source.utf8_path) is not None:
            return core().read_model(xml, str(weights)) if weights is not None else core().read_model(xml)
        return core().read_model(source.read(), b"" if weights is None else weights.read_bytes())
    return core().read_model(source.utf8_path or source.read())


def _check_texts(model: Any, source: Source) -> None:
    """Refuse texts that come out as they went in: OpenVINO 2026.4 frees them twice."""
    for result in model.get_results():
        node = result.input_value(0).get_node()
        while node.get_type_name() == "Identity":  # which compiling takes out
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Parameter" and node.get_element_type().get_type_name() == "string":
            raise UnsupportedModelError(
                f"{source} gives texts back as they came, which crashes OpenVINO", "use the file's own engine"
            )


@contextlib.contextmanager
def _tflite_path(source: Source) -> Iterator[str]:
    """Give a path in UTF-8 that ends in .tflite: nothing else is read as such a model."""
    with contextlib.ExitStack() as stack:
        if source.utf8_path is None:
            if (path := stack.enter_context(_in_memory(source.read(), "model.tflite"))) is not None:
                yield path
                return
            source = Source(source.read())
        yield str(stack.enter_context(source.as_path(".tflite")))


@contextlib.contextmanager
def _in_memory(content: bytes, name: str) -> Iterator[str | None]:
    """Give a path of that name to a file in memory: what came as bytes may be no matter for the disk.

    On the disk there is a link alone, which leads nowhere once the process has ended. None where that cannot be had.
    """
    with contextlib.ExitStack() as stack:
        link = None
        if hasattr(os, "memfd_create"):
            with contextlib.suppress(OSError):
                file = stack.enter_context(open(os.memfd_create(name), "wb", buffering=0))
                file.write(content)
                link = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), name)
                os.symlink(f"/proc/self/fd/{file.fileno()}", link)
        yield link


def _reshape(model: Any, source: Source, told: Metadata, shapes: Sequence[tuple[int, ...]]) -> None:
    places = arranged(model.inputs, own_names(source, told)[0], "input")
    try:
        model.reshape({place: list(shape) for place, shape in zip(places, shapes, strict=True)})
    except AccelerateError:
        raise
    except Exception as error:
        from .errors import while_loading

        raise OptionError(
            f"shapes: {while_loading(error, str(source)).reason}", "give others, or leave them out"
        ) from error


def with_required(told: Metadata) -> Metadata:
    """Return what a file says without its optional inputs, of which OpenVINO makes constants."""
    return replace(told, inputs=told.required_inputs)
