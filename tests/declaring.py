"""Distributions that declare backends, as an installation leaves them: a folder to be put on the path."""

from __future__ import annotations

from pathlib import Path

__all__ = ["declare"]


def declare(folder: Path, module: str, **backends: str) -> Path:
    """Write into a folder what declares the classes of a module as backends of these names; return the folder."""
    told = folder / f"{module}-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {module}:{kind}\n" for name, kind in backends.items())
    (told / "entry_points.txt").write_text(f"[accelerate.backends]\n{lines}")
    return folder
