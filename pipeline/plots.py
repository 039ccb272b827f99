"""The plots of an evaluation, as PNG files: two shades, one idea each, readable at half size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.features import Array
from pipeline.metrics import Metrics
from pipeline.schema import Label, ProblemType

# The first model is the one that may be registered; the second, if any, its baseline.
COLOURS = ("#1f4e79", "#c55a11")
GREY = "#7f7f7f"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
# A year of predictions would be a solid blot: the scatter shows this many, evenly spread over time.
SCATTER_POINTS = 5_000
TENTHS = 10
# A few flights are a day late: without them the rest can be seen.
MIDDLE = (0.005, 0.995)

Models = Mapping[str, tuple[Array, Metrics]]


def write(folder: Path, labels: Array, models: Models, problem_type: ProblemType, label: Label) -> None:
    """Write the plots of a problem type into `folder`; `models` maps a name to predictions (rows,) and metrics."""
    classify = problem_type == "classification"
    draw = {
        "confusion_matrix": _confusion,
        "roc": _roc,
        "precision_recall": _precision_recall,
        "calibration": _calibration,
    }
    if not classify:
        draw = {"predicted_vs_true": _predicted_vs_true, "residuals": _residuals}
    with mpl.rc_context(STYLE):
        for name, function in draw.items():
            figure = Figure(figsize=(5.6, 5), dpi=144, layout="constrained")
            function(figure.subplots(), labels, models, label)
            # Without metadata, equal input gives an equal file.
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})


def _confusion(axes: Axes, _labels: Array, models: Models, label: Label) -> None:
    name, (_, metrics) = next(iter(models.items()))
    matrix = metrics["confusion_matrix"]
    counts = np.array([[matrix[t][p] for p in ("0", "1")] for t in ("0", "1")])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{shares[row, column]:.0%} of row",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
                fontsize=14,
            )
    classes = [f"not {label.name}", label.name]
    axes.set(
        xticks=[0, 1], yticks=[0, 1], xlabel="predicted", ylabel="true", title=f"Confusion matrix, {name}"
    )
    axes.set_xticklabels(classes)
    axes.set_yticklabels(classes, rotation=90, va="center")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _roc(axes: Axes, _labels: Array, models: Models, label: Label) -> None:
    for (name, (_, metrics)), colour in zip(models.items(), COLOURS, strict=False):
        curve = metrics["receiver_operating_characteristic_curve"]
        axes.plot(
            curve["false_positive_rates"],
            curve["true_positive_rates"],
            color=colour,
            lw=2,
            label=f"{name}, AUC {metrics['auc']['value']:.3f}",
        )
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", label="guessing, AUC 0.5")
    axes.set(
        xlabel=f"false positive rate (called {label.name}, was not)",
        ylabel=f"true positive rate ({label.name}, and called so)",
        title="ROC curve, test split",
        aspect="equal",
    )
    axes.legend(loc="lower right")


def _precision_recall(axes: Axes, labels: Array, models: Models, _label: Label) -> None:
    for (name, (_, metrics)), colour in zip(models.items(), COLOURS, strict=False):
        curve = metrics["precision_recall_curve"]
        average = metrics["average_precision"]["value"]
        axes.plot(
            curve["recalls"], curve["precisions"], color=colour, lw=2, label=f"{name}, average {average:.3f}"
        )
    share = float(labels.mean())
    axes.axhline(share, color=GREY, ls=":", label=f"guessing, {share:.3f}")
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall, test split", ylim=(0, 1.02))
    axes.legend(loc="upper right")


def _calibration(axes: Axes, _labels: Array, models: Models, label: Label) -> None:
    top = 0.0
    for (name, (_, metrics)), colour in zip(models.items(), COLOURS, strict=False):
        curve = metrics["calibration_curve"]
        axes.plot(curve["predicted"], curve["observed"], color=colour, lw=2, marker="o", label=name)
        top = max(top, *curve["predicted"], *curve["observed"])
    top = min(1.0, top * 1.1)
    axes.plot([0, top], [0, top], color=GREY, ls=":", label="perfectly calibrated")
    axes.set(
        xlabel=f"predicted probability of {label.name} (mean of a tenth of the rows)",
        ylabel=f"observed share of {label.name}",
        title="Calibration, test split",
        aspect="equal",
    )
    axes.legend(loc="upper left")


def _predicted_vs_true(axes: Axes, labels: Array, models: Models, label: Label) -> None:
    name, (predicted, metrics) = next(iter(models.items()))
    rows = np.unique(np.linspace(0, len(labels) - 1, SCATTER_POINTS).astype(int))
    axes.scatter(labels[rows], predicted[rows], s=6, alpha=0.25, color=COLOURS[0], lw=0)
    tenths = np.array_split(np.argsort(predicted, kind="stable"), TENTHS)
    axes.plot(
        [labels[tenth].mean() for tenth in tenths],
        [predicted[tenth].mean() for tenth in tenths],
        color=COLOURS[1],
        lw=2,
        marker="o",
        label="means of each tenth of the predictions",
    )
    low, high = np.quantile(labels, MIDDLE)
    axes.plot([low, high], [low, high], color=GREY, ls=":", label="perfect")
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel=f"true {label.column} (middle 99 % of rows)",
        ylabel=f"predicted {label.column}",
        title=f"{name}: RMSE {metrics['rmse']['value']:.1f}, R² {metrics['r2']['value']:.3f}",
        aspect="equal",
    )
    axes.legend(loc="upper left")


def _residuals(axes: Axes, labels: Array, models: Models, label: Label) -> None:
    low, high = np.quantile(labels - next(iter(models.values()))[0], MIDDLE)
    for (name, (predicted, metrics)), colour in zip(models.items(), COLOURS, strict=False):
        axes.hist(
            labels - predicted,
            bins=np.linspace(low, high, 60).tolist(),
            histtype="step",
            color=colour,
            lw=2,
            label=f"{name}, MAE {metrics['mae']['value']:.1f}",
        )
    axes.axvline(0, color=GREY, ls=":")
    axes.set(xlabel=f"true - predicted {label.column}", ylabel="rows", title="Errors, test split")
    axes.legend(loc="upper right")
