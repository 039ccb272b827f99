"""One deployment and the requests and looks of its time: what happened when. Pure.

Moments are ours, as in the timeline; `aws_seconds` is how much longer it is on AWS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

from lambdas import registry
from local.rollout.timeline import Deployment, Request, State, Timeline

# Who answers; by whether the new version was seen to.
BEFORE, NEW = "the version before", "the new version"
_WHO = {
    frozenset[bool](): "nobody",
    frozenset({False}): BEFORE,
    frozenset({True}): NEW,
    frozenset({False, True}): "both",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the figures are judged by: time's factor, the canary's share, the latency alarm's threshold in seconds."""

    factor: float
    canary: float
    threshold: float


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

    @property
    def failed(self) -> list[Request]:
        """The requests without a prediction."""
        return [it for it in self.requests if it.error]

    def of_new(self, request: Request) -> bool:
        """Whether the new version answered: the question is always the same, and the old one's answer is known."""
        return bool(request.error) or [request.answer] != self._before

    def bad(self, request: Request) -> bool:
        """Failed, or the new version's and slower than the alarm allows; the old one's pace is the machine's."""
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
    def rang(self) -> dict[str, float]:
        """When each alarm that rang was first seen to, the first one first."""
        # After a rollback they judge the version before.
        back = math.inf if self.back_at is None else self.back_at
        found: dict[str, float] = {}
        for state in self.states:
            for name, value in sorted(state.alarms.items()):
                if value == "ALARM" and state.at <= back:
                    found.setdefault(name, state.at)
        return found

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
    def answering(self) -> str:
        """Who answers once the endpoint is in service again."""
        settled = self._after(self.settled_at)
        return _WHO[frozenset(self.of_new(it) for it in self.requests if it.due >= settled and not it.error)]

    @property
    def repair_at(self) -> float | None:
        """When the endpoint was first seen to be deployed again, after the new fleet's end."""
        settled = self.settled_at
        if settled is None:
            return None
        return _first(self.states, lambda it: it.at > settled and it.active is not None)

    @property
    def first_bad_at(self) -> float | None:
        """When a bad version's first bad answer arrived: a good one may be late now and then."""
        return None if self.good else min((it.done for it in self.requests if self.bad(it)), default=None)

    @property
    def rolled_back_at(self) -> float | None:
        """When a bad version's fleet was first seen to be gone."""
        return None if self.good else self.settled_at

    @property
    def exposed(self) -> list[Request]:
        """The requests of which a part went to the new fleet: from before it was seen with traffic to after its end."""
        began, until = self.canary_at, self._after(self.back_at)
        if began is None:
            return []
        since = max((it.at for it in self.states if it.at < began), default=began)
        return [it for it in self.requests if since <= it.due < until]

    def aws_seconds(self, began: float | None, ended: float | None) -> float | None:
        """From one moment to another on AWS; None if one of them never came."""
        if began is None or ended is None:
            return None
        return round((ended - began) * self.setting.factor, 1)

    def _after(self, at: float | None) -> float:
        """The look after that at `at`, or never: a look tells how it was at some moment between the two."""
        found = None if at is None else _first(self.states, lambda it: it.at > at)
        return math.inf if found is None else found


def _first(states: Iterable[State], holds: Callable[[State], bool]) -> float | None:
    return next((state.at for state in states if holds(state)), None)
