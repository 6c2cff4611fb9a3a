"""A small, correct backend for the tests of the conformance suite, with a format of its own; see `toy_mutations`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from accelerate.contract import (
    Array,
    Availability,
    Backend,
    Binding,
    CopyingBinding,
    Device,
    LoadOptions,
    Match,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    check_settled,
    default_threads,
    dtype_of,
)
from accelerate.errors import ModelError, OptionError
from accelerate.metadata import Metadata, Quantization, TensorInfo

if TYPE_CHECKING:
    from toy_runtime import Program

MAGIC = b"TOY1"


def write(signatures: Mapping[str, Mapping[str, Any]], labels: Sequence[str] = ()) -> bytes:
    """Return a file of the toy format."""
    return MAGIC + json.dumps({"signatures": signatures, "labels": labels}).encode()


def read(source: Source, signature: str | None) -> Metadata:
    """Return what a file says, without the runtime."""
    try:
        told = json.loads(source.read()[4:])
        signatures = told["signatures"]
        if signature is not None and signature not in signatures:
            raise OptionError(f"{source} has no signature {signature!r}; it has {', '.join(signatures)}")
        chosen = signatures[signature or next(iter(signatures))]
        return Metadata("", "", "", *_sides(chosen["inputs"], chosen["outputs"]), labels=tuple(told["labels"]))
    except (LookupError, TypeError, AttributeError, StopIteration, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise ModelError(f"{source} is damaged: {error}", "fetch it again") from error


def _sides(inputs: Any, outputs: Any) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    return tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs))


def _tensor(told: Mapping[str, Any]) -> TensorInfo:
    levels = Quantization((told["scale"],), (told["zero"],)) if "scale" in told else None
    info = TensorInfo(
        told["name"],
        (f"{told['name']}:0",),
        data_type=told["dtype"],
        shape=tuple(told["shape"]),
        quantization=levels,
        extra={"optional": True} if told.get("optional") else {},
    )
    dtype_of(info)
    return info


class ToyBinding(Binding):
    """Arrays that the program reads and writes itself."""

    def __init__(self, owner: ToyModel, program: Program, given: dict[str, Array], results: dict[str, Array]) -> None:
        self.program, self.results = program, list(results.values())
        self.given: list[Any] = [given.get(t.name) for t in owner.inputs]
        super().__init__(owner, given, results, zero_copy=True)

    def step(self) -> None:
        self.program.run(self.given, threading.Event(), self.results)

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None]]:
        stop = threading.Event()

        def run() -> None:
            self.program.run(self.given, stop, self.results)

        return run, stop.set


class ToyModel(RuntimeModel):
    """A program of the toy runtime."""

    def __init__(self, program: Program, told: Metadata, device: str, options: LoadOptions) -> None:
        import toy_runtime

        self.program: Program | None = program
        self.told = told
        details = {"num_threads": program.threads}
        info = RuntimeInfo("Toy", toy_runtime.VERSION, device, details=details)
        super().__init__("toy", told.inputs, told.outputs, info, options)

    def execute(self, feeds: list[Array]) -> list[Array]:
        return self.call(feeds, threading.Event())

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None]]:
        stop = threading.Event()
        return lambda: self.call(feeds, stop), stop.set

    def call(self, feeds: list[Array], stop: threading.Event) -> list[Array]:
        program = self.program
        if program is None:
            self.check_open()
        assert program is not None
        return [result.copy() for result in program.run(feeds, stop)]

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        given = allocate(self.inputs, self.input_index, shapes)
        fixed = all(min(t.shape, default=1) >= 0 and t.data_type != "string" for t in self.outputs)
        if not fixed or self.program is None:
            return CopyingBinding(self, self.run, given, self.outputs)
        results = {t.name: np.zeros(t.shape, dtype_of(t)) for t in self.outputs}
        return ToyBinding(self, self.program, given, results)

    def describe(self) -> Metadata:
        return self.told

    def release(self) -> None:
        self.program = None


class Toy(Backend):
    """See the module."""

    name = "toy"
    description = "programs of the toy runtime"
    extra = "toy"
    options = ("speed",)
    formats: ClassVar[Mapping[str, str]] = {"toy": "a toy program"}

    def kinds(self) -> Sequence[str]:
        return ("npu",)

    def availability(self) -> Availability:
        import toy_runtime

        return Availability(True, f"Toy {toy_runtime.VERSION}", "it is a part of these tests")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        ready = [Device("toy", f"toy:{n}", "npu", f"toy {n}") for n in range(2)]
        return [*ready, Device("toy", "toy:2", "npu", "toy 2", False, "toy 2 is broken", "mend it")]

    @classmethod
    def sniff(cls, head: bytes) -> str:
        return "toy" if head.startswith(MAGIC) else ""

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        if source.format == "object":
            return Metadata("", "", "", *_sides(source.object.inputs, source.object.outputs))
        return read(source, signature)

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format == "object" and type(source.object).__module__ == "toy_runtime":
            check_settled(options, "program")
            if options.signature is not None:
                raise OptionError("signature is settled by the existing program", "leave it out")
            return Match(True, "an existing program")
        if source.format != "toy":
            return Match(False, f"{source} is {source.likeness}, not a toy program", "use the backend for its format")
        check_speed(options)
        read(source, options.signature)
        return Match(True, "a toy program")

    def load(self, source: Source, options: LoadOptions) -> ToyModel:
        from toy_runtime import Program

        device = options.device or "toy:0"
        if source.format == "object":
            told = Metadata("", "", "", *_sides(source.object.inputs, source.object.outputs))
            return ToyModel(source.object, told, device, options)
        check_speed(options)
        program = Program(source.read(), options.signature, default_threads(options))
        return ToyModel(program, read(source, options.signature), device, options)


def check_speed(options: LoadOptions) -> None:
    speed = options.backend_options.get("speed", "fast")
    if speed not in ("fast", "slow"):
        raise OptionError(f"speed is {speed!r}; wanted 'fast' or 'slow'")


if "TOY_MUTATION" in os.environ:
    import toy_mutations

    toy_mutations.MUTATIONS[os.environ["TOY_MUTATION"]].plant(setattr)
