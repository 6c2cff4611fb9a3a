"""A server of this package's own for tests: `edge-accelerate serve` in a process of its own.

::

    with Serving({"double": content_or_path}) as server:
        server.address                    # "127.0.0.1:PORT"
        server.url("double")              # "triton://127.0.0.1:PORT/double"
        server.pid
        server.kill(); server.start()     # SIGKILL, and again on the same port
        server.stop()                     # SIGTERM; returns the exit status
        server.log()
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import Self

__all__ = ["Serving"]

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0


class Serving:
    """See the module. `models` are paths, or the content of files."""

    def __init__(self, models: Mapping[str, bytes | str | Path], *arguments: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edge-accelerate-serving-"))
        self._models = []
        for name, model in models.items():
            path = self.folder / name if isinstance(model, bytes) else model
            if isinstance(model, bytes):
                Path(path).write_bytes(model)
            self._models.append(f"{name}={path}")
        self.arguments = arguments
        self.port = 0
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        where = () if "--socket" in self.arguments else ("--port", str(self.port))
        return [sys.executable, "-m", "accelerate", "serve", *self._models, *where, *self.arguments]

    def start(self) -> Self:
        before = len(self.log())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + _START_TIMEOUT
        while "\nready\n" not in self.log()[before:]:
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)
        if found := re.search(r"tritons?://\S+:(\d+)/", self.log()[before:]):
            self.port = int(found[1])
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        return f"triton://{self.address}/{name}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        process, self._process = self._process, None
        assert process is not None, "the server is not running"
        process.send_signal(number)
        return self.ended(process)

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            if self._process is not None:
                self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
