"""What a .tflite model keeps from one call to the next."""

from __future__ import annotations

from collections.abc import Iterator

from ..._records import record
from ..flatbuffer import INT32, UINT8, UINT32, Table
from .graph import builtin_code
from .schema_names import OPERATORS

__all__ = ["RESOURCE_OPERATORS", "STATE_INPUTS", "State", "read_state"]

#: The operators that write to some of their inputs, and where these stand (tensorflow/lite/kernels: the constants
#: k...StateTensor of each kernel).
STATE_INPUTS = {
    "LSTM": (18, 19),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (35, 36, 37, 38),
    "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,),
    "BIDIRECTIONAL_SEQUENCE_RNN": (4, 8),
    "SVDF": (4,),
}
#: The operators of resource variables, which belong to an interpreter and to all of its graphs.
RESOURCE_OPERATORS = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})

_POSITIONS = {OPERATORS.index(name): positions for name, positions in STATE_INPUTS.items()}
_ASSIGN, _CALL_ONCE = OPERATORS.index("ASSIGN_VARIABLE"), OPERATORS.index("CALL_ONCE")


@record(frozen=True)
class State:
    """What calls leave behind for the next ones."""

    #: (subgraph, index) of the tensors that operators keep
    variables: tuple[tuple[int, int], ...] = ()
    #: whether a call may assign to resource variables, which only a new interpreter has at their first values
    resources: bool = False

    def __bool__(self) -> bool:
        return self.resources or bool(self.variables)


def read_state(model: Table) -> State:
    """Read what a Model table keeps; only the list of operators of a model without such operators."""
    codes = [builtin_code(code) for code in model.tables(1, "OperatorCode")]
    if _ASSIGN not in codes and _POSITIONS.keys().isdisjoint(codes):
        return State()
    variables: list[tuple[int, int]] = []
    assigning, initialisers = set[int](), set[int]()
    for number, graph in enumerate(model.tables(2, "SubGraph")):
        for operator in graph.tables(3, "Operator"):
            code = operator.number(0, UINT32)
            kind = codes[code] if code < len(codes) else -1
            if kind in _POSITIONS:
                variables += ((number, index) for index in _variables(graph, operator, _POSITIONS[kind]))
            elif kind == _ASSIGN:
                assigning.add(number)
            elif kind == _CALL_ONCE and (options := operator.table(4, "CallOnceOptions")) is not None:
                initialisers.add(options.number(0, INT32))
    return State(tuple(dict.fromkeys(variables)), bool(assigning - initialisers))


def _variables(graph: Table, operator: Table, positions: tuple[int, ...]) -> Iterator[int]:
    inputs, tensors = operator.numbers(1, INT32), graph.tables(0, "Tensor")
    for position in positions:
        if position < len(inputs) and inputs[position] >= 0 and tensors[inputs[position]].number(5, UINT8):
            yield inputs[position]
