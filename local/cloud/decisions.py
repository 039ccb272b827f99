"""Every authorization decision of a cloud, on record: who wanted what, on what, under which conditions, and the answer.

Nothing here knows the emulator. `Recorder` writes the record while the cloud runs, `read` gives it back, and
`Permission` is what a policy grants, one action of one statement at a time, so that each can be taken away alone.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "decisions.jsonl"
Policies = Mapping[str, Any]  # a role's policy documents, by the policy's name


@dataclasses.dataclass(frozen=True)
class Decision:
    """One answer of IAM. `principal` is the session's ARN; `context` holds the condition keys the request supplied."""

    principal: str
    action: str
    resource: str
    context: Mapping[str, Any]
    allowed: bool

    @property
    def role(self) -> str:
        """The role's name; empty if no role asked."""
        kind, _, rest = self.principal.rpartition(":")[2].partition("/")
        return rest.partition("/")[0] if kind == "assumed-role" else ""


class Recorder:
    """Writes each distinct decision once: a line is whole when `record` returns, so that a kill loses none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def record(self, decision: Decision) -> None:
        """Append the decision, unless the same role has had the same answer to the same question."""
        fields = dataclasses.asdict(decision)
        question = json.dumps(
            fields | {"principal": decision.role or decision.principal}, default=str, sort_keys=True
        )
        with self._lock:
            if hash(question) not in self._known:
                self._known.add(hash(question))
                self._file.write(json.dumps(fields, default=str).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Decision]:
    """What a cloud recorded in `path`, in order."""
    with path.open(encoding="utf-8") as lines:
        return [Decision(**json.loads(line)) for line in lines]


@dataclasses.dataclass(frozen=True)
class Permission:
    """One action of one statement of a role's policies."""

    policy: str
    statement: int
    action: str
    resources: tuple[str, ...]


def permissions(policies: Policies) -> Iterator[Permission]:
    """What the policies allow, one action of one statement at a time."""
    for name, document in policies.items():
        for index, statement in enumerate(_listed(document["Statement"])):
            if statement["Effect"] == "Allow":
                for action in _listed(statement.get("Action", [])):
                    yield Permission(name, index, action, tuple(_listed(statement.get("Resource", []))))


def without(policies: Policies, permission: Permission) -> dict[str, Any]:
    """The same policies with one permission taken away."""
    statements = list(_listed(policies[permission.policy]["Statement"]))
    statement = statements[permission.statement]
    left = [action for action in _listed(statement["Action"]) if action != permission.action]
    statements[permission.statement : permission.statement + 1] = (
        [statement | {"Action": left}] if left else []
    )
    return dict(policies) | {permission.policy: {"Statement": statements}}


def by_role(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    """The decisions of each role, by its name."""
    found: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.role:
            found.setdefault(decision.role, []).append(decision)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
