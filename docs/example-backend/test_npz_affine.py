"""What every backend keeps, tried on this one."""

from __future__ import annotations

import io

import numpy as np

from accelerate.testing import BackendConformance, Case


def affine(*shape: int) -> Case:
    file = io.BytesIO()
    np.savez(file, a=np.float32(2), b=np.float32(-1), shape=np.array(shape))
    return Case(file.getvalue(), lambda x: {"y": np.float32(2) * x["x"] - 1})


class TestNpzAffine(BackendConformance):
    backend = "npz_affine"

    def cases(self) -> dict[str, Case]:
        return {"plain": affine(2, 3), "batched": affine(1, 4), "dynamic": affine(-1, 3), "image": affine(1, 8, 8, 3)}
