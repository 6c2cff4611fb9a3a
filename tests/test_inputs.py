"""A user's own inputs: which files of a folder are taken, damaged ones, and tables of labels in every form."""

from __future__ import annotations

import logging
import os
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from accelerate.errors import OptionError
from accelerate.inputs.files import is_picture, read_arrays
from accelerate.inputs.folder import InputFolder, find_inputs, read_inputs
from accelerate.inputs.labels import ClassNames
from accelerate.metadata import Metadata, TensorInfo

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INFO = TensorInfo("x", shape=(-1,))


def write_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names_in(found: InputFolder) -> list[str]:
    return [one.name for one in found.files]


# The folder


def test_of_many_files_a_spread_of_them_is_taken(tmp_path: Path) -> None:
    for word in ("one", "two", "three"):
        (tmp_path / word).mkdir()
        for n in range(400):
            (tmp_path / word / f"{n:03}.png").touch()
    found = find_inputs(tmp_path, 30)
    assert found == find_inputs(tmp_path, 30)
    assert (len(found.files), found.found) == (30, 1200)
    assert {word: sum(one.label == word for one in found.files) for word in ("one", "two", "three")} == dict.fromkeys(
        ("one", "two", "three"), 10
    )
    assert found.notes == (f"30 of the 1,200 files in {tmp_path} are taken, evenly spread by their names",)


@pytest.mark.slow
def test_100000_files(tmp_path: Path) -> None:
    for n in range(100_000):
        os.close(os.open(tmp_path / f"{n:06}.png", os.O_CREAT | os.O_WRONLY))
    assert len(find_inputs(tmp_path, 200).files) == 200


def test_links_that_lead_back_and_hidden_folders(tmp_path: Path) -> None:
    write_files(tmp_path, "a.png", "b/c.png", ".hidden/x.png", "._a.png")
    (tmp_path / "back").symlink_to(tmp_path)
    assert names_in(find_inputs(tmp_path, 10)) == ["a.png", "b/c.png"]


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    write_files(tmp_path, "a.png", "folder.png/b.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "itself.png").symlink_to("itself.png")
    (tmp_path / "linked.png").symlink_to("a.png")
    found = find_inputs(tmp_path, 10)
    assert names_in(found) == ["a.png", "folder.png/b.png", "linked.png"]
    (note,) = found.notes
    assert note.endswith("is left out: itself.png, nowhere.png, pipe.png")
    with pytest.raises(OptionError, match="Not a directory"):
        find_inputs(tmp_path / "pipe.png", 10)
    with pytest.raises(OptionError, match=r"pipe\.png is no file, but a pipe"):
        is_picture(tmp_path / "pipe.png")
    with pytest.raises(OptionError, match=r"is a folder; give its files: .*/folder.png/\*"):
        is_picture(tmp_path / "folder.png")
    for name in ("a.png", "folder.png/b.png", "linked.png"):
        (tmp_path / name).unlink()
    with pytest.raises(OptionError, match=r"no files in .*; what is no file .*pipe.png"):
        find_inputs(tmp_path, 10)


def test_a_sub_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As root, for whom every folder of a disk is open, but not one whose path is too long."""
    write_files(tmp_path, "a.png", "cat/b.png")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(17):  # past the 4096 bytes of a path
            os.mkdir("d" * 250, dir_fd=here)
            inner = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    found = find_inputs(tmp_path, 10)
    assert names_in(found) == ["a.png", "cat/b.png"]
    (note,) = found.notes
    assert note.startswith("sub-folders that cannot be read are left out: ddd")
    assert "(File name too long)" in note
    shutil.rmtree(tmp_path / ("d" * 250))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_sub_folder_that_is_closed_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, "a.png", "lost+found/b.png")
    (tmp_path / "lost+found").chmod(0)
    try:
        assert find_inputs(tmp_path, 10).notes[0].endswith("left out: lost+found (Permission denied)")
    finally:
        (tmp_path / "lost+found").chmod(0o700)


# Arrays


def write_npz(path: Path, flags: int = 0, method: int = 0) -> Path:
    """Write an .npz file whose entry says that it is encrypted, or compressed in some way."""
    np.savez(path, x=np.zeros(3, np.float32))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # general purpose flags, then the method
        at = data.index(mark) + place
        data[at] |= flags
        data[at + 2] = method
    path.write_bytes(data)
    return path


def write_lie(path: Path) -> Path:
    """Write an .npy file whose heading promises 4 PB."""
    np.save(path, np.zeros(100, np.uint8))
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    path.write_bytes(path.read_bytes()[:10] + head.ljust(117) + b"\n" + bytes(100))
    return path


def test_damaged_arrays_are_errors_of_their_files(tmp_path: Path) -> None:
    cut = tmp_path / "cut.npy"
    np.save(cut, np.zeros(100))
    cut.write_bytes(cut.read_bytes()[:200])
    zipped = tmp_path / "zip.npz"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", cut.read_bytes())
    for path, told in (
        (write_lie(tmp_path / "lie.npy"), "Unable to allocate"),
        (write_npz(tmp_path / "encrypted.npz", flags=1), "encrypted"),
        (write_npz(tmp_path / "method.npz", method=99), "compression"),
        (cut, ""),
        (zipped, ""),
    ):
        assert not is_picture(path)
        with pytest.raises(OptionError, match=rf"the arrays in .*{path.name} cannot be read: .*{told}"):
            read_arrays(path, [INFO])


# Tables


def write_table(folder: Path, text: str) -> Path:
    write_files(folder, "00.png", "01.png", "02.png")
    (folder / "labels.csv").write_text(text)
    return folder


def refused(folder: Path) -> str:
    """Return why a folder's labels cannot be read; its files are found all the same."""
    found = find_inputs(folder, 10)
    assert names_in(found) == ["00.png", "01.png", "02.png"]
    assert found.labelled_by == ""
    assert {one.label for one in found.files} == {None}
    return str(found.refusal)


@pytest.mark.parametrize(
    "text",
    [
        "00.png,seven\n01.png,two\n02.png,nine\n",
        "file,label\n00.png,Seven\n01.png,TWO\n02.png,nine\n",
        "label;filename\n7;./00.png\n2;01.png\n9;02.png\n",
        "\ufeff00.png\tseven\r\n01.png\ttwo\r\n\r\n02.png\tnine\r\n",
        "picture of,what it is\n00.png,seven\n01.png,two\n02.png,nine\n",
    ],
)
def test_tables_of_labels(tmp_path: Path, text: str) -> None:
    found = find_inputs(write_table(tmp_path, text), 10)
    assert found.labelled_by == "labels.csv"
    names = ClassNames(WORDS, 10)
    assert [names.find(str(one.label)) for one in found.files] == [{7}, {2}, {9}]


def test_names_of_classes() -> None:
    names = ClassNames(("background", "tench, Tinca tinca", "", "crane", "crane", "Stop-Sign", "tinca tinca"), 10)
    assert names.find("Tench") == {1}
    assert names.find("tinca_tinca") == {6}
    assert names.find("crane") == {3, 4}
    assert names.find("stop sign") == {5}
    assert names.find("2") == {2}
    assert names.find("0007") == {7}
    assert (
        names.find("9" * 5000)
        == names.find("10")
        == names.find("")
        == names.find("²")
        == names.find("dog")
        == frozenset()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("00.png\n01.png\n", "line 1 is '00.png'; a path and a label a line"),
        ("00.png,seven\n01.png\n", "line 2 is '01.png'"),
        ("00.png,seven\n01.png,\n", "line 2"),
        ("00.png,seven,0,1\n", "line 1"),
        ("00.png,seven\n00.png,two\n", "line 2: 00.png is 'two', and 'seven' before"),
        ("x.png,seven\ny.png,two\n", "names 2 files, none of which is in"),
        ('00.png,"seven\n', "is no table"),
    ],
)
def test_tables_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(write_table(tmp_path, text))


def test_tables_that_lack_some(tmp_path: Path) -> None:
    found = find_inputs(write_table(tmp_path, "00.png,seven\nx.png,two\n"), 10)
    assert found.notes == ()
    assert found.label_notes == (
        "labels.csv names 1 files that are not there: x.png",
        "labels.csv does not say what 2 of the files show: 01.png, 02.png",
    )
    (tmp_path / "more.csv").write_text("00.png,seven\n")
    assert refused(tmp_path).startswith("there are 2 tables")
    (tmp_path / "more.csv").rename(tmp_path / "._labels.csv")  # macOS leaves such on sticks
    assert find_inputs(tmp_path, 10).labelled_by == "labels.csv"
    (tmp_path / "labels.csv").write_bytes(b"00.png,\xff\xfe\n")
    assert "no text in UTF-8" in refused(tmp_path)


def test_headings_of_tables(tmp_path: Path) -> None:
    found = find_inputs(write_table(tmp_path, "gone.png,cat\n00.png,cat\n01.png,dog\n02.png,dog\n"), 10)
    assert found.label_notes == ("labels.csv names 1 files that are not there: gone.png",)
    found = find_inputs(write_table(tmp_path, "gone,cat\n00.png,cat\n01.png,dog\n02.png,dog\n"), 10)
    assert found.label_notes == ("line 1 of labels.csv names no file and is taken for its heading: 'gone,cat'",)
    assert find_inputs(write_table(tmp_path, "path,class\n00.png,a\n01.png,a\n02.png,a\n"), 10).label_notes == ()


def test_letters_are_the_same_however_they_are_composed(tmp_path: Path) -> None:
    short, long = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert short != long
    assert ClassNames([short], 1).find(long.upper()) == ClassNames([long], 1).find(short) == {0}
    for there, told in ((short, long), (long, short)):
        folder = write_files(tmp_path / there, f"{there}.png")
        (folder / "labels.csv").write_text(f"{told}.png,x\n")
        (one,) = find_inputs(folder, 10).files
        assert (one.name, one.label) == (f"{there}.png", "x")
    both = write_files(tmp_path / "both", f"{short}.png", f"{long}.png")
    (both / "labels.csv").write_text(f"{short}.png,1\n{long}.png,2\n")
    assert {one.name: one.label for one in find_inputs(both, 10).files} == {f"{short}.png": "1", f"{long}.png": "2"}


# What `tune` reads


def test_labels_that_cannot_be_read_are_nothing_to_tune(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(2):
        np.save(tmp_path / f"{n}.npy", np.zeros(3, np.float32))
    (tmp_path / "boxes.csv").write_text("file,class,xmin\n0.npy,cat,1\n0.npy,dog,2\n")
    os.mkfifo(tmp_path / "pipe.npy")
    with caplog.at_level(logging.WARNING, "accelerate"):
        read = read_inputs(tmp_path, Metadata("m", "", "", (INFO,), ()))
    assert [Path(name).name for name, _ in read] == ["0.npy", "1.npy"]
    assert [record.getMessage() for record in caplog.records] == [
        "what is no file (a pipe, a link that leads nowhere) is left out: pipe.npy"
    ]
