r"""Train (script mode in AWS's XGBoost image): encoded splits in, a model folder out that needs nothing else to serve.

SageMaker passes hyperparameters as flags (`--num_round 200`) and folders as SM_* variables; each folder is a flag too,
so the step runs without any toolkit. Metric lines for `metric_definitions`: `[12]\ttrain-logloss:…\tvalidation-logloss:…`
while training (`rmse` for regression), and `train-auc:0.7` and `validation-auc:0.7` at the end, as every other metric.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import sklearn
import xgboost

from pipeline import estimators, hyperparameters, metrics, predictors, schema, step
from pipeline.estimators import Split
from pipeline.schema import ProblemType, Schema
from pipeline.settings import Estimator
from pipeline.step import StepError

# What serving imports, and so what ships inside every model.
CODE = ("__init__.py", "schema.py", "features.py", "predictors.py")


def read_split(folder: Path) -> Split:
    """Features and label of an encoded split; the label is the last column."""
    path = folder / "data.parquet"
    try:
        # Not read_table, which refuses two columns of one name: a feature may be called label too.
        table = pq.ParquetFile(path).read()
    except OSError as error:
        raise StepError(f"{path}: cannot be read ({error}). Run pipeline.prepare first.") from error
    values = np.column_stack([column.to_numpy() for column in table.columns])
    if not len(values):
        raise StepError(f"{path}: no row. Run pipeline.prepare on more data.")
    return Split(values[:, :-1], values[:, -1])


def write_model(
    folder: Path,
    model: xgboost.Booster | dict[str, Any],
    transform: Path,
    data: Schema,
    metadata: dict[str, Any],
) -> None:
    """Write the model folder: model, transform, schema, metadata, and the code that serves them.

    A registered version must refer to nothing but its model.tar.gz and its image, so the code travels along.
    """
    code = folder / "code" / "pipeline"
    code.mkdir(parents=True, exist_ok=True)
    if isinstance(model, dict):
        (folder / predictors.LINEAR_FILE).write_text(json.dumps(model))
    else:
        model.save_model(folder / predictors.XGBOOST_FILE)
    shutil.copyfile(transform, folder / "transform.json")
    (folder / "schema.json").write_text(schema.to_json(data))
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=1))
    source = Path(__file__).parent
    for name in CODE:
        shutil.copyfile(source / name, code / name)
    shutil.copyfile(source / "inference.py", folder / "code" / "inference.py")


def train(
    parts: tuple[Split, Split], problem_type: ProblemType, estimator: Estimator, parameters: dict[str, Any]
) -> tuple[xgboost.Booster | dict[str, Any], dict[str, Any]]:
    """Fit on the first split, stop and choose the threshold by the second: the model, and what to record of it."""
    first, validation = parts
    started = time.monotonic()
    model: xgboost.Booster | dict[str, Any]
    if estimator == "xgboost":
        model = estimators.fit_xgboost(first, validation, problem_type, parameters)
        if not model.get_score():
            raise StepError(
                f"hyperparameter min_child_weight = {parameters['min_child_weight']:g}: no tree splits the {len(first.y)} "
                "training rows, so the model would answer every record alike. Lower min_child_weight (XGBoost's own "
                "default is 1), or bring more rows, or features that vary."
            )
        predict = predictors.boosted(model)
    else:
        model = estimators.fit_linear(first, validation, problem_type, parameters)
        predict = predictors.linear(model)
    seconds = time.monotonic() - started
    scores = [predict(part.x) for part in parts]
    threshold = metrics.best_threshold(validation.y, scores[1]) if problem_type == "classification" else None
    quality = {}
    for name, part, score in zip(("train", "validation"), parts, scores, strict=True):
        found = (
            metrics.regression_values(part.y, score, features=part.x.shape[1])
            if threshold is None
            else metrics.classification_values(part.y, score, threshold)
        )
        quality[name] = {metric: float(value) for metric, value in found.items()}
    return model, {
        "problem_type": problem_type,
        "estimator": estimator,
        "hyperparameters": parameters,
        "threshold": threshold,
        "rows": {"train": len(first.y), "validation": len(validation.y)},
        "metrics": quality,
        "training_seconds": round(seconds, 3),
        "versions": {
            "python": platform.python_version(),
            "xgboost": xgboost.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    }


def main(argv: Sequence[str]) -> None:
    """Parse, read, call, write."""
    options, given = _parse(argv)
    data = schema.load(options.schema)
    parameters = hyperparameters.parse(options.estimator, given)
    transform = options.transform / "transform.json"
    if not transform.exists():
        raise StepError(f"{transform}: no such file. Run pipeline.prepare first.")
    parts = (read_split(options.train), read_split(options.validation))
    if options.problem_type == "classification":
        for name, part in zip(("train", "validation"), parts, strict=True):
            if len(np.unique(part.y)) < 2:
                raise StepError(f"{name} channel: all labels are {part.y[0]:g}. Both classes are needed.")

    model, metadata = train(parts, options.problem_type, options.estimator, parameters)

    write_model(options.model_dir, model, transform, data, metadata)
    for split, values in metadata["metrics"].items():
        for name, value in values.items():
            print(f"{split}-{name}:{value:.6f}")


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    flags = step.parser("train", __doc__)
    environ = os.environ
    flags.add_argument("--schema", default="flights", help="a name in pipeline/schemas/, or a path")
    flags.add_argument("--problem_type", choices=get_args(ProblemType), default="classification")
    flags.add_argument("--estimator", choices=get_args(Estimator), default="xgboost")
    for name in ("train", "validation", "transform"):
        folder = environ.get(f"SM_CHANNEL_{name.upper()}", f"/opt/ml/input/data/{name}")
        flags.add_argument(f"--{name}", type=Path, default=Path(folder))
    flags.add_argument("--model_dir", type=Path, default=Path(environ.get("SM_MODEL_DIR", "/opt/ml/model")))
    names = [name for known in hyperparameters.HYPERPARAMETERS.values() for name in known]
    for name in names:
        flags.add_argument(f"--{name}")
    options = flags.parse_args(argv)
    return options, {name: text for name in names if (text := getattr(options, name)) is not None}


if __name__ == "__main__":
    sys.exit(step.run(main, reason_file="failure"))
