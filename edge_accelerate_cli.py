"""Entry of the console script.

A module of its own, so that it works where another `accelerate` was installed over this one.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_INIT = os.path.join(_HERE, "accelerate", "__init__.py")
_REPAIR = "    pip uninstall -y accelerate edge-accelerate\n    pip install --no-cache-dir edge-accelerate"


def main() -> int:
    """Run the command line, or print the repair of a mixed installation."""
    message = _mixed() or _incomplete() or _hidden()
    if message:
        print(message, file=sys.stderr)
        return 1
    from accelerate.cli import main as run

    return run()


def _mixed() -> str | None:
    check = os.path.join(_HERE, "accelerate", "_collision.py")
    message: str | None = runpy.run_path(check)["collision"](_HERE) if os.path.isfile(check) else None
    return message


def _incomplete() -> str | None:
    # without __init__.py the rest would still be imported, as a namespace package with nothing in it
    missing = [n for n in ("__init__.py", "api.py", "cli") if not os.path.exists(os.path.join(_HERE, "accelerate", n))]
    if not missing:
        return None
    return (
        f"edge-accelerate in {_HERE} is not complete (accelerate/{missing[0]} is missing). Another package named "
        f"'accelerate' was installed over it and uninstalled again, perhaps. To repair:\n{_REPAIR}"
    )


def _hidden() -> str | None:
    spec = importlib.util.find_spec("accelerate")  # finds it, does not import it
    found = spec.origin if spec is not None else None
    if found is not None and os.path.samefile(found, _INIT):
        return None
    return (
        f"'import accelerate' finds {found}, another package of that name, before edge-accelerate's {_INIT}. "
        "Uninstall the other one (pip uninstall accelerate), or take its folder off PYTHONPATH; use another "
        "virtual environment for programs that need it."
    )
