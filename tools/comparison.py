"""Champion and challenger compared on what they answered and what came true: numbers, intervals, and a verdict. Pure.

The number of answers is fixed beforehand by the smallest difference that matters, the confidence and the power: who
looks again and again and stops at the first difference sees one far too often. So before it there is no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.metrics import log_loss

from stacks.option_config import CHALLENGER, CHAMPION
from tools import proportions


@dataclasses.dataclass(frozen=True)
class Settings:
    """What counts as a difference: `experiment` of cdk.json."""

    kind: str
    minimum_effect: float
    confidence: float
    power: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One answer: the probability of class 1, and the class that was decided for."""

    score: float
    label: int


Answers = Mapping[str, Prediction]  # by the inference id
Truth = Mapping[str, int]


def compare(answers: Mapping[str, Answers], truth: Truth, settings: Settings) -> dict[str, Any]:
    """The report on both variants' answers; of a shadow on those that both have given, else of each on its own."""
    shadow = settings.kind == "SHADOW"
    known = {name: {key for key in answers[name] if key in truth} for name in (CHAMPION, CHALLENGER)}
    if shadow:
        known = dict.fromkeys(known, known[CHAMPION] & known[CHALLENGER])
    ids = {name: sorted(keys) for name, keys in known.items()}
    arms = {
        name: _arm(answers[name], ids[name], truth, settings.confidence) for name in (CHAMPION, CHALLENGER)
    }
    found = _paired(answers, ids[CHAMPION], truth, settings) if shadow else _apart(arms, settings)
    report = {
        "kind": settings.kind,
        "arms": arms,
        "minimum_effect": settings.minimum_effect,
        "confidence": settings.confidence,
        "power": settings.power,
        **found,
    }
    return report | {"verdict": verdict(report)}


def verdict(report: Mapping[str, Any]) -> str:
    """What follows, as soon as there are as many answers as were needed."""
    if more := report["needed"]["more"]:
        return f"too early: about {more} more requests"
    low, high = report["interval"]
    if low > 0:
        return "worse"
    if high < 0:
        return "better"
    return f"no difference larger than {max(-low, high):.3g}"


def text(report: Mapping[str, Any], *, title: str) -> str:
    """The report for a person: rates and their difference in percent."""
    lines = [
        title,
        "",
        f"{'':12}{'answers':>9}{'with truth':>12}{'errors':>8}   error rate {'[' + _whole(report['confidence']) + ']':<20}log loss",
    ]
    for name, arm in report["arms"].items():
        loss = "-" if arm["log_loss"] is None else f"{arm['log_loss']:.4f}"
        lines.append(
            f"{name:12}{arm['answers']:>9}{arm['with_truth']:>12}{arm['errors']:>8}"
            f"   {_percent(arm['error_rate']):>7} {_interval(arm['interval']):<20}{loss:>7}"
        )
    for name, arm in report["arms"].items():
        if service := arm.get("service"):
            lines.append(_service(name, service))
    if "agreement" in report:
        agreed = report["agreement"]
        lines.append(f"Both decide alike: {_percent(agreed['share'])} {_interval(agreed['interval'])}")
    difference = _percent(report["difference"], sign=True)
    needed = (
        f"Needed to see {_percent(report['minimum_effect'])} points with confidence {_whole(report['confidence'])} and "
        f"power {_whole(report['power'])}: {report['needed']['per_arm']} answers with truth an arm, if both get as many."
    )
    lines += [
        "",
        f"Challenger's error rate less the champion's: {difference} points {_interval(report['interval'])}",
        needed,
        f"Challenger: {report['verdict']}",
    ]
    return "\n".join(lines) + "\n"


def _arm(answers: Answers, ids: Sequence[str], truth: Truth, confidence: float) -> dict[str, Any]:
    labels = [truth[key] for key in ids]
    errors = sum(answers[key].label != truth[key] for key in ids)
    scores = [answers[key].score for key in ids]
    return {
        "answers": len(answers),
        "with_truth": len(ids),
        "errors": errors,
        "error_rate": errors / len(ids) if ids else None,
        "interval": proportions.rate(errors, len(ids), confidence=confidence),
        "log_loss": float(log_loss(labels, scores, labels=[0, 1])) if ids else None,
    }


def _apart(arms: Mapping[str, Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """Two samples: what is needed follows from the rate of both together, which does not tell them apart."""
    first, second = ((arms[name]["errors"], arms[name]["with_truth"]) for name in (CHAMPION, CHALLENGER))
    total = first[1] + second[1]
    per_arm = proportions.needed(
        (first[0] + second[0]) / total if total else 0.5,
        effect=settings.minimum_effect,
        confidence=settings.confidence,
        power=settings.power,
    )
    # Arms of other sizes are worth as much as two of their harmonic mean.
    share = second[1] / total if first[1] and second[1] else 0.5
    more = max(0, math.ceil(per_arm / (2 * share * (1 - share)) - total))
    return {
        "difference": _less(second, first),
        "interval": proportions.difference(first, second, confidence=settings.confidence),
        "needed": {"per_arm": per_arm, "more": more},
    }


def _paired(
    answers: Mapping[str, Answers], ids: Sequence[str], truth: Truth, settings: Settings
) -> dict[str, Any]:
    """Pairs: only what one alone got wrong tells them apart."""
    wrong = [tuple(answers[name][key].label != truth[key] for name in (CHAMPION, CHALLENGER)) for key in ids]
    cells = [wrong.count(it) for it in ((True, True), (True, False), (False, True), (False, False))]
    both, first, second, neither = cells
    count = len(ids)
    per_arm = proportions.needed_pairs(
        (first + second) / count if count else 0.5,
        effect=settings.minimum_effect,
        confidence=settings.confidence,
        power=settings.power,
    )
    alike = sum(answers[CHAMPION][key].label == answers[CHALLENGER][key].label for key in ids)
    return {
        "difference": (second - first) / count if count else None,
        "interval": proportions.paired_difference(
            both, first, second, neither, confidence=settings.confidence
        ),
        "needed": {"per_arm": per_arm, "more": max(0, per_arm - count)},
        "agreement": {
            "share": alike / count if count else None,
            "interval": proportions.rate(alike, count, confidence=settings.confidence),
        },
    }


def _less(one: tuple[int, int], other: tuple[int, int]) -> float | None:
    return one[0] / one[1] - other[0] / other[1] if one[1] and other[1] else None


def _service(name: str, service: Mapping[str, Any]) -> str:
    latency = service["latency_milliseconds"]
    told = (
        f"{latency['average']:.1f} ms on average, {latency['maximum']:.1f} at most"
        if latency
        else "no latency"
    )
    return f"{name:12}{service['invocations']:>9} invocations, {service['server_errors']} failed; {told}"


def _percent(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.2f} %"


def _whole(share: float) -> str:
    return f"{100 * share:g} %"


def _interval(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"[{100 * low:.2f}, {100 * high:.2f}]"
