"""All real flights through all steps: does the model predict months that it has not seen, better than the baseline?"""

import json
import sys
from pathlib import Path

import pytest

from pipeline import evaluate, train
from pipeline.schema import ProblemType, Schema
from tests.pipeline.conftest import archive, as_curated, curated_flights, run_prepare, write_partitions


@pytest.fixture(scope="module")
def all_flights(flights_schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all_flights")
    write_partitions(as_curated(curated_flights(), flights_schema), flights_schema, folder)
    return folder


@pytest.mark.deep
@pytest.mark.parametrize("problem_type", ["classification", "regression"])
def test_boosted_trees_beat_the_linear_baseline_on_later_months(
    all_flights: Path, tmp_path: Path, problem_type: ProblemType, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = run_prepare(all_flights, tmp_path, problem_type)
    channels = [f"--{name}={getattr(prepared, name)}" for name in ("train", "validation", "transform")]
    packed = {}
    for estimator in ("xgboost", "linear"):
        folder = tmp_path / "models" / estimator
        flags = [f"--problem_type={problem_type}", f"--estimator={estimator}", f"--model_dir={folder}"]
        train.main([*flags, *channels])
        packed[estimator] = archive(folder, tmp_path / estimator)
    evaluate.main(
        [
            f"--problem-type={problem_type}",
            f"--model={packed['xgboost']}",
            f"--baseline={packed['linear']}",
            f"--test={prepared.test}",
            f"--output={tmp_path / 'output'}",
        ]
    )
    group, metric = {
        "classification": ("binary_classification_metrics", "auc"),
        "regression": ("regression_metrics", "rmse"),
    }[problem_type]
    found = {
        name: json.loads((tmp_path / "output" / f"{name}.json").read_text())[group][metric]["value"]
        for name in ("evaluation", "baseline")
    }
    with capsys.disabled():
        line = f"{metric} on later months: XGBoost {found['evaluation']:.4f}, linear {found['baseline']:.4f}"
        sys.stdout.write(f"\n{line}\n")
    if problem_type == "classification":
        assert found["evaluation"] > max(found["baseline"], 0.69)
    else:
        assert found["evaluation"] < min(found["baseline"], 41)
