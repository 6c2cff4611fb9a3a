"""That `plan` accepts what `load` does, and both refuse in the same words: a table of arguments, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ...api import list_devices, load, plan
from ...contract import concrete_shape
from ...errors import AccelerateError
from ...reports import Plan
from .cases import CaseTests

__all__ = ["ArgumentTests"]


@dataclass(frozen=True)
class _Facts:
    """What the arguments are made of: the model's names, its input's shape, its device, and a folder with files."""

    input: str
    shape: tuple[int, ...]
    output: str
    device: str
    kind: str
    folder: Path

    def file(self, content: bytes) -> Path:
        path = self.folder / "given.txt"
        path.write_bytes(content)
        return path


Arguments = Mapping[str, Any]

_TABLE: Mapping[str, Callable[[_Facts], Arguments]] = {
    "none": lambda _: {},
    "device: its id": lambda f: {"device": f.device},
    "device: its kind": lambda f: {"device": f.kind},
    "device: another kind": lambda f: {"device": "npu" if f.kind != "npu" else "tpu"},
    "device: none here": lambda _: {"device": "warp:9"},
    "device: a misspelling": lambda f: {"device": f.device + "x"},
    "device: empty": lambda _: {"device": ""},
    "device: a number": lambda _: {"device": 0},
    "label_path: labels": lambda f: {"label_path": f.file(b"cat\ndog\n")},
    "label_path: as text": lambda f: {"label_path": str(f.file(b"cat\ndog\n"))},
    "label_path: missing": lambda f: {"label_path": f.folder / "nope.txt"},
    "label_path: empty": lambda f: {"label_path": f.file(b"")},
    "label_path: a folder": lambda f: {"label_path": f.folder},
    "label_path: not UTF-8": lambda f: {"label_path": f.file(b"cat\n\xff\xfe\n")},
    "label_path: a number": lambda _: {"label_path": 5},
    "num_threads: 1": lambda _: {"num_threads": 1},
    "num_threads: 2": lambda _: {"num_threads": 2},
    "num_threads: NumPy's": lambda _: {"num_threads": np.int64(2)},
    "num_threads: 0": lambda _: {"num_threads": 0},
    "num_threads: a fraction": lambda _: {"num_threads": 1.5},
    "num_threads: True": lambda _: {"num_threads": True},
    "num_threads: text": lambda _: {"num_threads": "two"},
    "num_threads: too many": lambda _: {"num_threads": 100_000},
    "signature: unknown": lambda _: {"signature": "no such signature"},
    "signature: empty": lambda _: {"signature": ""},
    "signature: a number": lambda _: {"signature": 1},
    "tensor_names: both sides": lambda f: {"tensor_names": {"inputs": {f.input: "a b"}, "outputs": {f.output: "c"}}},
    "tensor_names: none": lambda _: {"tensor_names": {}},
    "tensor_names: an unknown input": lambda _: {"tensor_names": {"inputs": {"no such": "mine"}}},
    "tensor_names: an unknown output": lambda _: {"tensor_names": {"outputs": {"no such": "mine"}}},
    "tensor_names: a third side": lambda f: {"tensor_names": {"input": {f.input: "mine"}}},
    "tensor_names: a number": lambda _: {"tensor_names": 5},
    "tensor_names: to a number": lambda f: {"tensor_names": {"inputs": {f.input: 5}}},
    "shapes: the model's own": lambda f: {"shapes": {f.input: f.shape}},
    "shapes: by number, NumPy's": lambda f: {"shapes": {"0": np.array(f.shape)}},
    "shapes: none": lambda _: {"shapes": {}},
    "shapes: of no input": lambda f: {"shapes": {"no such": f.shape}},
    "shapes: of one input twice": lambda f: {"shapes": {f.input: f.shape, "0": f.shape}},
    "shapes: another rank": lambda f: {"shapes": {f.input: (*f.shape, 2)}},
    "shapes: other sizes": lambda f: {"shapes": {f.input: [n + 1 for n in f.shape]}},
    "shapes: a size below 0": lambda f: {"shapes": {f.input: [-1 for _ in f.shape]}},
    "shapes: a fraction": lambda f: {"shapes": {f.input: [1.5 for _ in f.shape]}},
    "shapes: text": lambda f: {"shapes": {f.input: "1x3x320x320"}},
    "shapes: a number": lambda _: {"shapes": 5},
    "shapes: without a name": lambda f: {"shapes": f.shape},
    "normalization: a pair": lambda _: {"normalization": (127.5, 127.5)},
    "normalization: by name": lambda f: {"normalization": {f.input: (0, 255)}},
    "normalization: of no input": lambda _: {"normalization": {"no such": (0, 255)}},
    "normalization: a number": lambda _: {"normalization": 5},
    "normalization: a std of 0": lambda _: {"normalization": (0, 0)},
    "normalization: a triple": lambda _: {"normalization": (1, 2, 3)},
    "dequantize": lambda _: {"dequantize": True},
    "dequantize: NumPy's": lambda _: {"dequantize": np.True_},
    "dequantize: text": lambda _: {"dequantize": "yes"},
    "strict": lambda _: {"strict": True},
    "strict: a number": lambda _: {"strict": 1},
    "replicas: 2": lambda _: {"replicas": 2},
    "replicas: 2 with a thread each": lambda _: {"replicas": 2, "num_threads": 1},
    "replicas: 0": lambda _: {"replicas": 0},
    "replicas: a fraction": lambda _: {"replicas": 1.5},
    "replicas: too many": lambda _: {"replicas": 10_000},
    "a misspelled option": lambda _: {"num_thread": 1},
    "an unknown option": lambda _: {"no_such_option": 1},
    "backend: unknown": lambda _: {"backend": "no_such_backend"},
    "backend: a number": lambda _: {"backend": 5},
    "backend: an empty list": lambda _: {"backend": []},
    "source: None": lambda _: {"source": None},
    "source: missing": lambda f: {"source": f.folder / "nope.model"},
    "source: empty": lambda f: {"source": f.file(b"")},
    "source: a text": lambda f: {"source": f.file(b"this is no model\n" * 10)},
    "source: a picture": lambda f: {"source": f.file(b"\x89PNG\r\n\x1a\n" + bytes(100))},
    "source: a folder": lambda f: {"source": f.folder},
    "source: a strange URL": lambda _: {"source": "gopher://host/model"},
    "source: a strange object": lambda _: {"source": object()},
}
_OF_AN_OBJECT: Mapping[str, tuple[Arguments, bool]] = {  # with whether it can be had
    "none": ({}, True),
    "dequantize": ({"dequantize": True}, True),
    "device": ({"device": "cpu"}, False),
    "num_threads": ({"num_threads": 2}, False),
    "replicas": ({"replicas": 2}, False),
    "signature": ({"signature": "no such signature"}, False),
    "tensor_names": ({"tensor_names": {"inputs": {"no such": "mine"}}}, False),
    "normalization": ({"normalization": {"no such": (0, 255)}}, False),
    "shapes": ({"shapes": {"no such": (1,)}}, False),
}


class ArgumentTests(CaseTests):
    """`load` is `plan` carried out."""

    #: Options of this backend alone, right and wrong ones, each row of the table with a name.
    more_arguments: ClassVar[Mapping[str, Arguments]] = {}
    #: The rows that `plan` takes though `load` refuses them, each with why only the runtime or the server can know.
    known_when_loaded: ClassVar[Mapping[str, str]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each row."""
        if "row" in metafunc.fixturenames:
            kind = metafunc.cls or type(self)
            rows = {**_TABLE, **{name: _constant(given) for name, given in kind.more_arguments.items()}}
            metafunc.parametrize("row", rows.items(), ids=list(rows))

    def test_plan_and_load_judge_alike(self, opened: Any, row: Any, tmp_path: Path) -> None:
        name, make = row
        model, case = opened("plain")
        metadata = model.metadata()
        chosen = plan(case.source, backend=self.backend, **case.options).chosen
        assert chosen is not None
        first = metadata.inputs[0]
        told = (first.name, concrete_shape(first.shape), metadata.outputs[0].name)
        kind = next(d.kind for d in list_devices() if (d.backend, d.id) == (self.backend, chosen.device))
        asked = {"backend": self.backend, **case.options, **make(_Facts(*told, chosen.device, kind, tmp_path))}
        source = asked.pop("source", case.source)
        if name not in self.known_when_loaded:
            _judge_alike(source, asked)
            return
        assert plan(source, **asked).chosen is not None, (
            f"plan refuses {name!r} by now: known_when_loaded is out of date"
        )
        with pytest.raises(AccelerateError):
            load(source, **asked)

    @pytest.mark.parametrize(("arguments", "fine"), _OF_AN_OBJECT.values(), ids=_OF_AN_OBJECT)
    def test_plan_and_load_judge_an_object_alike(self, arguments: Arguments, fine: bool) -> None:
        case = self.case("existing")
        assert _judge_alike(case.source, {"backend": self.backend, **case.options, **arguments}) is fine


def _constant(given: Arguments) -> Callable[[_Facts], Arguments]:
    return lambda _: given


def _judge_alike(source: Any, arguments: Arguments) -> bool:
    """Ask `plan`, then `load`, and compare their answers, refusals word for word; return whether they take it."""
    planned = _answer(plan, source, arguments)
    loaded = _answer(load, source, arguments)
    if isinstance(planned, Plan) and planned.chosen is not None:
        if isinstance(loaded, AccelerateError):
            raise AssertionError(f"plan takes it ({planned.chosen}), load refuses: {loaded}") from loaded
        with loaded as model:
            assert model.backend == planned.chosen.backend
        return True
    if isinstance(planned, Plan):
        assert isinstance(loaded, AccelerateError), f"plan refuses it, load takes it:\n{planned}"
        said = [(row.reason, row.remedy) for row in planned.skipped]
        assert (loaded.reason, loaded.remedy) in said, f"load says: {loaded}\n{planned}"
        assert all(reason for reason, _ in said)
        return False
    assert isinstance(loaded, AccelerateError), f"plan refuses it, load takes it: {planned}"
    assert type(loaded) is type(planned)
    assert str(loaded) == str(planned)
    return False


def _answer(ask: Callable[..., Any], source: Any, arguments: Arguments) -> Any:
    try:
        return ask(source, **arguments)
    except AccelerateError as error:
        return error
