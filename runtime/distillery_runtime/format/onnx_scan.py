"""Reads an ONNX file's protobuf wire format to see which operators and data files it uses, before onnxruntime does.

onnxruntime runs whatever a graph asks for: loops without end, subgraphs, custom operators, files anywhere. So a graph
is checked against a list of pure tensor operators by this reader, which knows nothing but the wire format. It refuses
what it does not know; nothing that onnxruntime would read escapes it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# fmt: off
ONNX_OPS = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "Attention",
    "AveragePool", "BatchNormalization", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
    "CastLike", "Ceil", "Celu", "Clip", "Compress", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvInteger",
    "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout",
    "DynamicQuantizeLinear", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU",
    "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "MatMulInteger", "Max", "MaxPool",
    "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or",
    "PRelu", "Pad", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "RNN", "Range",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "ReverseSequence", "RotaryEmbedding",
    "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign",
    "SimplifiedLayerNormalization", "Sin", "Sinh", "Size", "Slice", "Softmax", "SoftmaxCrossEntropyLoss",
    "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Where", "Xor",
})
MICROSOFT_OPS = frozenset({
    "Attention", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "DequantizeLinear", "DynamicQuantizeMatMul",
    "EmbedLayerNormalization", "FastGelu", "FusedGemm", "FusedMatMul", "GatherBlockQuantized", "GatherND", "Gelu",
    "GemmaRotaryEmbedding", "GroupQueryAttention", "MatMulBnb4", "MatMulInteger16", "MatMulIntegerToFloat",
    "MatMulNBits", "MoE", "MultiHeadAttention", "PackedAttention", "PackedMultiHeadAttention", "Pad", "QAttention",
    "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearLeakyRelu", "QLinearMul",
    "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QMoE", "QuantizeLinear", "QuickGelu",
    "RelativePositionBias", "RemovePadding", "RestorePadding", "RotaryEmbedding", "SimplifiedLayerNormalization",
    "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "TransposeMatMul", "Trilu",
    "Unique",
})
# fmt: on
OPERATORS: Mapping[str, frozenset[str]] = {"": ONNX_OPS, "ai.onnx": ONNX_OPS, "com.microsoft": MICROSOFT_OPS}

MAX_FIELDS = 300_000  # 15,000 nodes with six inputs and two attributes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KEY_BYTES = 5  # protobuf reads no longer one

Span = tuple[int, int]
Fields = dict[int, list[int | Span]]

# Fields that each message may have, by number (onnx.proto3). Not among them: training_info and functions of a model,
# sparse_initializer of a graph, overload and device_configurations of a node; graphs, types, sparse tensors and
# references of an attribute; strings of a tensor.
_MODEL = {1, 2, 3, 4, 5, 6, 7, 8, 14}
_OPSET = {1, 2}
_GRAPH = {1, 2, 5, 10, 11, 12, 13, 14, 16}
_NODE = {1, 2, 3, 4, 5, 6, 7, 9}
_ATTRIBUTE = {1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 20}
_TENSOR = {1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16}
_REFUSED = {
    ("the model", 20): "training",
    ("the model", 25): "functions",
    ("the graph", 15): "sparse weights",
    ("an attribute", 6): "a subgraph",
    ("an attribute", 11): "subgraphs",
    ("a tensor", 6): "strings",
}


@dataclass(frozen=True, slots=True)
class Scan:
    """What a graph uses: operators as `domain.name`, and of each data file the bytes that it needs of it."""

    operators: frozenset[str]
    data_files: Mapping[str, int]


def scan_graph(data: bytes) -> Scan:
    """Reads an ONNX file.

    Raises:
        ValueError: it is no ONNX file, uses an operator that is not allowed, or holds more than tensors and nodes.
    """
    return _WireMessages(data).model()


class _WireMessages:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_FIELDS
        self._operators: set[str] = set()
        self._files: dict[str, int] = {}

    def model(self) -> Scan:
        model = self._message((0, len(self._data)), _MODEL, "the model")
        for opset in _spans(model, 8):
            domain = self._text(self._message(opset, _OPSET, "an opset"), 1)
            if domain not in OPERATORS:
                raise ValueError(f"operators of the domain {domain!r}, expected {_domains()}")
        graphs = _spans(model, 7)
        if len(graphs) != 1:
            raise ValueError("not an ONNX graph")
        graph = self._message(graphs[0], _GRAPH, "the graph")
        for node in _spans(graph, 1):
            self._node(node)
        for tensor in _spans(graph, 5):
            self._tensor(tensor)
        return Scan(frozenset(self._operators), self._files)

    def _node(self, span: Span) -> None:
        node = self._message(span, _NODE, "a node")
        domain, name = self._text(node, 7), self._text(node, 4)
        if name not in OPERATORS.get(domain, ()):
            raise ValueError(f"operator {domain + '.' if domain else ''}{name}, expected one of plain tensors")
        self._operators.add(f"{domain}.{name}")
        for attribute in _spans(node, 5):
            fields = self._message(attribute, _ATTRIBUTE, "an attribute")
            for tensor in (*_spans(fields, 5), *_spans(fields, 10)):
                self._tensor(tensor)

    def _tensor(self, span: Span) -> None:
        tensor = self._message(span, _TENSOR, "a tensor")
        entries = [self._message(entry, {1, 2}, "a data file's entry") for entry in _spans(tensor, 13)]
        place = {self._text(entry, 1): self._text(entry, 2) for entry in entries}
        if len(place) != len(entries):
            raise ValueError("a weight's place in a data file is stated twice")
        if not place and not any(tensor.get(14, ())):
            return
        if "location" not in place:
            raise ValueError("a weight in a data file without a name")
        offset, length = (_number(place.get(key, "0")) for key in ("offset", "length"))
        self._files[place["location"]] = max(self._files.get(place["location"], 0), offset + length)

    def _text(self, fields: Fields, number: int) -> str:
        """The one string with this number, or "" if there is none."""
        spans = _spans(fields, number)
        if len(spans) > 1:
            raise ValueError("a name that is stated twice")
        return self._data[slice(*spans[0])].decode() if spans else ""

    def _message(self, span: Span, known: set[int], what: str) -> Fields:
        fields: Fields = {}
        for number, value in self._fields(span):
            if number not in known:
                found = _REFUSED.get((what, number), f"an unknown field {number}")
                raise ValueError(f"{what} has {found}, expected plain tensors alone")
            fields.setdefault(number, []).append(value)
        return fields

    def _fields(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        at, end = span
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            key, at = self._varint(at, min(end, at + _KEY_BYTES))
            number, kind = key >> 3, key & 7
            value: int | Span = 0
            if kind == _BYTES:
                length, at = self._varint(at, end)
                value, at = (at, at + length), at + length
            elif kind == _VARINT:
                value, at = self._varint(at, end)
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
            if kind not in (_BYTES, _VARINT, _FIXED32, _FIXED64) or not 0 < number < 1 << 29 or at > end:
                raise ValueError("not an ONNX file")
            yield number, value

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise ValueError("not an ONNX file")


def _spans(fields: Fields, number: int) -> list[Span]:
    values = fields.get(number, [])
    spans = [value for value in values if isinstance(value, tuple)]
    if len(spans) != len(values):
        raise ValueError("not an ONNX file")
    return spans


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"a weight at {text[:40]!r} of a data file, expected a number")
    return int(text)


def _domains() -> str:
    return " and ".join(repr(domain) for domain in OPERATORS)
