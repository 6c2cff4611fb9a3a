"""The two distributions of the TFLite interpreter: LiteRT and tflite-runtime."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from accelerate.contract import (
    Array,
    Availability,
    ChildError,
    Wheels,
    held_back,
    record,
    suggestion,
    try_digits,
    try_runtime,
    verdict,
)
from accelerate.contract import __version__ as our_version
from accelerate.errors import BackendNotAvailableError, OptionError

__all__ = ["ENGINES", "LINES", "Engine", "availability", "check_option", "engine_of", "libraries_of", "pick"]

#: How the interpreter ("INFO: ...") begins its lines, and how absl ("W0000 00:00:...", with a preamble) and cpuinfo do.
LINES = re.compile(
    rb"(VERBOSE|INFO|WARNING|ERROR): .*(TensorFlow|LiteRT|XNN|[Dd]elegate|tflite|Node number|custom op)"
    rb"|[IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages before absl|(Warning|Error) in cpuinfo: "
)
_PROBE_TIMEOUT = 30.0


@record(frozen=True)
class Engine:
    """One distribution of the interpreter."""

    option: str  # what ``load(..., engine=...)`` takes
    title: str
    package: str  # import name
    wheels: Wheels
    #: whether it checks a file before using it. One that does not is never given a file that has not been loaded and
    #: run in a child process before
    verifies: bool

    @property
    def remedy(self) -> str:
        """The command that installs it, or what it takes for one to work."""
        return self.wheels.remedy()

    @property
    def upgrade(self) -> str:
        """The command that brings its newest version."""
        return f"pip install --upgrade {self.package.replace('_', '-')}"

    def installed(self) -> bool:
        """Return whether its package is there, working or not."""
        return importlib.util.find_spec(self.package) is not None

    def full_name(self) -> str:
        """Return its title with the version of the imported runtime."""
        return f"{self.title} {self.version()}"

    def interpreter_class(self) -> Any:
        """Import the runtime and return its ``Interpreter``."""
        try:
            name = f"{self.package}.interpreter"
            with held_back(LINES) if name not in sys.modules else contextlib.nullcontext():
                return importlib.import_module(name).Interpreter
        except Exception as error:  # a broken native library can raise anything
            raise BackendNotAvailableError(
                f"{self.title} cannot be imported ({type(error).__name__}: {error})", self.remedy
            ) from error

    def resolver(self, name: str) -> Any:
        """Return a member of the imported runtime's ``OpResolverType``."""
        return importlib.import_module(f"{self.package}.interpreter").OpResolverType[name]

    def version(self) -> str:
        """Return the version of the imported runtime."""
        return str(getattr(importlib.import_module(self.package), "__version__", "unknown"))


ENGINES = {
    engine.option: engine
    for engine in (
        Engine(
            "litert", "LiteRT", "ai_edge_litert",
            Wheels("litert", (3, 14), ("linux x86_64", "linux aarch64", "darwin arm64", "win32 amd64"), (2, 27)),
            verifies=True,
        ),
        Engine(
            "tflite-runtime", "tflite-runtime", "tflite_runtime",
            Wheels("tflite-runtime", (3, 11), ("linux x86_64", "linux aarch64", "linux armv7l"), (2, 17)),
            verifies=False,
        ),
    )
}  # fmt: skip


#: Whose interpreters are taken, though none is made: TensorFlow's is the same class, in a package of 600 MB.
_OF_OTHERS = (Engine("tensorflow", "TensorFlow", "tensorflow", ENGINES["litert"].wheels, verifies=True),)


def check_option(option: object) -> None:
    """Refuse an ``engine=`` that does not exist, or whose package is not installed."""
    if option is None:
        return
    if not isinstance(option, str) or option not in ENGINES:
        raise OptionError(
            f"engine is {option!r:.60}{suggestion(str(option), ENGINES)}; wanted {' or '.join(map(repr, ENGINES))}"
        )
    engine = ENGINES[option]
    if not engine.installed():
        raise BackendNotAvailableError(f"{engine.title} is not installed", engine.remedy)


def pick(option: str | None) -> Engine:
    """Return the engine to use: the named one, else the first that works here."""
    check_option(option)
    if option is not None:
        engine = ENGINES[option]
        engine.interpreter_class()
        return engine
    for engine in ENGINES.values():
        # one that verifies shows with the model itself whether it works: no need to try another one first
        if _probe(engine, tried=not engine.verifies).available:
            return engine
    state = availability()
    raise BackendNotAvailableError(f"no TFLite interpreter runs here: {state.reason}", state.remedy)


def engine_of(interpreter: object) -> Engine | None:
    """Return the engine whose Interpreter this object is, or None."""
    for kind in type(interpreter).__mro__:
        for engine in (*ENGINES.values(), *_OF_OTHERS):
            if kind.__name__ == "Interpreter" and kind.__module__.partition(".")[0] == engine.package:
                return engine
    return None


def libraries_of(interpreter: Any) -> list[Any]:
    """Return the loaded library (of `ctypes`) of each delegate that an interpreter was made with.

    The engines' ``load_delegate`` keeps it; of a delegate that came another way there is None.
    """
    return [getattr(delegate, "_library", None) for delegate in getattr(interpreter, "_delegates", None) or ()]


def availability(option: str | None = None, *, tried: bool = True) -> Availability:
    """Say which engine, or whether the named one, can build and run a model here, established by doing it.

    `tried` is False where a model that is to be loaded shows it; an engine that does not verify files is always tried.
    """
    asked = [engine for engine in ENGINES.values() if option in (None, engine.option)]
    states = []
    for engine in asked:
        states.append(_probe(engine, tried=tried))
        if states[-1].available and not states[-1].remedy:  # in every data type
            break
    for state in states:
        if state.available:  # the one that a load takes, whatever the others are
            right = [e.option for e, s in zip(asked, states, strict=False) if s.available and not s.remedy]
            if state.remedy and right:
                return replace(state, remedy=f"{state.remedy}; engine={right[0]!r} computes all rightly here")
            return state
    fitting = (state for engine, state in zip(asked, states, strict=True) if not engine.wheels.missing())
    return Availability(False, reason="; ".join(s.reason for s in states), remedy=next(fitting, states[0]).remedy)


def _probe(engine: Engine, *, tried: bool = True) -> Availability:
    """Let an engine run the project's own models, and compare the answers."""

    def version() -> str:
        engine.interpreter_class()
        return engine.version()

    def compute() -> str | Mapping[str, Sequence[str]]:
        return run_known_answers(b"", engine.option) if engine.verifies else _try_in_child(engine)

    # one that may take the process down is imported once it has proved itself
    return try_runtime(
        engine.title, engine.package, engine.remedy, version, compute if tried or not engine.verifies else None
    )


def _try_in_child(engine: Engine) -> str | Mapping[str, Sequence[str]]:
    """Let an engine that may take the process down prove itself in a child; return what is wrong with it."""
    spec = importlib.util.find_spec(engine.package)
    versions = (
        f"{our_version} {spec and spec.origin} {_stamp(spec)} numpy {np.__version__} python {platform.python_version()}"
    )
    try:
        tried = verdict(
            "engines", versions, f"{__name__}:run_known_answers", lambda: b"", _PROBE_TIMEOUT,
            key="digits", option=engine.option,
        )  # fmt: skip
    except ChildError as error:
        if not error.impossible:
            return str(error)
        reason = f"{engine.title} does not verify files and could crash this program, and {error}"
        raise BackendNotAvailableError(reason, ENGINES["litert"].remedy) from error
    return tried.crash or dict(tried.wrong or {})


def _stamp(spec: Any) -> float:
    return Path(spec.origin).stat().st_mtime if spec is not None and spec.origin else 0.0


def run_known_answers(_: bytes, option: str) -> dict[str, tuple[str, str]]:
    """Run the project's digit models; return what is wrong by data type, as `try_digits` does."""
    engine = ENGINES[option]
    interpreter_class = engine.interpreter_class()

    def run(path: Path, pixels: Array, **settings: Any) -> Array:
        with held_back(LINES):
            interpreter = interpreter_class(model_path=str(path), num_threads=1, **settings)
            interpreter.allocate_tensors()
            (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
            interpreter.set_tensor(source["index"], pixels.reshape(source["shape"]))
            interpreter.invoke()
            answer: Array = interpreter.get_tensor(target["index"])
            return answer

    def run_plain(path: Path, pixels: Array) -> Array:
        plain = engine.resolver("BUILTIN_WITHOUT_DEFAULT_DELEGATES")
        return run(path, pixels, experimental_op_resolver_type=plain)

    return try_digits(run, ".tflite", {"load(..., xnnpack=False)": run_plain})
