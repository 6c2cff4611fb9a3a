"""``edge-accelerate serve``: models for other programs, on this machine or, where told so, in the network."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import click

from ..api import load
from ..errors import AccelerateError, ModelError, OptionError
from ..model import Model
from .cleaning import clean_line
from .parameters import POSITIVE, load_option, shape_option

__all__ = ["serve"]

_OWN_PLACE = {
    "source": "MODEL",
    "backend": "--backend",
    "device": "--device",
    "shapes": "--shape",
    "dequantize": "the clients, each for itself",
}
_NAMED = re.compile(r"([\w.+-]+)=(.+)", re.S)
_MEGABYTE = 1 << 20


@click.command(short_help="Serve models to other programs, over gRPC.")
@click.argument("models", metavar="[NAME=]MODEL...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is the whole network.")
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--socket", "socket_path", metavar="PATH", help="Listen on a unix socket instead, private to this user.")
@click.option("--backend", default="auto", show_default=True, help="A backend that `doctor` lists.")
@click.option("--device", help="A device that `doctor` lists.")
@shape_option
@load_option(_OWN_PLACE)
@click.option("--keep-going", is_flag=True, help="Serve the other models where some cannot be loaded.")
@click.option("--tls-certificate", metavar="PATH", type=click.Path(path_type=Path), help="PEM file: its chain.")
@click.option("--tls-key", metavar="PATH", type=click.Path(path_type=Path), help="PEM file: its key.")
@click.option(
    "--tls-client-ca", metavar="PATH", type=click.Path(path_type=Path), help="PEM file: whose clients may connect."
)
@click.option(
    "--max-message", metavar="MIB", type=click.IntRange(1, 2047), default=64, show_default=True, help="Of one call."
)
@click.option(
    "--grace", metavar="SECONDS", type=POSITIVE, default=10.0, show_default=True, help="For running calls at the end."
)
def serve(
    models: Sequence[str],
    host: str,
    port: int,
    socket_path: str | None,
    options: Mapping[str, Any],
    keep_going: bool,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    max_message: int,
    grace: float,
    **load_arguments: Any,
) -> int:
    """Serve each MODEL under its file's name without the ending, or under NAME.

    Clients of the Open Inference Protocol reach it: accelerate.load("triton://localhost:8001/NAME"), tritonclient and
    others. Programs on this machine share memory with it. It listens on this machine alone unless told otherwise, and
    ends on SIGTERM or Ctrl-C once running calls have ended. Options hold for every MODEL.
    """
    from ..serve.open_inference import Server

    named = _named(models)
    server_of = partial(
        Server,
        host=host,
        port=port,
        socket_path=socket_path,
        certificate=tls_certificate,
        key=tls_key,
        client_ca=tls_client_ca,
        largest_message=max_message * _MEGABYTE,
    )
    # what is wrong with a name, the place or a key is said before models load, which may take minutes
    server_of(dict.fromkeys(named, ModelError("it is not loaded yet"))).stop()
    with ExitStack() as stack:
        served = _loaded(stack, named, {**load_arguments, **options}, keep_going)
        server = server_of(served)
        stop = _Stop()  # not before: what hangs while it is loaded ends at the first signal
        server.start()
        _say(served, server.address, secure=tls_certificate is not None)
        stop.wait()
        ended = server.stop(grace)
    if not ended:  # Python would wait for a runtime's call, perhaps for ever
        click.echo(f"calls that did not end within {grace:g} s were given up", err=True)
        os._exit(0)
    return 0


class _Stop:
    """Waits for SIGTERM or Ctrl-C; a second one ends the program at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _: object) -> None:
        if self._asked.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked.set()

    def wait(self) -> None:
        """Return once the program is to end."""
        self._asked.wait()


def _named(models: Sequence[str]) -> dict[str, str]:
    """Return where each model is, by the name that it is served under."""
    found: dict[str, str] = {}
    for text in models:
        named = None if os.path.exists(text) or "://" in text.partition("=")[0] else _NAMED.fullmatch(text)
        name, model = named.groups() if named else (_own_name(text), text)
        if name in found:
            raise OptionError(
                f"two models would be served as {name!r}: {found[name]} and {model}", "name one of them: NAME=MODEL"
            )
        found[name] = model
    return found


def _own_name(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme in ("triton", "tritons"):  # a version may follow
        return unquote(rest.partition("/")[2].partition("/")[0])
    return Path(text.rstrip("/")).stem


def _loaded(
    stack: ExitStack, named: Mapping[str, str], arguments: Mapping[str, Any], keep_going: bool
) -> dict[str, Model | AccelerateError]:
    """Load each model; where some cannot be served, say of all of them why."""
    from ..serve.open_inference.served import check

    served: dict[str, Model | AccelerateError] = {}
    for name, source in named.items():
        try:
            with ExitStack() as own:
                model = own.enter_context(load(source, **arguments))
                check(name, model.metadata())
                stack.push(own.pop_all())
            served[name] = model
        except AccelerateError as error:
            served[name] = error
    failed = {name: error for name, error in served.items() if isinstance(error, AccelerateError)}
    if len(failed) == 1 and len(served) == 1:
        raise next(iter(failed.values()))
    if failed and (not keep_going or len(failed) == len(served)):
        raise ModelError(
            f"{len(failed)} of {len(served)} models cannot be served: "
            + "; ".join(f"{name}: {error}" for name, error in failed.items()),
            "" if len(failed) == len(served) else "correct this, or serve the others: --keep-going",
        )
    return served


def _say(served: Mapping[str, Model | AccelerateError], address: str, *, secure: bool) -> None:
    for name, model in served.items():
        if isinstance(model, AccelerateError):
            click.echo(clean_line(f"not served: {name}: {model}"), err=True)
            continue
        where = address.removeprefix("unix:").replace("/", "%2F")
        url = f"triton{'s' * secure}://{where}/{quote(name)}"
        click.echo(clean_line(f"serving {url} on {model.backend} {model.device}"))
    click.echo("ready")
