"""One deployment and the requests and looks of its time: what happened when, and what must hold. Pure.

Seconds are AWS's in figures, ours in moments; the factor lies between them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lambdas import registry
from local.rollout.timeline import NO_ANSWER, Deployment, Request, State, Timeline

_DEVIATIONS = 3  # of the binomial distribution: the router draws each request's fleet


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the figures are judged by: time's factor, the canary's share, the latency alarm's threshold in seconds."""

    factor: float
    canary: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Bound:
    """Something that must hold: `value` is at most `limit`, or equal to it."""

    what: str
    value: float | str
    limit: float | str
    equal: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value == self.limit if self.equal else self.value <= self.limit  # type: ignore[operator]


class Played:
    """One deployment with the requests and looks of its span, from its approval until all was quiet."""

    def __init__(self, timeline: Timeline, deployment: Deployment, setting: Setting) -> None:
        self.deployment, self.setting = deployment, setting
        began, ended = deployment.approved, deployment.ended
        self.requests = [it for it in timeline.requests if began <= it.due < ended]
        self.states = [it for it in timeline.states if began <= it.at < ended]
        earlier = (it.answer for it in timeline.requests if it.due < began and not it.error)
        self._before = list(earlier)[-1:]  # what the old version answers

    @property
    def good(self) -> bool:
        """Whether it is to end in service."""
        return self.deployment.expected == registry.IN_SERVICE

    def of_new(self, request: Request) -> bool:
        """Whether the new version answered: the question is always the same, and the old one's answer is known."""
        return bool(request.error) or [request.answer] != self._before

    def bad(self, request: Request) -> bool:
        """Failed, or the new version's and slower than the latency alarm allows; the old one's pace is the machine's."""
        return bool(request.error) or (self.of_new(request) and request.seconds > self.setting.threshold)

    def share(self, state: State) -> float:
        """The share of the traffic that the new fleet is given."""
        if state.active is not None:
            return state.active
        return float(state.config != self.deployment.config)

    @property
    def starting_at(self) -> float | None:
        """When the new fleet was first seen to start."""
        return _first(self.states, lambda it: it.active is not None)

    @property
    def canary_at(self) -> float | None:
        """When the new fleet was first seen with traffic."""
        return _first(self.states, lambda it: self.share(it) > 0)

    @property
    def full_at(self) -> float | None:
        """When it was first seen with all of it, before it lost its traffic, if it did."""
        back = math.inf if self.back_at is None else self.back_at
        return _first(self.states, lambda it: it.at < back and self.share(it) == 1)

    @property
    def alarm(self) -> tuple[float, str] | None:
        """The first alarm, and when it was seen."""
        for state in self.states:
            for name, value in state.alarms.items():
                if value == "ALARM":
                    return state.at, name
        return None

    @property
    def back_at(self) -> float | None:
        """When the old fleet was first seen with all traffic again."""
        began = self.canary_at
        return None if began is None else _first(self.states, lambda it: it.at > began and not self.share(it))

    @property
    def settled_at(self) -> float | None:
        """When the endpoint was first seen in service, with one fleet, after the new one had traffic."""
        began = self.canary_at
        if began is None:
            return None
        return _first(self.states, lambda it: it.at > began and it.status == "InService")

    @property
    def repair_at(self) -> float | None:
        """When the endpoint was first seen to be deployed again, after the new fleet's end."""
        settled = self.settled_at
        if settled is None:
            return None
        return _first(self.states, lambda it: it.at > settled and it.active is not None)

    @property
    def first_bad_at(self) -> float | None:
        """When the first bad answer arrived."""
        return min((it.done for it in self.requests if self.bad(it)), default=None)

    @property
    def exposed(self) -> list[Request]:
        """The requests of which a part went to the new fleet: from before it was seen with traffic to after its end."""
        began, back = self.canary_at, self.back_at
        if began is None:
            return []
        # A look tells how it was at some moment after `at`, so the edges are one look further out on both sides.
        since = max((it.at for it in self.states if it.at < began), default=began)
        after = None if back is None else _first(self.states, lambda it: it.at > back)
        until = math.inf if after is None else after
        return [it for it in self.requests if since <= it.due < until]

    def bounds(self, repairs: int) -> list[Bound]:
        """What must hold of it; `repairs` is how often the check has to put a rolled back one right."""
        name, deployment = self.deployment.name, self.deployment
        failed = [it for it in self.requests if it.error]
        found = [Bound(f"{name}: how it ended", deployment.result, deployment.expected, equal=True)]
        repaired = 0 if self.good else repairs
        found += [
            Bound(f"{name}: repairs by the check after the rollout", deployment.repairs, repaired, equal=True)
        ]
        if self.good:
            return [*found, Bound(f"{name}: failed requests", len(failed), 0)]
        exposed = self.exposed
        numbers = {it.number for it in exposed}
        bad = [it for it in self.requests if self.bad(it)]
        inside = sum(it.number in numbers for it in bad)
        share = f"the canary's share, {self.setting.canary:.0%} of {len(exposed)}, and a margin"
        return [
            *found,
            # Else the next two would hold of a rollout that nobody noticed.
            Bound(f"{name}: a bad answer was seen", bool(bad), True, equal=True),
            Bound(f"{name}: bad answers until the rollback ({share})", inside, self._most(len(exposed))),
            Bound(f"{name}: bad answers at any other time", len(bad) - inside, 0),
            Bound(f"{name}: the rollback was seen", self.back_at is not None, True, equal=True),
        ]

    def figures(self) -> dict[str, Any]:
        """The report's part on it."""
        deployment, alarm = self.deployment, self.alarm
        before = _seconds(it for it in self.requests if not it.error and not self.of_new(it))
        new = _seconds(it for it in self.requests if not it.error and self.of_new(it))
        return {
            "name": deployment.name,
            "version": deployment.version,
            "ending": deployment.result,
            "reason": deployment.reason,
            "stack": deployment.stack,
            "repairs": deployment.repairs,
            "sent": len(self.requests),
            "answered": sum(it.error != NO_ANSWER for it in self.requests),
            "failed": sum(bool(it.error) for it in self.requests),
            "failed_by_kind": dict(Counter(it.error for it in self.requests if it.error)),
            "bad_answers": sum(map(self.bad, self.requests)),
            "canary_share": self.setting.canary,
            "sent_while_exposed": len(self.exposed),
            "alarm": alarm[1] if alarm else None,
            "aws_seconds": {
                "approval_to_canary": self._between(deployment.approved, self.canary_at),
                "canary_to_full": self._between(self.canary_at, self.full_at),
                "first_bad_answer_to_alarm": self._between(self._first_bad(), alarm[0] if alarm else None),
                "first_bad_answer_to_traffic_back": self._between(self._first_bad(), self.back_at),
                "first_bad_answer_to_full_rollback": self._between(self._first_bad(), self._rolled_back()),
                "approval_to_end": self._between(deployment.approved, deployment.ended),
            },
            "milliseconds": {"old_version": _quantiles(before), "new_version": _quantiles(new)},
        }

    def _first_bad(self) -> float | None:
        return None if self.good else self.first_bad_at

    def _rolled_back(self) -> float | None:
        return None if self.good else self.settled_at

    def _most(self, requests: int) -> float:
        """The most that may go to the canary of so many requests."""
        share = self.setting.canary
        return math.floor(share * requests + _DEVIATIONS * math.sqrt(requests * share * (1 - share)))

    def _between(self, began: float | None, ended: float | None) -> float | None:
        if began is None or ended is None:
            return None
        return round((ended - began) * self.setting.factor, 1)


def _first(states: Iterable[State], holds: Callable[[State], bool]) -> float | None:
    return next((state.at for state in states if holds(state)), None)


def _seconds(requests: Iterable[Request]) -> list[float]:
    return sorted(request.seconds for request in requests)


def _quantiles(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    p99 = seconds[min(len(seconds) - 1, math.ceil(0.99 * len(seconds)) - 1)]
    return {"p50": round(1000 * statistics.median(seconds), 1), "p99": round(1000 * p99, 1)}
