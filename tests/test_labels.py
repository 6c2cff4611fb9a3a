"""Label files: what is read as a label, and what is refused."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
        (b"\n cat \t\n\n\n dog\n   \n", ("", "cat", "", "", "dog")),
        (b"\n\ncat\n", ("", "", "cat")),
        (b"cat, dog,fish\n", ("cat", "dog", "fish")),
        (b"cat,dog,\n", ("cat", "dog")),
        (b"cat, small\ndog, big\n", ("cat, small", "dog, big")),
        (b"stop sign\n", ("stop sign",)),
        ("Katze\nHündin\n犬\n".encode(), ("Katze", "Hündin", "犬")),
        ("a\u2028b\nc\n".encode(), ("a\u2028b", "c")),
        (b"cat\ncat\n", ("cat", "cat")),
        (b"0  person\n1  bicycle\n2  car\n", ("person", "bicycle", "car")),
        (b"0: stop sign\n\n2:cat\n3\tdog\n", ("stop sign", "", "cat", "dog")),
        (b"0,cat\n1,dog\n", ("cat", "dog")),
        (b"0:cat,1:dog", ("cat", "dog")),
        (b"2 cat\n", ("", "", "cat")),
        (b"0 cat\n1\n2 dog\n", ("cat", "", "dog")),
        (b"10 downing street\n2 fast\n", ("10 downing street", "2 fast")),
        (b"1 cat\n1 dog\n", ("1 cat", "1 dog")),
        (b"0 cat\ndog\n", ("0 cat", "dog")),
        (b"0\n1\n2\n", ("0", "1", "2")),
        (b"5 cat\n100001 dog\n", ("5 cat", "100001 dog")),
        ("0 Hund\n\u0661 Katze\n".encode(), ("0 Hund", "\u0661 Katze")),
        (b"3D printer\n4x4\n", ("3D printer", "4x4")),
        (b'["cat", null, "dog", ""]\n', ("cat", "", "dog", "")),
        (b"['cat', 'dog']", ("cat", "dog")),
        (b'{"0": "cat", "2": " dog "}', ("cat", "", "dog")),
        (b"{0: 'cat', 2: 'dog'}", ("cat", "", "dog")),
        (b'{"dog": 1, "cat": 0}', ("cat", "dog")),
        (b'{"0": 7, "1": 8}', ("7", "8")),
        (b'{"nc": 2, "names": {"0": "cat", "1": "dog"}}', ("cat", "dog")),
        (b"# two\nitem {\n id: 1\n name: 'cat'\n}\nitem { name: 'dog', id: 3 }\n", ("cat", "", "dog")),
        (b'item {id: 1 name: "/m/01" display_name: "it\\\'s" keypoints {id: 7 label: "x"}}', ("it's",)),
        (b"item{id:1 name:'b\\303\\251b\\303\\251'}item{id:2 name:'a}b'}", ("b\u00e9b\u00e9", "a}b")),
        (b"item < id: 0 name: 'none' > item < id: 1 name: 'cat' >", ("none", "cat")),
        (
            b'index,mid,display_name\n0,/m/09x0r,Speech\n2,/m/0ytgt,"Child, shouting"\n',
            ("Speech", "", "Child, shouting"),
        ),
        (b"id,name\r\n1,cat\r\n", ("", "cat")),
        (b"<unk>\ncat\n", ("<unk>", "cat")),
        (b'["\\ud83d\\ude00", "\\ud83d"]', ("\U0001f600", "?")),
        (b"item\n{\nid: 1\nname: 'cat'\n}\n", ("cat",)),
        (b"item\nother\n", ("item", "other")),
        (b"Dinosaur: T-Rex\nnames\n", ("Dinosaur: T-Rex", "names")),
        (b"", ()),
        (b"\n\n", ()),
        (b",\n", ()),
    ],
)
def test_reads(data: bytes, labels: tuple[str, ...]) -> None:
    assert read_labels(data, "labels.txt").labels() == labels


@pytest.mark.parametrize(
    ("data", "by_count"),
    [
        # a blank line is an unused class, or nothing
        (b"cat\n\ndog\n\n", {2: ("cat", "dog"), 3: ("cat", "", "dog"), 4: ("cat", "", "dog", "")}),
        (b"\ncat\n", {1: ("cat",), 2: ("", "cat")}),
        # the numbers begin at 0 or at 1
        (b"1 cat\n2 dog\n", {2: ("cat", "dog"), 3: ("", "cat", "dog"), 9: ("", "cat", "dog")}),
        (b'{"1": "cat", "2": "dog"}', {2: ("cat", "dog"), 3: ("", "cat", "dog")}),
        (b"item {id: 1 name: 'cat'}item {id: 2 name: 'dog'}", {2: ("cat", "dog"), 3: ("cat", "dog")}),
        # they are no numbers of classes
        (b"2 to\n4 to\n", {2: ("2 to", "4 to"), 4: ("", "to", "", "to"), 9: ("", "", "to", "", "to")}),
        (b"0 cat\n2 dog\n", {2: ("cat", "", "dog")}),
    ],
)  # fmt: skip
def test_the_number_of_classes_settles_the_reading(data: bytes, by_count: dict[int, tuple[str, ...]]) -> None:
    file = read_labels(data, "labels.txt")
    assert {count: file.labels({count}) for count in by_count} == by_count


_NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(
    lambda name: not set(name) & set("[{<,:#%\"'") and not name[0].isdigit()
)


@example(names={0: "\u00c2\u00a1\\", 1: "b"}, separator=":")  # its UTF-8 could be taken for Latin-1
@given(
    names=st.dictionaries(st.integers(0, 300), _NAMES, min_size=2),
    separator=st.sampled_from(["  ", ": ", ":", "\t", ","]),
)
def test_every_numbered_form_says_the_same(names: dict[int, str], separator: str) -> None:
    wanted = tuple(names.get(index, "") for index in range(max(names) + 1))
    lines = [f"{index}{separator}{names[index]}" for index in sorted(names)]
    forms = ["\n".join(lines), "\r\n\r\n".join(lines), json.dumps(names), str(names), json.dumps(wanted)]
    forms.append("id,name\n" + "".join(f'{index},"{name}"\n' for index, name in names.items()))
    for form in forms:
        assert read_labels(form.encode(), "labels.txt").labels({len(wanted)}) == wanted
    label_map = "\n".join(f"item {{\n  name: {name!r}\n  id: {index + 1}\n}}" for index, name in names.items())
    assert read_labels(label_map.encode(), "labels.txt").labels() == wanted


@given(st.text() | st.text("{}[]<>itemd:,'\"\\\n \t01names#-"))
def test_any_text_is_read_or_refused(text: str) -> None:
    for before in ("", "{", "[", "item {", "<?xml", "names: ["):
        with contextlib.suppress(ModelError):
            labels = read_labels((before + text).encode("utf-8", "surrogatepass"), "labels.txt").labels()
            assert all(label == label.strip() for label in labels)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b'["person",\n"car"', """'["person",'"""),
        (b"[[1], [2]]", "'[[1], [2]]'"),
        (b'\n{"path": "images"}', """'{"path": "images"}'"""),
        (b'{"-1": "cat"}', """'{"-1": "cat"}'"""),
        (b'{"100001": "cat"}', """'{"100001": "cat"}'"""),
        (b"{'a': ().__class__}", "\"{'a': ().__class__}\""),
        (b"[" * 5000, "'[[["),
        (b"item {\n name: 'cat'\n}", "'item {'"),
        (b"item { id: 1 name: 'cat'", "\"item { id: 1 name: 'cat'"),
        (b"item { id: 100001 name: 'cat' }", '"item { id: 100001'),
        (b"<?xml version='1.0'?>\n<a/>", '"<?xml version'),
        (b"<annotation>\n<name>cat</name>\n</annotation>", "'<annotation>'"),
        (b"id,name\n1,cat,2\n", "'id,name'"),
        (b"id,name\nx,cat\n", "'id,name'"),
        (b"cat\0dog\n", r"'cat\x00dog'"),
    ],
)
def test_what_is_evidently_something_else_is_shown(data: bytes, shown: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_labels(data, "labels.txt")
    assert refused.value.reason.startswith("labels.txt: ")
    assert shown in refused.value.reason
    assert "one label a line" in refused.value.remedy


def test_what_is_structured_is_bounded() -> None:
    for start in (b"[", b"item {", b"id,name\n"):
        with pytest.raises(ModelError, match="1 MiB"):
            read_labels(start + b"'cat',\n" * 200_000, "labels.txt")


def test_binary_files_are_called_so() -> None:
    with pytest.raises(ModelError, match=r"it is binary, and begins with b'\\x1c\\x00"):
        read_labels(b"\x1c\0\0\0TFL3\xff\xff", "labels.txt")


YAML = b"# a data set\npath: ../pets\nnc: 3\nnames:\n  0: cat\n  2: no\n"


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (YAML, ("cat", "", "no")),
        (b"nc: 2\nnames: ['cat', 'dog']  # two\n", ("cat", "dog")),
        (b"---\nnames:\n- cat\n- 3.10\n", ("cat", "3.10")),
        (b"a: &a [1]\nnames: [*a]\n", None),
        (b"a: 1\nnames: !!python/object/apply:os.abort []\n", None),
        (b"path: x\nmodel:\n  names: [a]\n", None),
        (b"---\n" + b"[" * 5000, None),
        (b"names: [\n", None),
    ],
)
def test_yaml(data: bytes, labels: tuple[str, ...] | None) -> None:
    pytest.importorskip("yaml", reason="needs the package: PyYAML")
    if labels is not None:
        assert read_labels(data, "data.yaml").labels() == labels
        return
    with pytest.raises(ModelError, match="no names of classes"):
        read_labels(data, "data.yaml")


def test_yaml_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "data.yaml"
    path.write_bytes(YAML)
    with pytest.raises(OptionError, match="it is YAML, which needs PyYAML") as refused:
        load_labels(path)
    assert refused.value.remedy.startswith("pip install PyYAML")


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
    assert len(read_labels(b"a\n" * LABEL_LIMIT, "labels.txt").labels()) == LABEL_LIMIT


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cat\ndog\n")
    assert load_labels(path).labels() == load_labels(str(path)).labels() == ("cat", "dog")


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
    coco = load_labels(models_dir / "coco_labels.txt").labels()
    assert (len(coco), coco[0], coco[11], coco[-1]) == (90, "person", "n/a", "toothbrush")
    imagenet = load_labels(models_dir / "imagenet_labels.txt").labels()
    assert (len(imagenet), imagenet[0], imagenet[283]) == (1001, "background", "tiger cat")
