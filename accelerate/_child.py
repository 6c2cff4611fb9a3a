"""What a child process of ours begins with: it calls a function and writes what that returns (`system.children`).

``python -m accelerate._child package.module:function '{"argument": ...}' SECONDS``
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys


def _main() -> None:
    if hasattr(signal, "alarm"):  # ends a native call that hangs though the parent has been killed; 0 sets none
        signal.alarm(int(sys.argv[3]))
    answer = os.dup(1)
    os.dup2(2, 1)  # a runtime's chatter must not mix with the answer
    module, _, function = sys.argv[1].partition(":")
    call = getattr(importlib.import_module(module), function)
    result = call(sys.stdin.buffer.read(), **json.loads(sys.argv[2]))
    with os.fdopen(answer, "w", encoding="utf-8") as pipe:
        json.dump(result, pipe)


if __name__ == "__main__":
    _main()
