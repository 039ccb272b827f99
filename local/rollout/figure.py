"""The picture: one timeline in as many columns as deployments, and four rows, each a question that a reader has.

Who answers, how fast, what fails, and which alarm rings. Minutes are AWS's, since each approval. Blue is the version
that serves before, orange the new one; what is wrong is dark and hatched, so that it can be read without colour.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from local.rollout.played import Played
from local.rollout.report import ending
from local.rollout.timeline import Request
from local.rollout.watch import EVERY_SECONDS

OLD, NEW, WRONG, QUIET, EDGE = "#9ec5e8", "#d55e00", "#3d0c02", "#e6eff6", "#444444"
KINDS = {
    "ModelError": ("the model's (424)", WRONG, ""),
    "ServiceUnavailable": ("unavailable (503)", "#999999", "///"),
    "": ("any other", "#ffffff", "xxx"),
}
STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
    "svg.hashsalt": "rollout",
}
TITLES = {"good": "A good model", "slow": "A slow model", "failing": "A model that fails"}
BEHIND = {"boxstyle": "square,pad=0.1", "linewidth": 0}
Width = Callable[[str], float]
_CHARACTERS = 135  # of the titles, on one line of all columns together
_BIN = 1.0  # AWS minutes


def write(each: Sequence[Played], folder: Path) -> None:
    """`rollout.svg` and `rollout.png`."""
    with mpl.rc_context(STYLE):
        figure = draw(each)
        figure.savefig(folder / "rollout.svg", metadata={"Date": None})
        figure.savefig(folder / "rollout.png", dpi=110)


def draw(each: Sequence[Played]) -> Figure:
    """The figure of these deployments, the first at the left."""
    figure = Figure(figsize=(16, 9.6), layout="constrained")
    lengths = [_minutes(one, one.deployment.ended) for one in each]
    grid = figure.subplots(
        4,
        len(each),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"width_ratios": lengths, "height_ratios": [1.25, 1.25, 0.8, 0.6]},
    )

    def width(text: str) -> float:
        """About how many minutes a small text covers."""
        return 0.0056 * (len(text) + 1) * sum(lengths)

    most = max((_most_errors(one) for one in each), default=0)
    for column, (one, length) in enumerate(zip(each, lengths, strict=True)):
        axes: list[Axes] = list(grid[:, column])
        _shares(axes[0], one, length)
        _latency(axes[1], one)
        _errors(axes[2], one, most)
        _alarms(axes[3], one, length, width)
        _names(axes[0], one, width)
        name = one.deployment.name
        axes[0].set_title(
            f"{TITLES.get(name, name)}:\n{textwrap.fill(ending(one), int(_CHARACTERS * length / sum(lengths)))}",
            loc="left",
            fontsize=13,
            fontweight="bold",
            pad=28,
        )
        axes[-1].set_xlabel("minutes of AWS since the approval")
        axes[0].set_xlim(0, length)
        for axis in axes:
            _marks(axis, one)
    for axis, text in zip(
        grid[:, 0], ("traffic", "latency", "failed requests\na minute", "alarms"), strict=True
    ):
        axis.set_ylabel(text, fontweight="bold")
    _legend(figure)
    return figure


def _shares(axis: Axes, one: Played, length: float) -> None:
    """Who answered, of the requests sent in each minute, and the share that the rollout gives the new version."""
    edges = _bins(one)
    new = _each_bin(one, edges, lambda found: 100 * sum(map(one.of_new, found)) / len(found) if found else 0)
    axis.bar(edges, 100, _BIN, align="edge", color=OLD, linewidth=0)
    axis.bar(edges, new, _BIN, align="edge", color=NEW, linewidth=0)
    times = [0.0, *(_minutes(one, state.at) for state in one.states), length]
    # A repair deploys the version before anew: that fleet is not the new version's.
    repair = math.inf if one.repair_at is None else one.repair_at
    stages = [100 * one.share(state) if state.at < repair else 0.0 for state in one.states]
    axis.step(times, [0.0, *stages, stages[-1]], where="post", color="black", linewidth=2)
    axis.set_ylim(0, 104)
    axis.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    axis.grid(visible=False)


def _latency(axis: Axes, one: Played) -> None:
    """Each answered request, and of each minute the median and the 99th percentile."""
    for new, colour, marker, size in ((False, "#3f7fb5", "o", 9), (True, NEW, "^", 14)):
        chosen = [it for it in one.requests if one.of_new(it) is new and not it.error]
        axis.scatter(
            [_minutes(one, it.due) for it in chosen],
            [1000 * it.seconds for it in chosen],
            s=size,
            c=colour,
            marker=marker,
            linewidths=0,
            alpha=0.55,
        )
    edges = _bins(one)
    for part, style in ((50, "-"), (99, "--")):
        line = _each_bin(
            one,
            edges,
            lambda found, part=part: (
                1000  # type: ignore[misc]
                * float(np.percentile([it.seconds for it in found], part, method="higher"))
                if found
                else math.nan
            ),
        )
        axis.plot(edges + _BIN / 2, line, style, color="black", linewidth=1.5)
    axis.axhline(1000 * one.setting.threshold, color=WRONG, linewidth=1.8, linestyle=(0, (1, 1)))
    axis.set_yscale("log")
    axis.set_yticks([10, 100, 1000], ["10 ms", "100 ms", "1 s"])


def _errors(axis: Axes, one: Played, most: float) -> None:
    """Failed requests of each minute, by kind; where there is none, it says so."""
    edges = _bins(one)
    bottom = np.zeros(len(edges))
    for kind, (_, colour, hatch) in KINDS.items():
        counts = _each_bin(one, edges, lambda found, kind=kind: sum(_kind(it) == kind for it in found))  # type: ignore[misc]
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
            bbox=dict(BEHIND, color="white"),
        )
    axis.set_ylim(0, max(1.0, 1.1 * most))
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _alarms(axis: Axes, one: Played, length: float, width: Width) -> None:
    """A band for each alarm: pale while it is quiet, dark while it rings."""
    names = sorted({name for state in one.states for name in state.alarms}, reverse=True)
    looks = [*((_minutes(one, state.at), state.alarms) for state in one.states), (length, {})]
    for row, name in enumerate(names):
        axis.barh(row, length, 0.7, color=QUIET, edgecolor="#b5c7d6", linewidth=0.8)
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
            bbox=dict(BEHIND, color=QUIET),
        )
        if ringing:
            began, ended = ringing[0][0], sum(ringing[-1])
            inside = ended - began > width("ALARM")
            place, colour = ((began + ended) / 2, "white") if inside else (ended + width(" "), WRONG)
            side = "center" if inside else "left"
            axis.text(place, row, "ALARM", color=colour, ha=side, va="center", fontsize=9)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(visible=False)


def _marks(axis: Axes, one: Played) -> None:
    """Where the stages begin."""
    for _, at in _stages(one):
        axis.axvline(_minutes(one, at), color=EDGE, linewidth=0.9, linestyle=(0, (4, 3)))


def _names(axis: Axes, one: Played, width: Width) -> None:
    """The names of the stages above the first row, a line higher where they would cover one another."""
    free = [0.0, 0.0, 0.0]
    for text, at in _stages(one):
        moment = _minutes(one, at)
        level = next((level for level, until in enumerate(free) if moment >= until), 0)
        free[level] = moment + width(text)
        axis.annotate(
            text,
            (moment, 101),
            xytext=(2, 12 * level),
            textcoords="offset points",
            annotation_clip=False,
            fontsize=9.5,
        )


def _stages(one: Played) -> list[tuple[str, float]]:
    rolled_back = one.back_at if not one.good else None
    found = [("instances start", one.starting_at), ("canary", one.canary_at)]
    found += [("all traffic", one.full_at), ("traffic back", rolled_back)]
    found.append(("done", one.settled_at) if one.good else ("the check repairs", one.repair_at))
    return [(text, at) for text, at in found if at is not None]


def _legend(figure: Figure) -> None:
    handles = [
        Patch(color=OLD, label="answered by the version before"),
        Patch(color=NEW, label="answered by the new version"),
        Line2D([], [], color="black", linewidth=2, label="share given to it by the rollout"),
        Line2D([], [], color="black", linewidth=1.5, label="latency: median"),
        Line2D([], [], color="black", linewidth=1.5, linestyle="--", label="99th percentile"),
        Line2D([], [], color=WRONG, linewidth=1.8, linestyle=(0, (1, 1)), label="alarm's threshold"),
        *(
            Patch(facecolor=colour, hatch=hatch, edgecolor=EDGE, label=f"failed: {text}")
            for text, colour, hatch in KINDS.values()
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=10.5)


def _kind(request: Request) -> str | None:
    if not request.error:
        return None
    return request.error if request.error in KINDS else ""


def _most_errors(one: Played) -> float:
    return float(
        max(_each_bin(one, _bins(one), lambda found: sum(bool(it.error) for it in found)), default=0)
    )


def _bins(one: Played) -> Any:
    """Where each minute begins; one of them where the canary does, at the earliest moment that it may have."""
    length = _minutes(one, one.deployment.ended)
    began = 0.0 if one.canary_at is None else _minutes(one, one.canary_at - EVERY_SECONDS)
    return np.arange(began % _BIN - _BIN, length, _BIN)


def _each_bin(one: Played, edges: Any, value: Callable[[list[Request]], float]) -> Any:
    """One value for the requests that were due in each bin."""
    bins: list[list[Request]] = [[] for _ in edges]
    for request in one.requests:
        place = int((_minutes(one, request.due) - edges[0]) // _BIN)
        if place < len(bins):
            bins[place].append(request)
    return np.array([value(found) for found in bins], dtype=float)


def _minutes(one: Played, moment: float) -> float:
    """Minutes of AWS since the approval."""
    return (moment - one.deployment.approved) * one.setting.factor / 60
