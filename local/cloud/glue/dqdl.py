"""The part of DQDL that `pipeline/rules.py` writes, as predicates of one column each: `FORMS`.

The query of `CustomSql` has one limit (`>=` or `<=`) of a number or more. Any other rule is an error, never one that
passes unseen.
Source: "Data Quality Definition Language (DQDL) reference", AWS Glue User Guide.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import re
from collections.abc import Callable

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_RULES = re.compile(r"\s*Rules\s*=\s*\[(.*)\]\s*", re.DOTALL)
_RULE = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,"\[\]])+""")
_EXISTS = re.compile(r'ColumnExists "([^"]+)"')
_COMPLETE = re.compile(rf'Completeness "([^"]+)" >= ({_NUMBER})')
_VALUES = re.compile(rf'ColumnValues "([^"]+)" in (\[[^\]]*\]) with threshold >= ({_NUMBER})')
_QUERY = r"select avg\(case when (.+) then 1\.0 else 0\.0 end\) from primary"
_SQL = re.compile(rf'CustomSql "{_QUERY}" >= ({_NUMBER})')
_LIMIT = re.compile(rf"cast\(`([^`]+)` as double\) (>=|<=) ({_NUMBER})")
FORMS = (
    'ColumnExists "c"',
    'Completeness "c" >= s',
    'ColumnValues "c" in ["a", "b"] with threshold >= s',
    'CustomSql "select avg(case when cast(`c` as double) >= n and … then 1.0 else 0.0 end) from primary" >= s',
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


class DqdlError(Exception):
    """A rule beyond the supported part of DQDL; the message is the rule, and what is supported."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """At least `share` of the rows have a value in `column` that is one of `allowed` and within `limits`, if given.

    Without a share the column must only be there.
    """

    text: str
    kind: str
    column: str
    share: float | None = None
    allowed: tuple[str, ...] | None = None
    limits: tuple[tuple[str, float], ...] = ()

    def holds(self, value: str | None) -> bool:
        """Whether one value meets the rule; null meets none."""
        if value is None or (self.allowed is not None and value not in self.allowed):
            return False
        if not self.limits:
            return True
        try:
            number = float(value)
        except ValueError:
            return False
        return all(_SIGNS[sign](number, limit) for sign, limit in self.limits)


def parse(text: str) -> list[Rule]:
    """The rules of a ruleset; `DqdlError` names the first that is unsupported."""
    body = _RULES.fullmatch(text)
    if not body:
        raise DqdlError("a ruleset is `Rules = [ … ]`")
    return [_rule(part) for match in _RULE.finditer(body[1]) if (part := match[0].strip())]


def _rule(text: str) -> Rule:
    if found := _EXISTS.fullmatch(text):
        return Rule(text, "ColumnExists", found[1])
    if found := _COMPLETE.fullmatch(text):
        return Rule(text, "Completeness", found[1], float(found[2]))
    if found := _VALUES.fullmatch(text):
        return Rule(text, "ColumnValues", found[1], float(found[3]), allowed=tuple(json.loads(found[2])))
    if found := _SQL.fullmatch(text):
        limits = [_LIMIT.fullmatch(part) for part in found[1].split(" and ")]
        columns = {limit[1] for limit in limits if limit}
        if all(limits) and len(columns) == 1:
            bounds = tuple((limit[2], float(limit[3])) for limit in limits if limit)
            return Rule(text, "CustomSql", columns.pop(), float(found[2]), limits=bounds)
    raise DqdlError(f"unsupported in the embedded cloud: {text}; a rule is one of: {'; '.join(FORMS)}")
