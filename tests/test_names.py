"""Canonical names, aliases and ordinals."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerate import OptionError, TensorError, TensorInfo
from accelerate.calls.names import NameIndex, Outputs, check_tensor_names, name_tensors, rename, suggestion

some_names = st.lists(st.lists(st.sampled_from(["", "x", "x:1", "y", "serving_default_x:0"]), min_size=1, max_size=3))


@given(some_names)
def test_canonical_names_are_unique_and_no_alias_of_themselves(candidates: list[list[str]]) -> None:
    named = name_tensors(candidates)
    names = [name for name, _ in named]
    assert len(set(names)) == len(candidates)
    for (name, aliases), given_names in zip(named, candidates, strict=True):
        assert name not in aliases
        assert {name, *aliases} >= set(given_names) - {""}


@pytest.mark.parametrize(
    ("candidates", "names"),
    [
        ([["image", "input_1"], ["mask"]], ["image", "mask"]),
        ([["", "sig", "raw"]], ["sig"]),
        ([["x"], ["x"], ["x"]], ["x", "x:1", "x:2"]),
        ([["x"], ["x:1"], ["x"]], ["x", "x:1", "x:2"]),
        ([[""]], ["tensor"]),
    ],
)
def test_the_preferred_name_wins_and_duplicates_are_numbered(candidates: list[list[str]], names: list[str]) -> None:
    assert [name for name, _ in name_tensors(candidates)] == names


def index(*tensors: tuple[str, tuple[str, ...]]) -> NameIndex:
    return NameIndex([TensorInfo(name, aliases) for name, aliases in tensors], "input")


def test_canonical_wins_over_alias() -> None:
    crossed = index(("a", ("b",)), ("b", ("a",)))
    assert (crossed.find("a"), crossed.find("b")) == (0, 1)


def test_a_shared_alias_names_both_tensors() -> None:
    with pytest.raises(TensorError, match="'image' is an alias of both 'left' and 'right'"):
        index(("left", ("image",)), ("right", ("image",))).find("image")


def test_ordinals_count_only_where_no_tensor_has_that_name() -> None:
    assert index(("x", ()), ("y", ())).find("1") == 1
    assert index(("1", ()), ("x", ())).find("1") == 0
    assert index(("x", ()), ("y", ("0",))).find("0") == 1
    for wrong in ("2", "-1", 0, None):
        with pytest.raises(TensorError, match="its inputs: 'x', 'y'"):
            index(("x", ()), ("y", ())).find(wrong)


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(TensorError, match="did you mean 'image'"):
        index(
            ("image", ()),
        ).find("imgae")
    assert suggestion("zzz", ["image"]) == ""


def outputs_of(*tensors: tuple[str, tuple[str, ...]]) -> Outputs:
    outputs = Outputs({name: object() for name, _ in tensors})
    outputs.index = NameIndex([TensorInfo(name, aliases) for name, aliases in tensors], "output")
    return outputs


def test_outputs_are_a_dict_that_knows_aliases() -> None:
    outputs = outputs_of(("scores", ("Identity", "shared")), ("boxes", ("Identity_1", "shared")))
    scores, boxes = outputs.values()
    assert outputs["Identity"] is outputs["0"] is outputs.get("0") is scores
    assert outputs["Identity_1"] is outputs.get("1") is boxes
    assert "Identity" not in outputs
    assert "0" not in outputs
    assert (list(outputs), len(outputs)) == (["scores", "boxes"], 2)
    assert outputs == {"scores": scores, "boxes": boxes}
    assert outputs.get("2") is outputs.get("shared") is None
    with pytest.raises(KeyError, match=r"has no output 'score' .did you mean 'scores'.*'scores', 'boxes'"):
        outputs["score"]
    with pytest.raises(KeyError, match="alias of both 'scores' and 'boxes'"):
        outputs["shared"]
    assert outputs.pop("boxes") is boxes
    for gone in ("boxes", "1"):
        with pytest.raises(KeyError, match="boxes"):
            outputs[gone]


@pytest.mark.parametrize(
    "duplicate", [dict, dict.copy, copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
def test_copies_of_outputs_are_plain_dicts(duplicate: Callable[[Outputs], dict[str, object]]) -> None:
    outputs = outputs_of(("a", ("b",)))
    outputs["a"] = [1.5]
    other = duplicate(outputs)
    assert type(other) is dict
    assert other == outputs


def test_renaming() -> None:
    inputs, outputs = [TensorInfo("a", ("alias",)), TensorInfo("b")], [TensorInfo("y")]
    new_inputs, new_outputs = rename(inputs, outputs, {"inputs": {"alias": "mine"}, "outputs": {"y": "out"}})
    assert [(t.name, t.aliases) for t in new_inputs] == [("mine", ("a", "alias")), ("b", ())]
    assert [t.name for t in new_outputs] == ["out"]
    swapped, _ = rename(inputs, outputs, {"inputs": {"a": "b", "b": "a"}})
    assert [t.name for t in swapped] == ["b", "a"]


@pytest.mark.parametrize(
    ("tensor_names", "message"),
    [
        ({"input": {"a": "x"}}, "wanted {'inputs'"),
        ({"inputs": {"nope": "x"}}, "no input 'nope'"),
        ({"inputs": {"a": "b"}}, "'b' to more than one input"),
    ],
)
def test_impossible_renaming(tensor_names: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        rename([TensorInfo("a"), TensorInfo("b")], [TensorInfo("y")], check_tensor_names(tensor_names))
