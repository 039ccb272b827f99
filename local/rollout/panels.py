"""The four rows of the picture, each a question: who answers, how fast, what fails, which alarm rings.

Each function draws one row of one deployment. Blue is the version that serves before, orange the new one; what is wrong
is dark or hatched, so that it can be read without colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from local.rollout.played import Played
from local.rollout.timeline import Request
from local.rollout.watch import EVERY_SECONDS

OLD, NEW, WRONG, QUIET, EDGE = "#9ec5e8", "#d55e00", "#3d0c02", "#e6eff6", "#444444"
OLD_LINE, NEW_LINE = "#1f5f99", "#a34700"
SHARE: dict[str, Any] = {"color": "black", "linewidth": 2}
SLOWEST: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": (0, (4, 2))}
THRESHOLD: dict[str, Any] = {"color": WRONG, "linewidth": 2, "linestyle": (0, (1, 1))}
KINDS = {
    "ModelError": ("the model's (424)", WRONG, ""),
    "ServiceUnavailable": ("unavailable (503)", "#999999", "///"),
    "": ("any other", "#ffffff", "xxx"),
}
_BEHIND = {"boxstyle": "square,pad=0.1", "linewidth": 0}
_BIN = 1.0  # AWS minutes


def shares(axis: Axes, one: Played) -> None:
    """Who answered, of the requests sent in each minute, and the share that the rollout gives the new version."""
    edges = _bins(one)
    of_new = _each_bin(
        one, one.requests, lambda found: 100 * sum(map(one.of_new, found)) / max(1, len(found))
    )
    axis.bar(edges, 100, _BIN, align="edge", color=OLD, linewidth=0)
    axis.bar(edges, of_new, _BIN, align="edge", color=NEW, linewidth=0)
    # A repair deploys the version before anew: that fleet is not the new version's.
    repair = math.inf if one.repair_at is None else one.repair_at
    stages = [100 * one.share(state) if state.at < repair else 0.0 for state in one.states]
    times = [0.0, *(minutes(one, state.at) for state in one.states), length(one)]
    axis.step(times, [0.0, *stages, stages[-1]], where="post", **SHARE)
    axis.set_ylim(0, 104)
    axis.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    axis.grid(visible=False)
    _taken_back(axis, one)


def _taken_back(axis: Axes, one: Played) -> None:
    """How long a bad version could be met: from its first bad answer until its fleet is gone."""
    if one.first_bad_at is None or one.rolled_back_at is None:
        return
    began, ended = minutes(one, one.first_bad_at), minutes(one, one.rolled_back_at)
    axis.annotate(
        "",
        (began, 82),
        (ended, 82),
        arrowprops={"arrowstyle": "<|-|>", "color": "black", "shrinkA": 0, "shrinkB": 0},
    )
    axis.text(
        (began + ended) / 2,
        86,
        f"{ended - began:.1f} min",
        ha="center",
        va="bottom",
        fontsize=10,
        bbox=dict(_BEHIND, color=OLD),
    )


def latency(axis: Axes, one: Played) -> None:
    """Each answered request, each version's median of a minute, and the 99th percentile of all, as the alarm has it."""
    middles = _bins(one) + _BIN / 2
    outline = [patheffects.withStroke(linewidth=4, foreground="white")]
    for new, colour, line, marker, size in (
        (False, OLD_LINE, OLD_LINE, "o", 9),
        (True, NEW, NEW_LINE, "^", 14),
    ):
        chosen = [it for it in one.requests if one.of_new(it) is new and not it.error]
        axis.scatter(
            [minutes(one, it.due) for it in chosen],
            [1000 * it.seconds for it in chosen],
            s=size,
            c=colour,
            marker=marker,
            linewidths=0,
            alpha=0.4,
        )
        median = _each_bin(one, chosen, lambda found: _milliseconds(found, 50))
        axis.plot(middles, median, color=line, linewidth=2.2, path_effects=outline)
    axis.plot(middles, _each_bin(one, one.requests, lambda found: _milliseconds(found, 99)), **SLOWEST)
    axis.axhline(1000 * one.setting.threshold, **THRESHOLD)
    axis.set_yscale("log")
    axis.set_yticks([10, 100, 1000], ["10 ms", "100 ms", "1 s"])
    axis.minorticks_off()


def errors(axis: Axes, one: Played, most: float) -> None:
    """Failed requests of each minute, by kind; where there is none, it says so."""
    edges = _bins(one)
    bottom = np.zeros(len(edges))
    for name, (_, colour, hatch) in KINDS.items():
        counts = _each_bin(one, [it for it in one.failed if kind(it) == name], len)
        axis.bar(
            edges,
            counts,
            _BIN,
            bottom=bottom,
            align="edge",
            color=colour,
            hatch=hatch,
            edgecolor=EDGE,
            linewidth=0.5,
        )
        bottom += counts
    if not bottom.any():
        axis.text(
            0.5,
            0.5,
            "none",
            transform=axis.transAxes,
            ha="center",
            va="center",
            color=EDGE,
            fontsize=12,
            bbox=dict(_BEHIND, color="white"),
        )
    axis.set_ylim(0, max(1.0, 1.1 * most))
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def alarms(axis: Axes, one: Played, wide: float) -> None:
    """A band for each alarm: pale while it is quiet, dark while it rings; `wide` is a word in minutes."""
    names = sorted({name for state in one.states for name in state.alarms}, reverse=True)
    looks = [*((minutes(one, state.at), state.alarms) for state in one.states), (length(one), {})]
    for row, name in enumerate(names):
        axis.barh(row, length(one), 0.7, color=QUIET, edgecolor="#b5c7d6", linewidth=0.8)
        ringing = [
            (at, until - at)
            for (at, alarms), (until, _) in itertools.pairwise(looks)
            if alarms.get(name) == "ALARM"
        ]
        axis.broken_barh(ringing, (row - 0.35, 0.7), color=WRONG, linewidth=0)
        axis.annotate(
            "OK",
            (0, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox=dict(_BEHIND, color=QUIET),
        )
        if ringing:
            began, ended = ringing[0][0], sum(ringing[-1])
            inside = ended - began > wide
            place, colour = ((began + ended) / 2, "white") if inside else (ended + wide / 6, WRONG)
            side = "center" if inside else "left"
            behind = dict(_BEHIND, color=WRONG if inside else QUIET)
            axis.text(
                place,
                row,
                "ALARM",
                color=colour,
                ha=side,
                va="center",
                fontsize=9,
                fontweight="bold",
                bbox=behind,
            )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(visible=False)


def kind(request: Request) -> str:
    """Of KINDS, what became of a request that failed."""
    return request.error if request.error in KINDS else ""


def most_errors(one: Played) -> float:
    """The failed requests of its worst minute."""
    return float(max(_each_bin(one, one.failed, len), default=0))


def minutes(one: Played, moment: float) -> float:
    """Minutes of AWS since the approval."""
    return (moment - one.deployment.approved) * one.setting.factor / 60


def length(one: Played) -> float:
    """Minutes of AWS from the approval to the end."""
    return minutes(one, one.deployment.ended)


def _milliseconds(requests: Sequence[Request], part: float) -> float:
    """A percentile of their latencies; no number where there is none."""
    seconds = [it.seconds for it in requests]
    return 1000 * float(np.percentile(seconds, part, method="higher")) if seconds else math.nan


def _bins(one: Played) -> Any:
    """Where each minute begins; one of them where the canary does, at the earliest moment that it may have."""
    began = 0.0 if one.canary_at is None else minutes(one, one.canary_at - EVERY_SECONDS)
    return np.arange(began % _BIN - _BIN, length(one), _BIN)


def _each_bin(one: Played, requests: Sequence[Request], value: Callable[[list[Request]], float]) -> Any:
    """One value for those of the requests that were due in each bin."""
    edges = _bins(one)
    bins: list[list[Request]] = [[] for _ in edges]
    for request in requests:
        place = int((minutes(one, request.due) - edges[0]) // _BIN)
        if place < len(bins):
            bins[place].append(request)
    return np.array([value(found) for found in bins], dtype=float)
