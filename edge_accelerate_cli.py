"""Entry of the console script.

A module of its own, so that it works where another `accelerate` was installed over this one.
"""

from __future__ import annotations

import os
import runpy
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Run the command line, or print the repair of a mixed installation."""
    check = os.path.join(_HERE, "accelerate", "_collision.py")
    if os.path.isfile(check):
        message = runpy.run_path(check)["collision"](_HERE)
        if message:
            print(message, file=sys.stderr)
            return 1
    try:
        from accelerate.cli import main as run
    except ImportError as error:
        if error.name and error.name.partition(".")[0] != "accelerate":
            raise
        print(
            f"edge-accelerate is not completely installed ({error}). Another package named 'accelerate' may have "
            "removed or replaced its files. To repair:\n"
            "    pip uninstall -y accelerate edge-accelerate\n"
            "    pip install --no-cache-dir edge-accelerate",
            file=sys.stderr,
        )
        return 1
    return run()
