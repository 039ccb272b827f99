"""Timelines that are written, not played: one request every tenth of a second, a look every half."""

import dataclasses

from local.rollout.played import Setting
from local.rollout.timeline import Deployment, Request, State, Timeline

SETTING = Setting(factor=60, canary=0.5, threshold=1.0)
ALARMS = {"Errors": "OK", "Latency": "OK"}
# Seconds from the approval on: canary from 4 to 8, then all traffic or back; quiet at 12.
CANARY, NEXT, END = 4.0, 8.0, 12.0


def timeline(*, good: bool, every: int = 2, error: str = "", seconds: float = 0.1) -> Timeline:
    """One deployment: every n-th request of the canary's time goes to the new version, and all later ones if it is good.

    Its answers take `seconds`, or are an `error`. Before the approval the load has run for a second.
    """
    requests = []
    for number in range(-10, 120):
        due = number / 10
        new = (CANARY <= due < NEXT and number % every == 0) or (good and due >= NEXT)
        took = seconds if new else 0.01
        failed = error if new else ""
        answer = "" if failed else ("new" if new else "old")
        requests.append(Request(number + 10, due, due + took, failed, answer))
    states = [state(half / 2, good=good) for half in range(-2, 24)]
    return Timeline(requests, states, [deployment(good=good)], len(requests))


def state(at: float, *, good: bool) -> State:
    if at < 1:
        return State(at, "InService", "before", "", None, ALARMS)
    if at < CANARY:
        return State(at, "Updating", "before", "Creating: Launching 2 instance(s).", 0.0, ALARMS)
    if at < NEXT:
        rings = "ALARM" if not good and at >= NEXT - 1 else "OK"
        return State(at, "Updating", "before", "Baking: for a while", 0.5, ALARMS | {"Errors": rings})
    if at < NEXT + 1:
        return State(at, "Updating", "before", "", 1.0 if good else 0.0, ALARMS)
    return State(at, "InService", "after" if good else "before", "", None, ALARMS)


def deployment(*, good: bool) -> Deployment:
    return Deployment(
        name="good" if good else "failing",
        version=2,
        expected="in service" if good else "rolled back",
        alarm="" if good else "Errors",
        approved=0.0,
        ended=END,
        config="before",
        result="in service" if good else "rolled back",
        reason="for a reason",
        stack="UPDATE_COMPLETE" if good else "UPDATE_ROLLBACK_COMPLETE",
        repairs=0,
        before=1,
        after=2 if good else 1,
    )


def but(timeline: Timeline, **deployed: object) -> Timeline:
    """The same with other facts about its deployment."""
    (one,) = timeline.deployments
    return dataclasses.replace(timeline, deployments=[dataclasses.replace(one, **deployed)])


def failing_at(timeline: Timeline, *moments: float, error: str = "ServiceUnavailable") -> Timeline:
    """The same, but the requests that were due at these moments failed."""
    requests = [
        dataclasses.replace(it, error=error, answer="") if it.due in moments else it
        for it in timeline.requests
    ]
    return dataclasses.replace(timeline, requests=requests)
