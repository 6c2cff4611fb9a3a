"""The messages of the Open Inference Protocol and of Triton's configuration: ``messages.ModelInferRequest`` and so on.

They are in a descriptor pool of their own. protobuf's default pool knows a message by its full name, once in a process,
and MLServer, KServe and others bring the same protocol under other file names: whichever of them is imported second
fails. So tritonclient's modules are not imported here. Their descriptors are taken out of the compiled code, which
also saves most of what importing that package costs.
"""

from __future__ import annotations

import threading
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGE = "inference"
#: Whose methods take and return these messages.
SERVICE = f"{_PACKAGE}.GRPCInferenceService"
_FILES = ("model_config_pb2", "service_pb2")  # in the order in which they need each other
_lock = threading.Lock()
_pool: Any = None


def __getattr__(name: str) -> Any:
    """Return a message class, and remember it: the next look-up does not come here.

    Raises
    ------
    ImportError
        protobuf or tritonclient are not installed, or hold something else.
    """
    if name.startswith("_"):
        raise AttributeError(name)
    from google.protobuf import message_factory

    with _lock:
        if name not in globals():
            try:
                described = _descriptors().FindMessageTypeByName(f"{_PACKAGE}.{name}")
            except KeyError as error:
                raise AttributeError(f"the protocol has no message {name!r}") from error
            globals()[name] = message_factory.GetMessageClass(described)
        return globals()[name]


def _descriptors() -> Any:
    global _pool
    if _pool is None:
        from google.protobuf.descriptor_pool import DescriptorPool

        pool = DescriptorPool()
        for file in _FILES:
            pool.AddSerializedFile(_serialized(file))
        _pool = pool
    return _pool


def _serialized(file: str) -> bytes:
    """Return the FileDescriptorProto in a generated module, by far the longest of its constants."""
    package = find_spec("tritonclient")
    folders = [str(Path(folder) / "grpc") for folder in (package and package.submodule_search_locations) or ()]
    module = PathFinder.find_spec(f"tritonclient.grpc.{file}", folders)
    code: Any = None if module is None else module.loader.get_code(module.name)  # type: ignore[union-attr]
    found = [constant for constant in getattr(code, "co_consts", ()) if isinstance(constant, bytes)]
    if not found:
        raise ImportError(
            "No module named 'tritonclient'" if package is None else f"tritonclient has no grpc/{file}.py"
        )
    return max(found, key=len)
