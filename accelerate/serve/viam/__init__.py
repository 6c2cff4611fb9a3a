"""Models as resources of a Viam machine.

`LocalMLModel` is the SDK's own MLModel over a Model, for programs; ``python -m accelerate.serve.viam SOCKET`` is a
module that viam-server starts. Both need Viam's SDK.
"""

from __future__ import annotations

from ...errors import BackendNotAvailableError

try:
    from .local import LocalMLModel
except ImportError as error:
    if (error.name or "").partition(".")[0] in ("accelerate", __name__.partition(".")[0]):
        raise
    raise BackendNotAvailableError(
        f"accelerate.serve.viam needs Viam's SDK: {error}", "pip install 'viam-sdk[mlmodel]'"
    ) from error

__all__ = ["LocalMLModel"]
