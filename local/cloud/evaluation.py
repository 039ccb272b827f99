"""How CloudWatch judges an alarm: metric math, missing data, M out of N. Pure; `alarms` brings the data."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

Value = float | None

# "Configuring how CloudWatch alarms treat missing data": more periods are read than evaluated; its tables read two more.
EXTRA_PERIODS = 2

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_RELATIONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class UnsupportedError(Exception):
    """An expression or setting that is not implemented here."""


def calculate(expression: str, values: Mapping[str, Value]) -> Value:
    """One data point of a metric math expression: `IF`, `FILL(x, number)`, arithmetic, comparisons.

    A data point that lacks a metric it needs does not exist; nor does one that divides by zero.
    """
    try:
        return _node(ast.parse(expression, mode="eval").body, values)
    except SyntaxError:
        raise UnsupportedError(f"{expression!r} is no expression that can be read here") from None


def judge(
    datapoints: Sequence[Value],
    *,
    periods: int,
    needed: int,
    comparison: str,
    threshold: float,
    missing: str,
) -> str | None:
    """The state after these data points, the newest first; None if it stays as it is.

    The newest `periods` that exist count. Only if there are fewer, `missing` says what the others are taken for.
    """
    if comparison not in _COMPARE:
        raise UnsupportedError(f"{comparison} is unsupported in the embedded cloud")
    existing = [value for value in datapoints if value is not None][:periods]
    breaching = sum(_COMPARE[comparison](value, threshold) for value in existing)
    absent = periods - len(existing)
    if missing == "breaching":
        breaching += absent
    elif missing == "ignore" and breaching < needed and absent:
        return None
    elif missing == "missing":
        if not existing:
            return "INSUFFICIENT_DATA"
        needed = min(needed, len(existing))
    return "ALARM" if breaching >= needed else "OK"


def _node(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(value=int() | float() as number):
            result: Value = float(number)
        case ast.Name(id=name) if name in values:
            result = values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            given = _node(operand, values)
            result = None if given is None else -given
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _ARITHMETIC:
            result = _both(_ARITHMETIC[type(operation)], left, right, values)
        case ast.Compare(left=left, ops=[relation], comparators=[right]) if type(relation) in _RELATIONS:
            result = _both(_RELATIONS[type(relation)], left, right, values)
        case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
            chosen = _node(condition, values)
            result = None if chosen is None else _node(then if chosen else otherwise, values)
        case ast.Call(func=ast.Name(id="FILL"), args=[series, filling]):
            found = _node(series, values)
            result = _node(filling, values) if found is None else found
        case _:
            raise UnsupportedError(f"{ast.unparse(node)!r} is unsupported in the embedded cloud")
    return result


def _both(
    operation: Callable[[float, float], float], left: ast.expr, right: ast.expr, values: Mapping[str, Value]
) -> Value:
    first, second = _node(left, values), _node(right, values)
    if first is None or second is None:
        return None
    try:
        return float(operation(first, second))
    except ZeroDivisionError:
        return None
