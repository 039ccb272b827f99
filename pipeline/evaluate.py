"""Evaluate (a SageMaker Processing job): the model and the baseline on the test split, metrics and plots out.

The test rows are raw, so they go through each model's own fitted transform, as a request would. Nothing is chosen
here: the class threshold comes with the model, from the validation split. `evaluation.json` and `baseline.json` are
property files (the pipeline's condition reads them) and the registered version's model quality metrics.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from pipeline import archive, curated, metrics, plots, predictors, schema, step
from pipeline.features import Array, FeatureError, Transform
from pipeline.metrics import Metrics
from pipeline.prepare import check_classes
from pipeline.schema import ProblemType, Schema
from pipeline.step import StepError


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One model on the test split: `predicted` (rows,) and its metrics."""

    estimator: str
    predicted: Array
    threshold: float | None
    metrics: Metrics

    def to_json(self, problem_type: ProblemType) -> str:
        """The registry's format; what it has no name for stands beside it."""
        group = "binary_classification_metrics" if problem_type == "classification" else "regression_metrics"
        content: dict[str, Any] = {
            group: self.metrics,
            "estimator": self.estimator,
            "test_rows": len(self.predicted),
        }
        if self.threshold is not None:
            content["threshold"] = self.threshold
        return json.dumps(content, indent=1, allow_nan=False)


def evaluate(
    model: Path, test: pa.Table, labels: Array, data: Schema, problem_type: ProblemType
) -> Evaluation:
    """Predict the raw `test` rows with the model in folder `model`, and measure against `labels` (rows,)."""
    metadata = json.loads((model / "metadata.json").read_text())
    if metadata["problem_type"] != problem_type:
        raise StepError(
            f"{model}: trained for {metadata['problem_type']}, evaluated for {problem_type}. Use one --problem-type."
        )
    transform = Transform.from_json((model / "transform.json").read_text())
    matrix, _ = transform.apply(curated.columns(test, data.request_columns))
    predicted = predictors.load(model)(matrix)
    threshold = metadata["threshold"]
    found = (
        metrics.classification(labels, predicted, threshold)
        if problem_type == "classification"
        else metrics.regression(labels, predicted, features=len(transform.names))
    )
    return Evaluation(metadata["estimator"], predicted, threshold, found)


def unpack(folder: Path, into: Path) -> Path:
    """Unpack `folder`/model.tar.gz, as SageMaker stores a model, into `into`, which is returned."""
    path = folder / "model.tar.gz"
    try:
        archive.unpack(path, into)
    except (OSError, tarfile.TarError) as error:
        raise StepError(f"{path}: cannot be unpacked ({error}). It is the training job's output.") from error
    if not (into / "metadata.json").exists():
        raise StepError(f"{path}: holds no metadata.json, so it is not a model of pipeline.train.")
    return into


def main(argv: Sequence[str]) -> None:
    """Parse, read, call, write."""
    flags = step.parser("evaluate", __doc__)
    processing = "/opt/ml/processing"
    flags.add_argument("--schema", default="flights", help="a name in pipeline/schemas/, or a path")
    flags.add_argument("--problem-type", choices=get_args(ProblemType), default="classification")
    flags.add_argument("--model", type=Path, default=Path(f"{processing}/input/model"))
    flags.add_argument("--baseline", type=Path, help="a second model, on the same rows")
    flags.add_argument("--test", type=Path, default=Path(f"{processing}/input/test"))
    flags.add_argument("--output", type=Path, default=Path(f"{processing}/output/evaluation"))
    options = flags.parse_args(argv)

    data = schema.load(options.schema)
    test = curated.read(options.test, data)
    labels = curated.label(test, data, options.problem_type)
    if options.problem_type == "classification":
        check_classes(labels, "test")
    folders = {"evaluation": options.model} | ({"baseline": options.baseline} if options.baseline else {})
    found: dict[str, Evaluation] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in folders.items():
            model = unpack(folder, Path(scratch) / name)
            try:
                found[name] = evaluate(model, test, labels, data, options.problem_type)
            except (FeatureError, predictors.ModelError) as error:
                raise StepError(f"{folder}: {error}") from error

    options.output.mkdir(parents=True, exist_ok=True)
    for name, evaluation in found.items():
        (options.output / f"{name}.json").write_text(evaluation.to_json(options.problem_type))
        shown = {k: round(v["value"], 4) for k, v in evaluation.metrics.items() if "value" in v}
        print(f"{name} ({evaluation.estimator}): {json.dumps(shown)}")
    plots.write(
        options.output,
        labels,
        {evaluation.estimator: (evaluation.predicted, evaluation.metrics) for evaluation in found.values()},
        options.problem_type,
        data.label,
    )


if __name__ == "__main__":
    sys.exit(step.run(main, reason_file="message"))
