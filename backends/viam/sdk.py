"""Viam's SDK, imported without what it does to a program: its excepthook, and lines on stdout."""

from __future__ import annotations

import sys

from accelerate.errors import BackendNotAvailableError

__all__ = ["import_sdk"]


def import_sdk() -> str:
    """Import what the backend needs and return the SDK's version.

    Raises
    ------
    BackendNotAvailableError
    """
    first, hook = "viam" not in sys.modules, sys.excepthook
    try:
        import viam.proto.service.mlmodel  # with grpclib
        from viam.version_metadata import SDK_VERSION
    except Exception as error:  # protobuf raises its own where it is another version than the messages'
        raise BackendNotAvailableError(
            f"viam needs viam-sdk: {type(error).__name__}: {error}", 'pip install "edge-accelerate[viam]"'
        ) from error
    finally:
        if first:  # it replaces the program's own, to log what nobody catches
            sys.excepthook = hook
    if first:
        import logging

        import viam.logging

        viam.logging.setLevel(logging.WARNING)  # it tells of each connection on stdout
    return str(SDK_VERSION)
