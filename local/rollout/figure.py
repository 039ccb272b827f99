"""The picture: one timeline in as many columns as deployments, and four rows (`panels`). Minutes are AWS's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from local.rollout import panels
from local.rollout.panels import EDGE, minutes
from local.rollout.played import Played
from local.rollout.report import ending

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
_MARK: dict[str, Any] = {"color": EDGE, "linewidth": 0.9, "linestyle": (0, (4, 3))}
_CHARACTERS = 180  # of the lines below the titles, in all columns together
_LINE = 12  # points, of the stages' names


def write(each: Sequence[Played], folder: Path) -> None:
    """`rollout.svg` and `rollout.png`."""
    with mpl.rc_context(STYLE):
        figure = draw(each)
        figure.savefig(folder / "rollout.svg", metadata={"Date": None})
        figure.savefig(folder / "rollout.png", dpi=110)


def draw(each: Sequence[Played]) -> Figure:
    """The figure of these deployments, the first at the left."""
    figure = Figure(figsize=(16, 9.6), layout="constrained")
    grid = figure.subplots(
        4, len(each), sharex="col", sharey="row", squeeze=False, height_ratios=[1.25, 1.25, 0.8, 0.6]
    )
    endings = [ending(one) for one in each]
    below = [textwrap.wrap(how, _CHARACTERS // len(each)) for _, how in endings]
    lines = max(map(len, below))
    names = [_levels(one, len(each)) for one in each]
    room = _LINE * (max((level for name in names for *_, level in name), default=0) + 1) + 8
    most = max(map(panels.most_errors, each))
    for column, one in enumerate(each):
        axes: list[Axes] = list(grid[:, column])
        axes[0].set_xlim(0, panels.length(one))
        panels.shares(axes[0], one)
        panels.latency(axes[1], one)
        panels.errors(axes[2], one, most)
        panels.alarms(axes[3], one, _wide("ALARM", one, len(each)))
        _stages(axes, names[column])
        name = one.deployment.name
        title = f"{TITLES.get(name, name)}: {endings[column][0]}"
        _above(axes[0], "\n".join(below[column]), room + 16 * lines, fontsize=11.5, va="top")
        _above(axes[0], title, room + 16 * lines + 5, fontsize=15, fontweight="bold")
        axes[-1].set_xlabel("minutes of AWS since the approval")
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    rows = ("traffic", "latency", "failed requests\na minute", "alarms")
    for axis, text in zip(grid[:, 0], rows, strict=True):
        axis.set_ylabel(text, fontweight="bold")
    _legend(figure, each)
    return figure


def _above(axis: Axes, text: str, points: float, **font: Any) -> None:
    """A text above a column, so many points higher than its first row."""
    axis.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, points),
        textcoords="offset points",
        annotation_clip=False,
        **font,
    )


def _wide(text: str, one: Played, columns: int) -> float:
    """About how many minutes a small text covers."""
    return 0.0045 * (len(text) + 2) * columns * panels.length(one)


def _levels(one: Played, columns: int) -> list[tuple[str, float, int]]:
    """The name of each stage, its minute, and on which line it stands: higher where it would cover the next one's."""
    free: list[float] = []  # until here, on each line: the names, and the marks that go up through it
    found = []
    for text, at in reversed(_named(one)):
        moment = minutes(one, at)
        until = moment + _wide(text, one, columns)
        level = next(level for level in range(len(free) + 1) if all(until <= it for it in free[level:]))
        free = [moment] * (level + 1) + free[level + 1 :]
        found.append((text, moment, level))
    return found


def _stages(axes: Sequence[Axes], names: Sequence[tuple[str, float, int]]) -> None:
    """A line where each stage begins, up to its name."""
    for text, moment, level in names:
        for axis in axes:
            axis.axvline(moment, **_MARK)
        axes[0].annotate(
            f" {text}",
            (moment, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + _LINE * level),
            textcoords="offset points",
            annotation_clip=False,
            fontsize=9.5,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0), "shrinkA": 0, "shrinkB": 0, **_MARK},
        )


def _named(one: Played) -> list[tuple[str, float]]:
    """The stages that were seen, in order."""
    if one.good:
        last = [("all traffic", one.full_at), ("done", one.settled_at)]
    else:
        last = [("all traffic", one.full_at), ("traffic back", one.back_at), ("rolled back", one.settled_at)]
    stages = [("instances start", one.starting_at), ("canary", one.canary_at), *last]
    return [(text, at) for text, at in [*stages, ("the check repairs", one.repair_at)] if at is not None]


def _legend(figure: Figure, each: Sequence[Played]) -> None:
    seen = {panels.kind(it) for one in each for it in one.failed}
    arrow = Line2D([], [], color="black", marker="|", markersize=8, linewidth=1)
    medians = tuple(Line2D([], [], color=it, linewidth=2.2) for it in (panels.OLD_LINE, panels.NEW_LINE))
    entries: list[tuple[Any, str]] = [
        (Patch(color=panels.OLD), "answered by the version before"),
        (Patch(color=panels.NEW), "answered by the new version"),
        (Line2D([], [], **panels.SHARE), "share that the rollout gives the new version"),
        (arrow, "from the first bad answer to the full rollback"),
        (medians, "latency: each version's median"),
        (Line2D([], [], **panels.SLOWEST), "latency: 99th percentile of all"),
        (Line2D([], [], **panels.THRESHOLD), "latency: alarm's threshold"),
    ]
    for name, (text, colour, hatch) in panels.KINDS.items():
        if name in seen:
            entries.append((Patch(facecolor=colour, hatch=hatch, edgecolor=EDGE), f"failed: {text}"))
    handles, labels = zip(*entries, strict=True)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=4,
        fontsize=10.5,
        handler_map={tuple: HandlerTuple(ndivide=None)},
    )
