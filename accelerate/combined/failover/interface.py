"""What the models of a failover have in common, compared when each of them has been loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...calls.conversion import Array, InputAdapter, blank, concrete_shape, fits
from ...calls.names import NameIndex
from ...calls.pixels import note_frame, pixel_normalization
from ...errors import OptionError, TensorError
from ...metadata import Metadata, Quantization, TensorInfo
from .translation import Translation, is_transposed, transposed_shape

__all__ = ["Interface", "check_stateless"]


class Interface:
    """The tensors as the first of the models that was there has them; what the others have must fit it.

    Parameters
    ----------
    name : str
        Which model that is, in messages.
    metadata : Metadata
    dequantize, strict : bool
        As it was loaded with.

    Attributes
    ----------
    metadata : Metadata
    inputs, outputs : NameIndex
    """

    def __init__(self, name: str, metadata: Metadata, *, dequantize: bool, strict: bool) -> None:
        self.metadata = metadata
        self.inputs = NameIndex(metadata.inputs, "input")
        self.outputs = NameIndex(metadata.outputs, "output")
        self._name = name
        self._dequantize = dequantize
        self._strict = strict
        #: whether all models answer with one type: as the runtime gives it, and as real numbers
        self._agrees = {False: True, True: True}

    def check_call(self, dequantize: bool) -> None:
        """Refuse a call that would have answers of another type from another model.

        Raises
        ------
        OptionError
        """
        if not self._agrees[bool(dequantize)]:
            raise OptionError(
                f"infer(dequantize={bool(dequantize)}) would give other types after a switch, as the outputs of this "
                f"failover's models differ in type or scale",
                f"leave it out, or give dequantize={not dequantize}",
            )

    def bound_outputs(self) -> tuple[TensorInfo, ...]:
        """Return the outputs as a Binding has them: real numbers where the models' levels stand for different ones."""
        if self._agrees[False]:
            return self.metadata.outputs
        return tuple(replace(t, data_type=_type_of(t, dequantize=True)) for t in self.metadata.outputs)

    @property
    def bound_dequantize(self) -> bool:
        """Whether the outputs of a Binding are real numbers."""
        return not self._agrees[False]

    def admit(self, name: str, metadata: Metadata, *, dequantize: bool, strict: bool) -> Translation:
        """Compare another model, and return what it needs to be given and to give the same values.

        Parameters
        ----------
        name : str
            Which one, in messages: "failover[0]".
        metadata : Metadata
        dequantize, strict : bool
            As it was loaded with.

        Raises
        ------
        OptionError
            It differs in names, shapes, labels or types, says which tensor it is, and what to do about it.
        """
        ours, theirs = self.metadata, metadata
        check_stateless(name, theirs)
        self._compare_names(name, "input", ours.inputs, theirs.inputs)
        self._compare_names(name, "output", ours.outputs, theirs.outputs)
        inputs, outputs = _by_name(theirs.inputs), _by_name(theirs.outputs)
        for mine in ours.inputs:
            self._compare_input(name, mine, inputs[mine.name])
            self._compare_values(name, mine, inputs[mine.name], strict=strict)
        for mine in ours.outputs:
            self._compare_output(name, mine, outputs[mine.name])
        self._compare_labels(name, theirs)
        pairs = [(mine, outputs[mine.name]) for mine in ours.outputs]
        agrees = {real: all(_answers_alike(*pair, real, real) for pair in pairs) for real in (False, True)}
        for mine, other in pairs:
            if not _answers_alike(mine, other, self._dequantize, dequantize):
                raise self._other_type(name, mine, other, fixed_by_dequantize=agrees[True])
        self._agrees = {real: agrees[real] and self._agrees[real] for real in (False, True)}
        return Translation(ours, theirs, self.inputs, self.outputs)

    def _compare_names(self, who: str, kind: str, ours: Sequence[TensorInfo], theirs: Sequence[TensorInfo]) -> None:
        missing = [t.name for t in ours if t.name not in _by_name(theirs)]
        surplus = [t.name for t in theirs if t.name not in _by_name(ours)]
        if not missing and not surplus:
            return
        listed = [", ".join(repr(t.name) for t in side) or "none" for side in (theirs, ours)]
        reason = f"{who}: its {kind}s are {listed[0]}, and those of {self._name} are {listed[1]}"
        if len(missing) != len(surplus):
            raise OptionError(reason, "give a model with the same tensors")
        renamed = "{" + ", ".join(f"{a!r}: {b!r}" for a, b in zip(surplus, missing, strict=True)) + "}"
        sure = "" if len(missing) == 1 else ", each with the one that it stands for"
        raise OptionError(reason, f"where they mean the same, give it tensor_names={{'{kind}s': {renamed}}}{sure}")

    def _compare_input(self, who: str, mine: TensorInfo, other: TensorInfo) -> None:
        wanted = transposed_shape(mine.shape, mine.layout) if is_transposed(mine, other) else mine.shape
        if mine.optional != other.optional:
            optional, needed = (self._name, who) if mine.optional else (who, self._name)
            raise OptionError(
                f"{who}: input {mine.name!r} may be left out of {optional}, and not of {needed}",
                "give a model with the same inputs",
            )
        if tuple(other.shape) == tuple(wanted) and ("rank" in mine.extra) == ("rank" in other.extra):
            return
        dynamic = [-1 in shape or "rank" in info.extra for shape, info in ((other.shape, other), (wanted, mine))]
        reason = f"{who}: input {mine.name!r} is {_shape(other)}, and {_shape(mine)} in {self._name}"
        if dynamic[0] and not dynamic[1] and ("rank" in other.extra or fits(wanted, other.shape)):
            raise OptionError(reason, f"settle it there: shapes={{{mine.name!r}: {list(wanted)}}}")
        if any(dynamic):
            raise OptionError(
                reason, f"settle it by shapes={{{mine.name!r}: ...}} in load, or in each where the layouts differ"
            )
        raise OptionError(reason, "give a model of the same size")

    def _compare_output(self, who: str, mine: TensorInfo, other: TensorInfo) -> None:
        if "rank" in mine.extra or "rank" in other.extra:
            return
        # where a size follows from the inputs', not every format says it
        alike = all(a == b or -1 in (a, b) for a, b in zip(mine.shape, other.shape, strict=False))
        if len(mine.shape) != len(other.shape) or not alike:
            raise OptionError(
                f"{who}: output {mine.name!r} is {_shape(other)}, and {_shape(mine)} in {self._name}",
                "give a model that answers alike; dynamic inputs are settled by shapes=",
            )

    def _compare_values(self, who: str, mine: TensorInfo, other: TensorInfo, *, strict: bool) -> None:
        """Refuse an input that cannot be given what fits the first model: arrays of its type, and pixels."""
        translation = Translation.of_input(mine, other)
        zeros = blank(mine, concrete_shape(mine.shape))
        for given in (zeros, np.zeros(zeros.shape, np.uint8)):
            if _refusal(mine, given, strict=self._strict) is not None:
                continue
            value = given if translation is None else translation(given)
            if (refused := _refusal(other, value, strict=strict)) is not None:
                raise OptionError(
                    f"{who}: what {self._name} takes as input {mine.name!r}, {given.dtype}{list(given.shape)}, it does "
                    f"not: {refused.reason}",
                    _for_pixels(mine) if given.dtype == np.uint8 and "float" in other.data_type else refused.remedy,
                ) from refused

    def _compare_labels(self, who: str, theirs: Metadata) -> None:
        sides = [("labels", self.metadata.labels, theirs.labels)]
        outputs = _by_name(theirs.outputs)
        sides += [(f"labels of output {t.name!r}", t.labels, outputs[t.name].labels) for t in self.metadata.outputs]
        for what, ours, others in sides:
            if not ours or not others or ours == others:
                continue
            if len(ours) != len(others):
                differ = f"its {what} are {len(others)}, and those of {self._name} {len(ours)}"
            else:
                at = next(i for i, (a, b) in enumerate(zip(ours, others, strict=True)) if a != b)
                differ = f"its {what} have {others[at]!r:.60} for class {at}, those of {self._name} {ours[at]!r:.60}"
            raise OptionError(f"{who}: {differ}", "where the classes are the same, give one label_path= for both")

    def _other_type(self, who: str, mine: TensorInfo, other: TensorInfo, *, fixed_by_dequantize: bool) -> OptionError:
        reason = f"{who}: output {mine.name!r} is {_values(other)}, and {_values(mine)} in {self._name}"
        if fixed_by_dequantize:
            return OptionError(reason, "give load(..., dequantize=True), and both answer with float32")
        return OptionError(reason, "give a model that answers in the same type")


def check_stateless(who: str, metadata: Metadata) -> None:
    """Refuse a model with state.

    Raises
    ------
    OptionError
    """
    if metadata.stateful:
        raise OptionError(
            f"{who}: the model keeps state from one call to the next, which no other model would have after a switch",
            "load it without failover",
        )


def _by_name(tensors: Sequence[TensorInfo]) -> Mapping[str, TensorInfo]:
    return {t.name: t for t in tensors}


def _refusal(info: TensorInfo, value: Array, *, strict: bool) -> TensorError | None:
    """Return what an input says against a value, None where it takes it."""
    n = pixel_normalization(info)
    if n is not None and n.source == "assumed":  # which is said when it is done to a caller's pixels
        info = replace(info, normalization=replace(n, source="user"))
    note_frame(value)  # these zeros show nothing of what the caller knows
    try:
        InputAdapter(info, lambda: info, strict=strict).adapt(value)
    except TensorError as error:
        return error
    return None


def _for_pixels(mine: TensorInfo) -> str:
    """Return what to do about a model that does not say how pixels become its values."""
    n = mine.normalization
    pair = (
        "(mean, std)" if n is None else f"({', '.join(str(s[0] if len(set(s)) == 1 else s) for s in (n.mean, n.std))})"
    )
    return f"give it normalization={pair} in 0..255 units" + (
        "" if n is None else f", which is that of {mine.name!r} here"
    )


def _type_of(info: TensorInfo, *, dequantize: bool) -> str:
    """Return the type of an output's array."""
    return "float32" if dequantize and info.quantization is not None and "int" in info.data_type else info.data_type


def _answers_alike(mine: TensorInfo, other: TensorInfo, mine_real: bool, other_real: bool) -> bool:
    """Return whether two outputs are of one type, and their numbers stand for the same."""
    if _type_of(mine, dequantize=mine_real) != _type_of(other, dequantize=other_real):
        return False
    if mine_real and other_real:
        return True
    a, b = mine.quantization, other.quantization
    return "int" not in mine.data_type or a is None or b is None or _same_scale(a, b)


def _same_scale(a: Quantization, b: Quantization) -> bool:
    """Return whether levels of both stand for the same numbers; formats round the scale differently."""
    alike = a.axis == b.axis and len(a.scale) == len(b.scale) and a.zero_point == b.zero_point
    return alike and bool(np.allclose(a.scale, b.scale, rtol=1e-4, atol=0))


def _shape(info: TensorInfo) -> str:
    return f"{'of any shape' if 'rank' in info.extra and not info.shape else list(info.shape)}"


def _values(info: TensorInfo) -> str:
    q = info.quantization
    return info.data_type + (f" of scale {q.scale[0]:.6g} and zero point {q.zero_point[0]}" if q is not None else "")
