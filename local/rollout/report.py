"""What the timeline says in figures and in words. Pure."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lambdas import registry
from local.rollout import bounds
from local.rollout.bounds import Bound
from local.rollout.played import Played, Setting
from local.rollout.timeline import NO_ANSWER, Request, Timeline


def played(timeline: Timeline, setting: Setting) -> list[Played]:
    """Every deployment."""
    return [Played(timeline, deployment, setting) for deployment in timeline.deployments]


def report(timeline: Timeline, setting: Setting, *, rate: float, rollback: str) -> dict[str, Any]:
    """report.json. `rollback` is whether CloudFormation is told of one, or not ("silent")."""
    answered = _answered(timeline.requests)
    each = played(timeline, setting)
    found = [Bound("requests sent, and answered", answered, timeline.scheduled, equal=True)]
    between = [it for it in timeline.requests if it.error and not any(it in part.requests for part in each)]
    found.append(Bound("failed requests before, between and after the deployments", len(between), 0))
    for one in each:
        found += bounds.of(one, 1 if rollback == "silent" else 0)
    return {
        "factor": setting.factor,
        "rate": rate,
        "rollback": rollback,
        "sent": timeline.scheduled,
        "answered": answered,
        "latency_threshold_milliseconds": setting.threshold * 1000,
        "deployments": [_figures(one) for one in each],
        "bounds": [{**dataclasses.asdict(bound), "holds": bound.holds} for bound in found],
    }


def broken(report: Mapping[str, Any]) -> list[str]:
    """The bounds that do not hold, each as a line."""
    return [
        f"{bound['what']}: {bound['value']}, {'not' if bound['equal'] else 'more than'} {bound['limit']}"
        for bound in report["bounds"]
        if not bound["holds"]
    ]


def ending(one: Played) -> tuple[str, str]:
    """How it ended, as a title and the line below say it."""
    deployment = one.deployment
    if deployment.result == registry.IN_SERVICE:
        return deployment.result, f"by canary, {len(one.failed)} of {len(one.requests)} requests failed"
    how = [f"by the {name} alarm" for name in [*one.rang][:1]]
    seconds = one.aws_seconds(one.first_bad_at, one.rolled_back_at)
    if seconds is not None:
        how.append(f"{seconds / 60:.1f}\N{NO-BREAK SPACE}min after its first bad answer")
    mended = "; the check repaired the stack" if deployment.repairs else ""
    return deployment.result, ", ".join(how) + mended


def summary(report: Mapping[str, Any], endings: Sequence[tuple[str, str]]) -> str:
    """The lines at the end, for the person at the terminal."""
    lines = [f"{report['answered']:,} of {report['sent']:,} requests answered"]
    for deployment, (result, how) in zip(report["deployments"], endings, strict=True):
        good = result == registry.IN_SERVICE  # late answers of a version that stays are the machine's
        bad = "" if good else f"; bad answers: {deployment['bad_answers']} of {deployment['sent']}"
        lines.append(f"  {deployment['name']:<8} {result} {how}{bad}")
    return "\n" + "\n".join(lines)


def _figures(one: Played) -> dict[str, Any]:
    """The report's part on one deployment."""
    deployment = one.deployment
    rang = min(one.rang.values(), default=None)
    return {
        "name": deployment.name,
        "version": deployment.version,
        "ending": deployment.result,
        "reason": deployment.reason,
        "version_before": deployment.before,
        "version_after": deployment.after,
        "stack": deployment.stack,
        "repairs": deployment.repairs,
        "sent": len(one.requests),
        "answered": _answered(one.requests),
        "failed": len(one.failed),
        "failed_by_kind": dict(Counter(it.error for it in one.failed)),
        "bad_answers": sum(map(one.bad, one.requests)),
        "canary_share": one.setting.canary,
        "sent_while_exposed": len(one.exposed),
        "alarms": list(one.rang),
        "aws_seconds": {
            "approval_to_canary": one.aws_seconds(deployment.approved, one.canary_at),
            "canary_to_full": one.aws_seconds(one.canary_at, one.full_at),
            "first_bad_answer_to_alarm": one.aws_seconds(one.first_bad_at, rang),
            "first_bad_answer_to_traffic_back": one.aws_seconds(one.first_bad_at, one.back_at),
            "first_bad_answer_to_full_rollback": one.aws_seconds(one.first_bad_at, one.rolled_back_at),
            "approval_to_end": one.aws_seconds(deployment.approved, deployment.ended),
        },
        "milliseconds": {"old_version": _quantiles(one, new=False), "new_version": _quantiles(one, new=True)},
    }


def _answered(requests: Sequence[Request]) -> int:
    return sum(it.error != NO_ANSWER for it in requests)


def _quantiles(one: Played, *, new: bool) -> dict[str, float] | None:
    seconds = sorted(it.seconds for it in one.requests if not it.error and one.of_new(it) is new)
    if not seconds:
        return None
    p99 = seconds[math.ceil(0.99 * len(seconds)) - 1]
    return {"p50": round(1000 * statistics.median(seconds), 1), "p99": round(1000 * p99, 1)}
