"""Offer a model as an ML model service to the viam-server on this board, which has its address as a remote.

It needs the extras viam and litert.

$ python examples/viam_service.py digits accelerate/data/digits_uint8.tflite
viam://localhost:8080/digits: LiteRT on cpu
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from viam.rpc.server import Server

import accelerate
from accelerate.serve.viam import LocalMLModel


async def serve(name: str, path: str, port: int) -> None:
    """Answer the SDK's MLModelClient until SIGTERM or Ctrl-C."""
    model = accelerate.load(path)
    service = LocalMLModel(name, model)
    print(f"viam://localhost:{port}/{name}: {model.runtime.name} on {model.device}", flush=True)
    try:
        await Server([service]).serve(host="127.0.0.1", port=port, log_level=logging.WARNING)
    finally:
        await service.close()


def main() -> None:
    """Load the model and serve it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="what the service is called")
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()

    try:
        asyncio.run(serve(arguments.name, arguments.model, arguments.port))
    except (accelerate.AccelerateError, OSError) as error:  # the model, or the port
        sys.exit(str(error))


if __name__ == "__main__":
    main()
