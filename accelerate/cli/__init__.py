"""The command line: ``edge-accelerate run``, ``bench``, ``doctor``, ``inspect`` and ``sidecar``.

Needs the extra ``cli``; without it `main` says how to install it.
"""

from __future__ import annotations

import logging
import sys

from ..errors import AccelerateError

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich", "PIL"})
_INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main() -> int:
    """Run the command that `sys.argv` asks for.

    Returns
    -------
    int
        The exit status: 0 done, 1 an error or a failed check, 2 wrong usage.
    """
    logging.basicConfig(format="warning: %(message)s")
    try:
        return _dispatch()
    except AccelerateError as error:
        print(f"error: {error}", file=sys.stderr)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(
            f'error: {missing} is not installed; the command line needs it: pip install "edge-accelerate[cli]"',
            file=sys.stderr,
        )
    return 1


def _dispatch() -> int:
    import click

    from .bench import bench
    from .doctor import doctor
    from .inspect import inspect
    from .run import run
    from .sidecar import sidecar

    group = click.Group(
        commands=[run, inspect, bench, doctor, sidecar],
        help="Run models on the accelerators of this machine, and say what they and the machine are.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    try:
        status: int = group.main(prog_name="edge-accelerate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    return status
