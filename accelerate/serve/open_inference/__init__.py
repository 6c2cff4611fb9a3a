"""Models for other programs: the Open Inference Protocol over gRPC, a thin face over Models and no engine of its own.

::

    with Server({"detector": accelerate.load("detector.tflite")}) as server:
        print(server.address)        # "127.0.0.1:8001": load it elsewhere as triton://127.0.0.1:8001/detector
        server.wait()

``edge-accelerate serve`` does this. It needs gRPC's library: ``pip install "edge-accelerate[serve]"``.
"""

from __future__ import annotations

from ...errors import BackendNotAvailableError
from ...formats.open_inference.library import import_grpc

try:
    import_grpc()
except ImportError as error:
    raise BackendNotAvailableError(
        f"serving needs tritonclient and grpcio: {error}", 'pip install "edge-accelerate[serve]"'
    ) from error

from .server import Server

__all__ = ["Server"]
