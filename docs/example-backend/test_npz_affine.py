"""What every backend keeps, tried on this one."""

from __future__ import annotations

import io

import numpy as np
import pytest

from accelerate import ModelError, load, plan
from accelerate.testing import BackendConformance, Case


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def affine(*shape: int) -> Case:
    content = npz(a=np.float32(2), b=np.float32(-1), shape=np.array(shape))
    return Case(content, lambda x: {"y": np.float32(2) * x["x"] - 1})


class TestNpzAffine(BackendConformance):
    backend = "npz_affine"

    def cases(self) -> dict[str, Case]:
        return {"plain": affine(2, 3), "batched": affine(1, 4), "dynamic": affine(-1, 3), "image": affine(1, 8, 8, 3)}


def test_an_npz_file_of_another_kind_is_refused() -> None:
    for arrays, lack in (({"W": np.eye(3), "b": np.ones(3)}, "no array 'a'"), ({"a": 1, "b": 2, "shape": 3}, "kind")):
        assert plan(npz(**arrays), backend="npz_affine").chosen is None
        with pytest.raises(ModelError, match=lack):
            load(npz(**arrays), backend="npz_affine")
