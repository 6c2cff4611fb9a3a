"""Runs the cases that the onnx package ships, raw and through accelerate: ``python tests/onnx_cases.py``.

Run by test_onnx_cases.py as a child. Prints one line of JSON: how often each outcome occurred, and
what went wrong.
"""

from __future__ import annotations

import collections
import ctypes
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers the dtypes of bfloat16 and the like
import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
from onnx import numpy_helper

import accelerate
from accelerate.calls.conversion import Array

_DATA = Path(onnx.backend.test.__file__).parent / "data"
_THREADS = 1

#: What can become of a case.
SAME = "passes with the same numbers"
REFUSED = "takes or returns a sequence, map or optional: a clear error"
NOT_RAW = "raw onnxruntime does not pass it either"
WRONG = "WRONG"


@dataclass
class Case:
    """One model and what it computes; the values are arrays, or lists and None where they are no tensors."""

    name: str
    model: bytes
    data_sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def node_cases() -> Iterator[Case]:
    """Yield the cases of single operators; newer versions of onnx make them when asked."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in sorted(cases, key=lambda c: str(c.name)):
        if case.model is None:
            yield from _folder_case(Path(str(case.model_dir)), case.rtol, case.atol)
        else:
            sets = [([*map(_value, given)], [*map(_value, wanted)]) for given, wanted in case.data_sets or ()]
            yield Case(case.name, case.model.SerializeToString(), sets, case.rtol, case.atol)


def stored_cases() -> Iterator[Case]:
    """Yield the cases that lie in files."""
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((_DATA / kind).iterdir()):
            if (folder / "model.onnx").is_file():
                yield from _folder_case(folder, 1e-3, 1e-7)
    for path in sorted((_DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        fixed = {tensor.name for tensor in model.graph.initializer}
        shapes = [
            [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in model.graph.input
            if value.name not in fixed
        ]
        # the very input that the stored outputs belong to (onnx.backend.test.runner, generate_dummy_data)
        inputs = [(np.arange(np.prod(s)).reshape(s) / np.prod(s)).astype(np.float32) for s in shapes]
        outputs = [_tensor(p) for p in sorted(path.parent.glob(f"{path.stem}_output_*.pb"))]
        yield Case(path.stem, path.read_bytes(), [(inputs, outputs)], 1e-3, 1e-5)


def _folder_case(folder: Path, rtol: float, atol: float) -> Iterator[Case]:
    content = (folder / "model.onnx").read_bytes()
    graph = onnx.load_from_string(content).graph
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        sides = []
        for kind, values in (("input", graph.input), ("output", graph.output)):
            paths = [data / f"{kind}_{n}.pb" for n in range(len(list(data.glob(f"{kind}_*.pb"))))]
            sides.append([_typed(p, v.type) for p, v in zip(paths, values, strict=False)])
        sets.append((sides[0], sides[1]))
    yield Case(folder.name, content, sets, rtol, atol)


def _typed(path: Path, kind: onnx.TypeProto) -> Any:
    return _tensor(path) if kind.HasField("tensor_type") else None


def _tensor(path: Path) -> Array:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def _value(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if value is None or isinstance(value, list) else np.asarray(value)


# The raw side, which shares no code with the backend


def raw_answers(session: Any, names: Sequence[str], inputs: Sequence[Array]) -> list[Array]:
    """Run a session on tensors of any type."""
    kinds = [entry.type for entry in (*session.get_inputs(), *session.get_outputs())]
    if not any(kind.startswith(("tensor(bfloat", "tensor(float8", "tensor(float4", "tensor(int4", "tensor(uint4",
                                "tensor(int2", "tensor(uint2")) for kind in kinds):  # fmt: skip
        return list(session.run(None, dict(zip(names, inputs, strict=True))))
    feeds = {name: _raw_value(array) for name, array in zip(names, inputs, strict=True)}
    return [_raw_array(value) for value in session.run_with_ort_values(None, feeds)]


def _raw_value(array: Array) -> Any:
    if array.dtype.name in ("str", "object") or array.dtype.isbuiltin == 1:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    tensor = numpy_helper.from_array(array)
    content = np.zeros(array.size * array.dtype.itemsize, np.uint8)
    content[: len(tensor.raw_data)] = np.frombuffer(tensor.raw_data, np.uint8)
    bits = content.view(f"u{array.dtype.itemsize}").reshape(array.shape)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, tensor.data_type)


def _raw_array(value: Any) -> Array:
    number = value.element_type()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    if dtype.isbuiltin == 1 or number == onnx.TensorProto.STRING:
        array: Array = value.numpy()
        return array
    tensor = onnx.TensorProto(data_type=number, dims=value.shape())
    bits = {"4": 4, "2": 2}.get(onnx.TensorProto.DataType.Name(number)[-1], 8 * dtype.itemsize)
    if onnx.TensorProto.DataType.Name(number) in ("FLOAT4E2M1",):
        bits = 4
    elif onnx.TensorProto.DataType.Name(number).startswith(("FLOAT8", "BFLOAT")):
        bits = 8 * dtype.itemsize
    size = -(-int(np.prod(value.shape())) * bits // 8)
    tensor.raw_data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return numpy_helper.to_array(tensor)


# The comparison


def outcome(case: Case) -> tuple[str, str]:
    """Return what became of a case, and details where it is wrong."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _THREADS
    try:
        session = onnxruntime.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return _ours_alone(case, f"{type(error).__name__}: {error}")
    entries = (*session.get_inputs(), *session.get_outputs())
    if not all(entry.type.startswith("tensor(") for entry in entries):
        try:
            accelerate.load(case.model, backend="onnxruntime").close()
        except accelerate.UnsupportedModelError as error:
            return (REFUSED, "") if "only tensors" in str(error) else (WRONG, str(error))
        except Exception as error:
            return WRONG, f"{type(error).__name__}: {error}"
        return WRONG, "loads although it takes or returns no tensors"
    graph = onnx.load_from_string(case.model).graph
    fixed = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in fixed]
    for inputs, expected in case.data_sets:
        feeds = dict(zip(names, inputs, strict=False))
        try:
            raw = raw_answers(session, list(feeds), list(feeds.values()))
            _check(raw, expected, case)
        except Exception as error:
            return _ours_alone(case, f"{type(error).__name__}: {error}")
        try:
            with accelerate.load(case.model, backend="onnxruntime", num_threads=_THREADS) as model:
                ours = list(model.infer(feeds).values())
            for got, want in zip(ours, raw, strict=True):
                _check_same(got, want)
        except Exception as error:
            return WRONG, f"{type(error).__name__}: {error}"
    return SAME, ""


def _check(answers: Sequence[Array], expected: Sequence[Array], case: Case) -> None:
    """Compare with what the case wants, as onnx.backend.test.runner does."""
    for got, want in zip(answers, expected, strict=True):
        assert got.shape == want.shape
        if want.dtype.kind in "OUS":
            np.testing.assert_array_equal(got, want)
            continue
        assert got.dtype == want.dtype
        rtol = max(case.rtol, 2**-6) if want.dtype.name == "bfloat16" else case.rtol
        if want.dtype.isbuiltin != 1:
            got, want = got.astype(np.float32), want.astype(np.float32)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=case.atol)


def _check_same(got: Array, want: Array) -> None:
    """Demand the very same values, NaN included; strings are bytes with us."""
    assert got.shape == want.shape
    if want.dtype.hasobject:
        assert [word.decode() for word in got.ravel()] == list(want.ravel())
        return
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes()


def _ours_alone(case: Case, raw: str) -> tuple[str, str]:
    """Raw onnxruntime fails: ours may answer, or raise an error of its own."""
    try:
        with accelerate.load(case.model, backend="onnxruntime", num_threads=_THREADS) as model:
            for inputs, _ in case.data_sets:
                names = [t.name for t in model.metadata().inputs]
                model.infer(dict(zip(names, inputs, strict=False)))
    except accelerate.AccelerateError:
        pass
    except Exception as error:
        return WRONG, f"{type(error).__name__}: {error} (raw: {raw:.200})"
    return NOT_RAW, raw


def main() -> None:
    """Run every case."""
    cases = [*node_cases(), *stored_cases()]
    counts: collections.Counter[str] = collections.Counter()
    wrong, reasons = {}, {}
    for case in cases:
        kind, details = outcome(case)
        counts[kind] += 1
        if kind == WRONG:
            wrong[case.name] = details[:500]
        elif kind == NOT_RAW:
            reasons[case.name] = details[:200]
    print(json.dumps({"total": len(cases), "counts": counts, "wrong": wrong, "not_raw": reasons}))


if __name__ == "__main__":
    main()
