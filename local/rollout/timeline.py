"""What is written down while deployments are played: every request, every look at the endpoint, every deployment.

All times are seconds of the epoch, from one clock: load, cloud and watcher run on one machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

NO_ANSWER = "NoAnswer"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request of the load: when it was due, when its answer was there, and what it was.

    `error` is the API's error code, `NO_ANSWER` if nothing came back, empty for a prediction, which is `answer`.
    """

    number: int
    due: float
    done: float
    error: str
    answer: str

    @property
    def seconds(self) -> float:
        """From when it was due: what waits because the client is late counts, too."""
        return self.done - self.due


@dataclasses.dataclass(frozen=True)
class State:
    """One look: the endpoint's status and configuration, what its new fleet does and its share, and the alarms.

    `active` is the share of the new fleet's instances that take traffic, None while no deployment is under way. An
    alarm is in `ALARM` if it rings, or rang since the look before.
    """

    at: float
    status: str
    config: str
    doing: str
    active: float | None
    alarms: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One approval, from its moment to when all is quiet again, and what the project itself said of it.

    `expected` and `result` are words of the registry, `alarm` is the one that is to ring, or empty. `config` is the
    endpoint configuration that served before, `stack` the Serving stack's status at the end, `repairs` how often the
    check after the rollout put it right, `before` and `after` the numbers of the versions that it served.
    """

    name: str
    version: int
    expected: str
    alarm: str
    approved: float
    ended: float
    config: str
    result: str
    reason: str
    stack: str
    repairs: int
    before: int
    after: int


@dataclasses.dataclass(frozen=True)
class Timeline:
    """All of it; `scheduled` is how many requests the load was to send."""

    requests: Sequence[Request]
    states: Sequence[State]
    deployments: Sequence[Deployment]
    scheduled: int

    def write(self, path: Path) -> None:
        """One JSON object a line, in order of time; `kind` says what it is."""
        rows = [("request", it.due, it) for it in self.requests]
        rows += [("state", it.at, it) for it in self.states]  # type: ignore[misc]
        rows += [("deployment", it.approved, it) for it in self.deployments]  # type: ignore[misc]
        rows.sort(key=lambda row: row[1])
        lines = [json.dumps({"kind": kind, **dataclasses.asdict(row)}) for kind, _, row in rows]
        lines.append(json.dumps({"kind": "scheduled", "requests": self.scheduled}))
        path.write_text("\n".join(lines) + "\n")


def requests(lines: Iterable[str]) -> tuple[list[Request], int]:
    """What the load wrote: its requests in order of their number, and how many it was to send."""
    found, scheduled = [], 0
    for line in lines:
        row: dict[str, Any] = json.loads(line)
        if "scheduled" in row:
            scheduled += row["scheduled"]
        else:
            found.append(Request(**row))
    return sorted(found, key=lambda request: request.number), scheduled
