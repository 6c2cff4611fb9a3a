"""The protocol's words for the types of elements."""

from __future__ import annotations

__all__ = ["DTYPES"]

#: Datatypes of the Open Inference Protocol by the names that NumPy and this package use.
DTYPES = {
    "BOOL": "bool", "BYTES": "string", "BF16": "bfloat16", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    **{f"{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}  # fmt: skip
