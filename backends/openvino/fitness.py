"""Which model files OpenVINO cannot run, as far as the files tell; what they do not tell, loading shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from accelerate.contract import LoadOptions, Match, Source, interface_of
from accelerate.errors import ModelError, OptionError
from accelerate.formats import REFETCH
from accelerate.formats.onnx.file import ModelFile as ONNXFile
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu
from accelerate.formats.tflite.file import ModelFile as TFLiteFile
from accelerate.metadata import TensorInfo

__all__ = ["READS", "judge"]

#: The formats that it reads, in words.
READS = {"onnx": "an ONNX model", "openvino": "an OpenVINO IR model", "tflite": "a TFLite model"}
#: Types of inputs and outputs that its readers, or its CPU device, do not take.
_REFUSED = {
    "tflite": frozenset({"string", "bfloat16", "complex64", "complex128", "object"}),
    "onnx": frozenset({"complex64", "complex128", "sequence", "map", "optional"}),
    "openvino": frozenset[str](),
}
#: Of less than a byte: it packs several into one, and so does no array.
_PACKED = frozenset({"int2", "uint2", "int4", "uint4", "float4_e2m1fn", "nf4", "u1", "u2", "u3", "u6"})
#: How many of their inputs ONNX's operators cannot do without, where it is not one, since version 13 of the operators
#: (onnx.defs); before that some had as attributes what are inputs now.
_RECENT = 13
_LEAST_BY_COUNT: Mapping[int, str] = {
    0: "Constant Loop Optional OptionalHasElement RandomNormal RandomUniform SequenceEmpty",
    2: "Add AffineGrid And BitShift BitwiseAnd BitwiseOr BitwiseXor CastLike CenterCropPad Compress Conv ConvInteger "
    "ConvTranspose CumProd CumSum DequantizeLinear Div Equal Expand Gather GatherElements GatherND Gemm Greater "
    "GreaterOrEqual GridSample LayerNormalization Less LessOrEqual MatMul MatMulInteger MaxRoiPool MaxUnpool Mod Mul "
    "NegativeLogLikelihoodLoss NonMaxSuppression Or PRelu Pad Pow QuantizeLinear RMSNormalization Reshape "
    "ReverseSequence SequenceAt SequenceInsert SoftmaxCrossEntropyLoss StringConcat Sub Tile TopK Unsqueeze Xor",
    3: "Attention Col2Im DeformConv GRU GroupNormalization InstanceNormalization LSTM OneHot RNN Range RoiAlign "
    "RotaryEmbedding ScatterElements ScatterND Slice Where",
    5: "BatchNormalization MelWeightMatrix",
    8: "QLinearConv QLinearMatMul",
}
_LEAST = {name: count for count, names in _LEAST_BY_COUNT.items() for name in names.split()}
_OWN = "run it by the backend of its own format"


def judge(source: Source, options: LoadOptions) -> Match:
    """Judge a file of a format that it reads.

    Raises
    ------
    OptionError, ModelError
        As `load` would raise them.
    """
    told = interface_of(source, options.signature)
    assert told is not None, "its format is read here"
    if told.subgraph:
        raise OptionError(
            f"OpenVINO runs the main graph alone, and signature {options.signature!r} is of another one",
            "leave signature out, or use backend='tflite_cpu'",
        )
    for tensor in (*told.inputs, *told.outputs):
        if problem := _problem(tensor, source.format):
            return Match(False, f"{source} {problem}", _OWN)
    if source.format == "tflite":
        return _judge_tflite(source)
    source.other_files()
    if source.format == "onnx":
        _check_operands(source)
        twice = [name for name, n in Counter(v.name for v in source.opened(ONNXFile).outputs).items() if n > 1]
        if twice:
            return Match(False, f"{source} has several outputs of the name {twice[0]!r}, one to OpenVINO", _OWN)
    return Match(True, READS[source.format])


def _check_operands(source: Source) -> None:
    """Raise for an operator without an input that OpenVINO's reader takes without a look, which crashes it (2026.4)."""
    file = source.opened(ONNXFile)
    recent = file.opsets.get("", file.opsets.get("ai.onnx", 0)) >= _RECENT
    for operator, inputs in file.operands():
        least = _LEAST.get(operator, 1)
        least = least if recent else min(least, 1)
        if len(inputs) < least or b"" in inputs[:least]:
            reason = f"{source}: an operator {operator:.80} has {len(inputs)} inputs, wanted {least} or more"
            raise ModelError(f"{reason}; the file is damaged", REFETCH)


def _problem(tensor: TensorInfo, form: str) -> str:
    kind = str(tensor.extra.get("data_type", tensor.data_type))
    if kind in _PACKED or kind in _REFUSED[form] or kind.startswith("unknown"):
        return f"has the tensor {tensor.name!r} of type {kind}, which OpenVINO cannot take or give"
    return ""


def _judge_tflite(source: Source) -> Match:
    file = source.opened(TFLiteFile)
    custom = file.custom_operators
    if COMPILED_OPERATOR in custom:
        return Match(False, *compiled_for_edgetpu(source.path))
    if custom:
        return Match(False, f"{source} needs {', '.join(custom)[:200]}, which OpenVINO does not have", _OWN)
    if file.state:
        return Match(False, f"{source} keeps values from one call to the next, which OpenVINO does not read", _OWN)
    # to its reader tensors of one name are one tensor, and the answers others
    names = Counter(file.tensor_names())
    if "" in names:
        return Match(False, f"{source} has tensors without a name, by which OpenVINO knows them", _OWN)
    if twice := [name for name, count in names.items() if count > 1]:
        return Match(False, f"{source} has several tensors of the name {twice[0]!r:.80}, one to OpenVINO", _OWN)
    return Match(True, READS["tflite"])
