"""What does not hold together is not reported, and a failing piece is one of the demo's own failures."""

import copy
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from local import spark
from local.demo import ingestion, stages
from local.demo.progress import Progress

SOUND: dict[str, Any] = {
    "data": {"rows_in": 10, "rows_out": 6, "quarantined": 2, "duplicates": 1, "excluded": 1},
    "splits": {"train": {"rows": 3}, "validation": {"rows": 2}, "test": {"rows": 1}},
    "serving": {"auc": 0.7},
    "model": {"gate": {"model": 0.7}},
}


def test_figures_that_add_up_are_reported() -> None:
    stages._check(SOUND)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("data", "quarantined", 3, "10 records arrived, but 6 .* are accounted for"),
        ("splits", "test", {"rows": 2}, "6 flights were curated, but the splits hold 7"),
        ("serving", "auc", 0.71, "the served model is not the evaluated one"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(
    part: str, key: str, value: Any, message: str
) -> None:
    figures = copy.deepcopy(SOUND)
    figures[part][key] = value
    with pytest.raises(stages.DemoError, match=message):
        stages._check(figures)


@pytest.mark.parametrize("changed", [{"problem_type": "regression"}, {"estimator": "linear"}])
def test_a_stage_without_two_classifiers_to_compare_is_refused(monkeypatch, tmp_path, changed) -> None:
    training = {"problem_type": "classification", "estimator": "xgboost", **changed}
    monkeypatch.setattr(stages, "context", lambda _: {"stages": {"sandbox": {"training": training}}})
    with pytest.raises(stages.DemoError, match=r"training\.problem_type = classification"):
        stages.run(Namespace(stage="sandbox"), tmp_path, Progress(None))  # type: ignore[arg-type]


def test_a_spark_job_that_fails_is_a_failure_with_its_last_lines(monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise spark.SparkJobError("curate.py: exit code 1:\ncurate: no record")

    monkeypatch.setattr(spark, "run", fail)
    job = object.__new__(ingestion.Ingestion)
    job._arguments = {"--extra-py-files": "s3://b/k.zip"}
    job._script, job._work = "s3://b/k.py", Path("unused")
    job._account = type("Account", (), {"download": lambda *_: None, "s3": None})()
    with pytest.raises(ingestion.IngestionError, match="curate: no record"):
        job.curate()
    assert ingestion.IngestionError in stages.FAILURES
