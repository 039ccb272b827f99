"""What the timeline says in figures, and the bounds that it must keep. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lambdas import registry
from local.rollout.played import Bound, Played, Setting
from local.rollout.timeline import NO_ANSWER, Timeline


def played(timeline: Timeline, setting: Setting) -> list[Played]:
    """Every deployment."""
    return [Played(timeline, deployment, setting) for deployment in timeline.deployments]


def report(timeline: Timeline, setting: Setting, *, rate: float, rollback: str) -> dict[str, Any]:
    """report.json. `rollback` is whether CloudFormation is told of one, or not ("silent")."""
    answered = sum(it.error != NO_ANSWER for it in timeline.requests)
    each = played(timeline, setting)
    bounds = [Bound("requests sent, and answered", answered, timeline.scheduled, equal=True)]
    between = [it for it in timeline.requests if it.error and not any(it in part.requests for part in each)]
    bounds.append(Bound("failed requests before, between and after the deployments", len(between), 0))
    for one in each:
        bounds += one.bounds(1 if rollback == "silent" else 0)
    return {
        "factor": setting.factor,
        "rate": rate,
        "rollback": rollback,
        "sent": timeline.scheduled,
        "answered": answered,
        "latency_threshold_milliseconds": setting.threshold * 1000,
        "deployments": [one.figures() for one in each],
        "bounds": [{**dataclasses.asdict(bound), "holds": bound.holds} for bound in bounds],
    }


def broken(report: Mapping[str, Any]) -> list[str]:
    """The bounds that do not hold, each as a line."""
    return [
        f"{bound['what']}: {bound['value']}, {'not' if bound['equal'] else 'more than'} {bound['limit']}"
        for bound in report["bounds"]
        if not bound["holds"]
    ]


def ending(one: Played) -> str:
    """How it ended, as a title says it."""
    deployment, alarm = one.deployment, one.alarm
    failed = sum(bool(it.error) for it in one.requests)
    if deployment.result == registry.IN_SERVICE:
        return f"in service by canary, {failed} of {len(one.requests)} requests failed"
    minutes = one.figures()["aws_seconds"]["first_bad_answer_to_full_rollback"]
    after = "" if minutes is None else f" {minutes / 60:.1f}\N{NO-BREAK SPACE}min after its first bad answer"
    by = f" by the {alarm[1]} alarm" if alarm else ""
    mended = "" if not deployment.repairs else "; the check repaired the stack"
    return f"{deployment.result}{by}{after}{mended}"


def summary(report: Mapping[str, Any], endings: Sequence[str]) -> str:
    """The lines at the end, for the person at the terminal."""
    lines = [f"{report['answered']:,} of {report['sent']:,} requests answered"]
    for deployment, said in zip(report["deployments"], endings, strict=True):
        lines.append(
            f"  {deployment['name']:<8} {said}; bad answers: {deployment['bad_answers']} of {deployment['sent']}"
        )
    return "\n" + "\n".join(lines)
