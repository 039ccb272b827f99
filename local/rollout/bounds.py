"""What must hold of a deployment. Pure."""

from __future__ import annotations

import dataclasses
import math

from local.rollout.played import BEFORE, NEW, Played

_DEVIATIONS = 3  # of the binomial distribution: the router draws each request's fleet


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


def of(one: Played, repairs: int) -> list[Bound]:
    """What must hold of one; `repairs` is how often the check has to put a rolled back one right."""
    deployment = one.deployment
    if one.good:
        version, who, repairs, more = deployment.version, NEW, 0, _of_good(one)
    else:
        version, who, more = deployment.before, BEFORE, _of_bad(one)
    bounds = [
        Bound("how it ended", deployment.result, deployment.expected, equal=True),
        Bound("alarms that rang", ", ".join(one.rang) or "none", deployment.alarm or "none", equal=True),
        Bound("the version in service at its end", deployment.after, version, equal=True),
        Bound("who answers at its end", one.answering, who, equal=True),
        Bound("repairs by the check after the rollout", deployment.repairs, repairs, equal=True),
        *more,
    ]
    return [dataclasses.replace(bound, what=f"{deployment.name}: {bound.what}") for bound in bounds]


def _of_good(one: Played) -> list[Bound]:
    return [Bound("failed requests", len(one.failed), 0)]


def _of_bad(one: Played) -> list[Bound]:
    exposed, canary = one.exposed, one.setting.canary
    numbers = {it.number for it in exposed}
    bad = [it for it in one.requests if one.bad(it)]
    inside = sum(it.number in numbers for it in bad)
    share = f"the canary's share, {canary:.0%} of {len(exposed)}, and a margin"
    return [
        # Else the next two would hold of a rollout that nobody noticed.
        Bound("a bad answer was seen", bool(bad), True, equal=True),
        Bound(f"bad answers until the rollback ({share})", inside, _most(len(exposed), canary)),
        Bound("bad answers at any other time", len(bad) - inside, 0),
        Bound("the rollback was seen", one.back_at is not None, True, equal=True),
    ]


def _most(requests: int, share: float) -> float:
    """The most that may go to the canary of so many requests."""
    return math.floor(share * requests + _DEVIATIONS * math.sqrt(requests * share * (1 - share)))
