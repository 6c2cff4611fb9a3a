"""``edge-accelerate run``: one model, its inputs, what came out, and what ran it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from click.core import ParameterSource

from ..api import load
from ..errors import OptionError
from ..inputs.files import is_picture
from ..model import Model
from .answers import Answer, Runner
from .cleaning import clean_line
from .parameters import POSITIVE, load_option, shape_option
from .rendering import print_heading, print_line
from .results import MOST_CLASSES, class_scores, describe_outputs, describe_results, print_answer
from .terms import as_options
from .vision import describe_preparation, task_name

__all__ = ["run"]

_SERVICE = re.compile(r"(.+\.json):([^/\\:]+)", re.I | re.S)  # one of the models that a file configures
_OWN_PLACE = {
    "source": "MODEL",
    "backend": "--backend",
    "device": "--device",
    "label_path": "--labels",
    "num_threads": "--threads",
    "shapes": "--shape",
}


@click.command(short_help="Run a model on pictures or on arrays.")
@click.argument("model")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backend", default="auto", show_default=True, help="A backend that `doctor` lists.")
@click.option("--device", help="A device that `doctor` lists.")
@click.option("--labels", "label_path", metavar="PATH", help="A label file.")
@click.option("--threads", "num_threads", metavar="N", type=click.IntRange(min=1), help="CPU threads of the runtime.")
@shape_option
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Results to show of each input, the best; by default {MOST_CLASSES} classes, and all objects.",
)
@click.option(
    "--min-score",
    metavar="N",
    type=click.FloatRange(0, 1),
    help="Leave out results with a lower score, 0 to 1; by default objects below 0.25, or what the model says.",
)
@click.option("--raw", is_flag=True, help="Show the output tensors, not what they say of a picture.")
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Draw the results on the picture, and write it there; of several pictures into this folder.",
)
@click.option("--timeout", metavar="SECONDS", type=POSITIVE, help="Limit of each call.")
@load_option(_OWN_PLACE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def run(
    model: str,
    inputs: Sequence[Path],
    top: int | None,
    min_score: float | None,
    raw: bool,
    out: Path | None,
    timeout: float | None,
    options: Mapping[str, Any],
    as_json: bool,
    **load_arguments: Any,
) -> int:
    """Run MODEL on INPUT, one file or several, and show the results and what ran.

    MODEL is a path, a URL, or PATH.json:NAME, the service of this name in a services file; options given here replace
    its attributes.

    Each INPUT is a picture, an .npy file for a model with one input, or an .npz file with an array for each input by
    name. Of a picture it shows the classes, objects, bodies or areas that the model finds, as far as anything tells
    what its outputs hold; of arrays the tensors, or the best of class scores. With one INPUT the model is called twice:
    a first call often pays for what later ones do not.
    """
    targets = _targets(out, inputs)
    started = perf_counter()
    with _load(model, {**load_arguments, **options}) as loaded:
        load_ms = (perf_counter() - started) * 1e3
        runner = Runner(loaded, top=top, min_score=min_score, timeout=timeout)
        show = _Shown(runner, top, min_score, raw, as_json)
        said, calls = [], []
        for path in inputs:
            answer = runner.answer(path)
            calls.append(answer.milliseconds)
            said.append(show(answer, targets.get(path), alone=len(inputs) == 1))
        if len(inputs) == 1:
            milliseconds = {"load": load_ms, "first_call": calls[0], "second_call": runner.again(answer)}
        else:
            milliseconds = {"load": load_ms, "first_call": calls[0], "mean_call": sum(calls[1:]) / (len(calls) - 1)}
        about = {**_about(runner), **_ran_on(loaded), "milliseconds": milliseconds}
    if as_json:
        several = said[0] if len(inputs) == 1 else {"inputs": said}
        click.echo(json.dumps({"model": model, **several, **about}, indent=2, allow_nan=False))
    else:
        _print_end(about, len(inputs))
    return _drawn(runner, targets)


def _load(model: str, given: dict[str, Any]) -> Model:
    service = None if "://" in model or os.path.exists(model) else _SERVICE.fullmatch(model)
    if service is None:
        return load(model, **given)
    from ..services import load_service

    backend = given.pop("backend")
    chosen = click.get_current_context().get_parameter_source("backend") is ParameterSource.COMMANDLINE
    return load_service(service[1], service[2], given, backend=backend if chosen else None)


def _targets(out: Path | None, inputs: Sequence[Path]) -> Mapping[Path, Path]:
    """Return where each annotated picture goes, before anything runs."""
    pictures = {path: is_picture(path) for path in inputs}  # a file that is missing is no reason to run the others
    if out is None:
        return {}
    if arrays := [path for path, is_one in pictures.items() if not is_one]:
        raise OptionError(f"--out draws on pictures, and {arrays[0]} holds arrays", "leave --out out, or give pictures")
    from .annotation import destinations

    return dict(zip(inputs, destinations(out, inputs), strict=True))


class _Shown:
    """Describes answers, prints them unless they are for ``--json``, and draws them."""

    def __init__(self, runner: Runner, top: int | None, min_score: float | None, raw: bool, as_json: bool) -> None:
        self._runner, self._top, self._min_score = runner, top, min_score
        self._raw, self._as_json = raw, as_json
        self._warned = False

    def __call__(self, answer: Answer, target: Path | None, *, alone: bool) -> dict[str, Any]:
        said = {"input": str(answer.path), **self._results(answer)}
        said["outputs"] = describe_outputs(answer.outputs, self._runner.metadata.outputs)
        if target is not None and answer.results is not None and answer.picture is not None:
            from .annotation import write_annotated

            write_annotated(answer.picture, answer.results, target)
            said["annotated"] = str(target)
        if not alone:
            said["milliseconds"] = answer.milliseconds
        if not self._as_json:
            self._print(said, alone)
        if answer.picture is not None:
            self._say_why(target)
        return said

    def _results(self, answer: Answer) -> dict[str, Any]:
        if self._raw:
            return {"results": None}
        if answer.results is not None:
            return describe_results(answer.results, self._top)
        metadata = self._runner.metadata
        return {"results": class_scores(answer.outputs, metadata, self._top or MOST_CLASSES, self._min_score)}

    def _print(self, said: Mapping[str, Any], alone: bool) -> None:
        if not alone:
            print_heading(said["input"])
        print_answer(said, with_labels=bool(self._runner.metadata.labels))
        if "annotated" in said:
            print_line(f"drawn in {said['annotated']}")

    def _say_why(self, target: Path | None) -> None:
        """Say once why there are tensors and nothing else, where a user expects more."""
        refusal = self._runner.refusal
        if refusal is None or self._warned or self._raw or target is not None or not self._runner.expected:
            return
        self._warned = True
        click.echo(clean_line(f"warning: the outputs are shown as they are: {as_options(str(refusal))}"), err=True)


def _about(runner: Runner) -> dict[str, Any]:
    task = runner.task
    if task is None:
        return {"task": None, "layout": None, "preparation": None}
    return {
        "task": task_name(task),
        "layout": str(task.layout),
        "preparation": describe_preparation(task.preparation),
    }


def _ran_on(model: Model) -> dict[str, Any]:
    runtime = model.runtime
    return {
        "backend": model.backend,
        "device": model.device,
        "engine": runtime.name,
        "engine_version": runtime.version,
    }


def _print_end(about: Mapping[str, Any], inputs: int) -> None:
    ms = about["milliseconds"]
    print_heading(f"Ran on {about['backend']}, device {about['device']}, {about['engine']} {about['engine_version']}")
    later = (
        f"second call {ms['second_call']:.3f} ms" if inputs == 1 else f"later calls {ms['mean_call']:.3f} ms on average"
    )
    print_line(f"first call {ms['first_call']:.3f} ms, {later}; runtime and model loaded in {ms['load']:.1f} ms")


def _drawn(runner: Runner, targets: Mapping[Path, Path]) -> int:
    """Fail where pictures were asked for and there is nothing to draw."""
    if targets and runner.refusal is not None:
        raise OptionError(f"nothing is drawn: {runner.refusal.reason}", runner.refusal.remedy)
    return 0
