"""What an import, a load and the first answer cost more than the raw runtime's."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import accelerate

from .fresh import Program, measure_fresh, run_python
from .models import DIGITS, MOBILENET_V2, present
from .sidebyside import Estimate, measure
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.2f} ms"
_RUNS = 40
_IMPORT, _FRESH, _WHOLE = 15.0, 5.0, 20.0
_MEMORY, _MEGABYTES = 3.0, "{:.2f} MB"

_RAW = """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=path, num_threads=1)
interpreter.allocate_tensors()
(source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
interpreter.set_tensor(source["index"], frame)
interpreter.invoke()
answer = int(interpreter.get_tensor(target["index"]).argmax())
"""
_OURS = """
import accelerate
model = accelerate.load(path, backend={backend!r})
(scores,) = model.infer(frame).values()
answer = int(scores.argmax())
"""


def rows() -> Iterator[Row]:
    """Measure the import, the load of two models in this process and in fresh ones, and a whole process with auto."""
    yield _import()
    for path, target in ((MOBILENET_V2, 3.0), (DIGITS, None)):
        what = f"load + first answer over raw, {path.stem}"
        if present(path):
            yield _here(f"{what}, running program", path, target)
            yield from _fresh(what, path, None if target is None else _FRESH)
        else:
            yield missing(what, target, _FORM, path)
    if present(MOBILENET_V2):
        yield from _whole(MOBILENET_V2)


def _import() -> Row:
    timings = measure_fresh(
        {
            "numpy": Program("import numpy"),
            "both": Program("import accelerate"),
            # the same difference without the spread of NumPy's own import, which takes many times as long
            "beyond": Program("import accelerate", before="import numpy"),
        },
        runs=_RUNS,
    )
    more, milliseconds = timings.difference("both", "numpy"), 1e3 * timings.median("beyond")
    note = f"as a difference of two imports {_interval(more)}; numpy {1e3 * timings.median('numpy'):.1f} ms"
    return Row("import accelerate, once numpy is imported, fresh processes", milliseconds, _IMPORT, _FORM, note)


def _here(what: str, path: Path, target: float | None) -> Row:
    frame = _frame(path)

    def raw() -> Any:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(source["index"], frame)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    def ours() -> Any:
        with accelerate.load(path, backend="tflite_cpu") as model:
            return model.infer(frame)

    timings = measure({"raw": raw, "ours": ours}, seconds=5)
    more = timings.difference("ours", "raw")
    return _row(what, more, target, f"{_interval(more)}; raw {1e3 * timings.median('raw'):.2f} ms")


def _fresh(what: str, path: Path, target: float | None) -> Iterator[Row]:
    before = f"import numpy as np\npath = {str(path)!r}\nframe = np.zeros({_frame(path).shape}, np.uint8)"
    timings = measure_fresh(
        {
            "raw": Program(_RAW, before),
            "load": Program(_OURS.format(backend="tflite_cpu"), f"{before}\nimport accelerate"),
            "all": Program(_OURS.format(backend="tflite_cpu"), before),
        },
        runs=_RUNS,
    )
    raw = f"raw with its import {1e3 * timings.median('raw'):.2f} ms"
    load, everything = timings.difference("load", "raw"), timings.difference("all", "raw")
    yield _row(f"{what}, fresh processes", load, target, f"{_interval(load)}; {raw}")
    # the sum of both budgets, that of the import and that of the load
    both = None if target is None else target + _IMPORT
    yield _row(f"{what}, fresh processes, import included", everything, both, f"{_interval(everything)}; {raw}")


def _whole(path: Path) -> Iterator[Row]:
    """Measure a program that says nothing of its backend, from its first line to its first answer."""
    begin = f"import numpy as np\npath = {str(path)!r}\nframe = np.zeros({_frame(path).shape}, np.uint8)"
    programs = {"raw": f"{begin}{_RAW}", "auto": f"{begin}{_OURS.format(backend='auto')}"}
    timings = measure_fresh({name: Program(program) for name, program in programs.items()}, runs=_RUNS)
    more = timings.difference("auto", "raw")
    note = f"{_interval(more)}; raw {1e3 * timings.median('raw'):.1f} ms"
    yield _row(f"whole process to the first answer over raw, {path.stem}, auto", more, _WHOLE, note)
    pages = "\nprint(open('/proc/self/statm').read().split()[1])"
    held = {
        name: float(np.median([int(run_python(program + pages)) for _ in range(5)])) * PAGESIZE / 1e6
        for name, program in programs.items()
    }
    note = f"raw {held['raw']:.1f} MB"
    what = f"resident memory at the first answer over raw, {path.stem}, auto"
    yield Row(what, held["auto"] - held["raw"], _MEMORY, _MEGABYTES, note)


def _frame(path: Path) -> Any:
    (source,) = Interpreter(model_path=str(path)).get_input_details()
    return np.zeros(source["shape"], source["dtype"])


def _row(what: str, seconds: Estimate, target: float | None, note: str) -> Row:
    return Row(what, 1e3 * seconds.value, target, _FORM, note)


def _interval(seconds: Estimate) -> str:
    return f"{1e3 * seconds.low:.2f} .. {1e3 * seconds.high:.2f}"


if __name__ == "__main__":
    show(rows())
