"""The command line: ``run``, ``inspect``, ``bench``, ``tune``, ``doctor``, ``board-report``, ``serve``, and more.

Needs the extra ``cli``; without it `main` says how to install it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings

from .. import __version__
from ..errors import AccelerateError
from .cleaning import CleanFormatter, clean
from .terms import as_options

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich", "PIL"})
_FAILED, _INTERRUPTED = 1, 130  # the latter is what a shell reports for Ctrl-C


def main() -> int:
    """Run the command that `sys.argv` asks for.

    Returns
    -------
    int
        The exit status: 0 done, 1 an error or a failed check, 2 wrong usage, 3 a check that could not be judged.
    """
    _make_output_harmless()
    try:
        status = _dispatch()
        sys.stdout.flush()  # at exit it would be too late for a message
    except AccelerateError as error:
        return _fail(str(error))
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        return _fail(f'{missing} is not installed; the command line needs it: pip install "edge-accelerate[cli]"')
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _forget_output()
        return _FAILED
    except OSError as error:
        _forget_output()
        if error.filename is None:
            return _fail(
                f"the output cannot be written: {error.strerror or error}; free some space, or send it elsewhere"
            )
        return _fail(f"{error.filename} cannot be used: {error.strerror}; check the path and its permissions")
    return status


def _make_output_harmless() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(CleanFormatter("%(level)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    # a user of a command has no use for the line of code that led to a warning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {_said(str(message))}\n"
    if sys.stdout is None:  # closed by who called
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal's encoding lacks is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str) -> int:
    print(f"error: {_said(message)}", file=sys.stderr)
    return _FAILED


def _said(message: str) -> str:
    return clean(as_options(message))


def _forget_output() -> None:
    """Let what is still to be written go nowhere: Python would try again at exit, and complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch() -> int:
    import click

    from .commands import Commands

    modules = ("run", "inspect", "bench", "tune", "doctor", "board_report", "serve")
    group: click.Command = Commands(
        {name.replace("_", "-"): f"{__name__}.{name}:{name}" for name in modules},
        help="Run models on the accelerators of this machine, and say what they and the machine are.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group = click.version_option(__version__, message="edge-accelerate %(version)s")(group)
    try:
        status: int = group.main(prog_name="edge-accelerate", standalone_mode=False)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        print(clean(said.getvalue()), end="", file=sys.stderr)
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    return status
