"""Label files: what is read as a label, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerate.errors import ModelError, OptionError
from accelerate.formats.labels import LABEL_LIMIT, SIZE_LIMIT, load_labels, read_labels
from accelerate.metadata import Metadata


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\ndog", ("cat", "dog")),
        (b"cat\r\ndog\r\n", ("cat", "dog")),
        (b"cat\rdog\r", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\ndog\n", ("cat", "dog")),
        (b"\n cat \t\n\n\n dog\n   \n", ("cat", "dog")),
        (b"cat, dog,fish\n", ("cat", "dog", "fish")),
        (b"cat,dog,\n", ("cat", "dog")),
        (b"cat, small\ndog, big\n", ("cat, small", "dog, big")),
        (b"stop sign\n", ("stop sign",)),
        ("Katze\nHündin\n犬\n".encode(), ("Katze", "Hündin", "犬")),
        ("a\u2028b\nc\n".encode(), ("a\u2028b", "c")),
        (b"cat\ncat\n", ("cat", "cat")),
        (b"", ()),
        (b"\n\n", ()),
        (b",\n", ()),
    ],
)
def test_reads(data: bytes, labels: tuple[str, ...]) -> None:
    assert read_labels(data, "labels.txt") == labels


def test_not_utf8_names_the_byte_of_the_file() -> None:
    # Far behind the start, so that a decoder that works in pieces counts from elsewhere.
    data = b"\xef\xbb\xbf" + b"a label\n" * 5000 + b"M\xfcnchen\n"
    with pytest.raises(ModelError, match=r"^labels\.txt: byte 40004 \(line 5001\) is not UTF-8: 0xfc"):
        read_labels(data, "labels.txt")


def test_utf16_is_not_utf8() -> None:
    with pytest.raises(ModelError, match=r"byte 0 .* is not UTF-8"):
        read_labels("cat\ndog\n".encode("utf-16"), "labels.txt")


@pytest.mark.parametrize("data", [b"a\n" * (LABEL_LIMIT + 1), b"\n" * 10_000_000, b"a," * (LABEL_LIMIT + 1)])
def test_too_many_labels(data: bytes) -> None:
    with pytest.raises(ModelError, match="more than 500000"):
        read_labels(data, "labels.txt")


def test_as_many_labels_as_allowed() -> None:
    assert len(read_labels(b"a\n" * LABEL_LIMIT, "labels.txt")) == LABEL_LIMIT


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cat\ndog\n")
    assert load_labels(path) == load_labels(str(path)) == ("cat", "dog")


def test_load_says_which_option_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"label_path='.*missing\.txt'.*No such file.*check the path"):
        load_labels(tmp_path / "missing.txt")
    with pytest.raises(OptionError, match=r"label_path=.*directory"):
        load_labels(tmp_path)
    with pytest.raises(OptionError, match=r"label_path=.*null byte"):
        load_labels("a\0b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\n", "byte 0 .* is not UTF-8"),
        (b"\n \n", "has no labels"),
        (b"\n" * (LABEL_LIMIT + 1), "more than 500000 entries"),
        (b"\n" * (SIZE_LIMIT + 1), "may have 16 MiB"),
    ],
)
def test_load_refuses(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(OptionError, match=rf"label_path=.*{message}"):
        load_labels(path)


def test_label_for_a_class() -> None:
    metadata = Metadata("", "", "", (), (), ("cat", "dog"))
    assert [metadata.label(index) for index in (0, 1, 2, -1)] == ["cat", "dog", "2", "-1"]


def test_real_label_files(models_dir: Path) -> None:
    coco = load_labels(models_dir / "coco_labels.txt")
    assert (len(coco), coco[0], coco[11], coco[-1]) == (90, "person", "n/a", "toothbrush")
    imagenet = load_labels(models_dir / "imagenet_labels.txt")
    assert (len(imagenet), imagenet[0], imagenet[283]) == (1001, "background", "tiger cat")
