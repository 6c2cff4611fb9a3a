"""gRPC's library, imported so that it keeps to itself."""

from __future__ import annotations

import os
import sys
from typing import Any

from . import messages

__all__ = ["import_grpc"]


def import_grpc() -> Any:
    """Import gRPC, keeping it from writing to stderr unless ``GRPC_VERBOSITY`` asks for that, and the messages.

    Raises
    ------
    ImportError
        The library, or that with the protocol's descriptors, is not installed.
    """
    quiet = "grpc" not in sys.modules and "GRPC_VERBOSITY" not in os.environ
    if quiet:
        os.environ["GRPC_VERBOSITY"] = "NONE"  # read once, while the library is being loaded
    try:
        import grpc

        messages.ModelInferRequest  # noqa: B018 - made once, here
    finally:
        if quiet:
            del os.environ["GRPC_VERBOSITY"]
    return grpc
