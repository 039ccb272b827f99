"""Training speed: `pipeline.train`'s fit beside plain `xgboost.train` on the same matrix with the same parameters."""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import xgboost

from benchmarks import splits
from benchmarks.output import Row, show
from pipeline import estimators, hyperparameters, train
from pipeline.estimators import Split

ROWS = 100_000
REPEATS = 3


def plain(first: Split, validation: Split, parameters: dict[str, int | float | str]) -> int:
    """What a person would write without this pipeline; returns the rounds trained."""
    fitted = {**parameters, "objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist"}
    rounds, patience = int(fitted.pop("num_round")), int(fitted.pop("early_stopping_rounds"))
    matrix = xgboost.DMatrix(first.x, first.y)
    evals = [(matrix, "train"), (xgboost.DMatrix(validation.x, validation.y), "validation")]
    booster = xgboost.train(
        fitted, matrix, rounds, evals=evals, early_stopping_rounds=patience, verbose_eval=False
    )
    return int(booster.num_boosted_rounds())


def measure(name: str, rows: int, fit: Callable[[], object]) -> Row:
    """The best wall time of REPEATS runs, with the CPU time of that run."""
    runs = []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            fit()
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds, cpu_seconds = min(runs)
    return {
        "fit": name,
        "rows": rows,
        "seconds": seconds,
        "CPU seconds": cpu_seconds,
        "rows/s": rows / seconds,
    }


def main(argv: Sequence[str] = ()) -> None:
    """Prepare real flights, then time both fits on them."""
    rows = int(argv[0]) if argv else ROWS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            splits.prepared(folder, rows=rows)
        first, validation = (train.read_split(folder / name) for name in ("train", "validation"))
    given = {name: str(value) for name, value in splits.hyperparameters().items()}
    parameters = hyperparameters.parse("xgboost", given)
    fits: dict[str, Callable[[], object]] = {
        "xgboost.train": lambda: plain(first, validation, parameters),
        "our fit": lambda: estimators.fit_xgboost(first, validation, "classification", parameters),
        "our fit, threshold, metrics": lambda: train.train(
            (first, validation), "classification", "xgboost", parameters
        ),
    }
    found = [measure(name, len(first.y), fit) for name, fit in fits.items()]
    peer, fit, whole = (float(row["seconds"]) for row in found)
    show(
        "training",
        f"Training, {first.x.shape[1]} features, {plain(first, validation, parameters)} rounds",
        found,
        note=f"Our fit takes {fit / peer:.2f} times plain xgboost.train on the same matrix; the whole of pipeline.train "
        f"{whole / peer:.2f} times: it also chooses the class threshold and measures both splits.",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
