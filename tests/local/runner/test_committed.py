"""The committed definitions as a deployment would run them, in memory: one on real flights, all on stand-in steps."""

import dataclasses
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.runner.execution import ExecutionResult
from pipeline.hyperparameters import HYPERPARAMETERS
from stacks.pipeline_code import ROOT, tar_gz
from tests.local.runner.committed import FILES, SAMPLES, filled
from tests.local.runner.conftest import Cloud
from tests.local.runner.test_execution import archive_of
from tests.pipeline.spark.small_curated import write_small_curated


@pytest.fixture
def deployed(cloud: Cloud) -> Cloud:
    """The account with what a deployment brings: buckets, the registry's group, an interpreter for the image."""
    for bucket in ("assets", "curated", "artifacts"):
        cloud.s3.create_bucket(Bucket=bucket)
    cloud.setting.sagemaker.create_model_package_group(ModelPackageGroupName=SAMPLES["ModelPackageGroupName"])
    images = {SAMPLES["ImageUri"]: Path(sys.executable)}
    return Cloud(dataclasses.replace(cloud.setting, images=images))


def package_of(cloud: Cloud, result: ExecutionResult) -> dict[str, Any]:
    arn = result.steps["RegisterModel"].properties["ModelPackageArn"]
    described: dict[str, Any] = cloud.setting.sagemaker.describe_model_package(ModelPackageName=arn)
    return described


def body(cloud: Cloud, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content: bytes = cloud.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


@pytest.mark.deep  # the demo does the same for the classification
def test_real_flights_become_a_registered_model_that_needs_nothing_else(
    deployed: Cloud, tmp_path: Path
) -> None:
    deployed.s3.put_object(Bucket="assets", Key="0a1b.tar.gz", Body=tar_gz(ROOT))
    curated = write_small_curated(tmp_path / "curated", rows=20_000)
    for path in curated.rglob("*.parquet"):
        key = f"flights/{path.relative_to(curated).as_posix()}"
        deployed.s3.put_object(Bucket="curated", Key=key, Body=path.read_bytes())
    # On so few rows only a cautious booster beats the linear model, which the gate demands.
    cautious = {"NumRound": "100", "MaxDepth": "3", "Eta": "0.05", "MinChildWeight": "20"}

    result = deployed.run(filled("regression-xgboost.json"), parameters={"MetricThreshold": 100, **cautious})

    assert result.status == "Succeeded", {s.name: s.failure_reason for s in result.steps.values()}
    package = package_of(deployed, result)
    [container] = package["InferenceSpecification"]["Containers"]
    with tarfile.open(fileobj=io.BytesIO(body(deployed, container["ModelDataUrl"]))) as tar:
        assert {"model.json", "transform.json", "schema.json", "code/inference.py"} <= set(tar.getnames())
    metrics = json.loads(body(deployed, package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]))
    assert metrics["regression_metrics"]["rmse"]["value"] > 0
    properties = package["CustomerMetadataProperties"]
    assert {key: properties[key] for key in ("dataset", "problem_type", "estimator")} == {
        "dataset": "flights",
        "problem_type": "regression",
        "estimator": "xgboost",
    }
    baseline = json.loads(body(deployed, properties["baseline_evaluation"]))
    assert metrics["regression_metrics"]["rmse"]["value"] < baseline["regression_metrics"]["rmse"]["value"]
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    # The metric definitions' expressions find what the training step prints.
    found = {metric["MetricName"] for metric in result.steps["Train"].properties["FinalMetricDataList"]}
    assert found == {"train:rmse", "validation:rmse"}
    hyperparameters = result.steps["TrainBaseline"].properties["HyperParameters"]
    assert hyperparameters["estimator"] == "linear"
    assert not set(hyperparameters) & set(HYPERPARAMETERS["xgboost"])


def stand_ins(report: dict[str, float]) -> bytes:
    """An archive whose steps write the least that the next one reads; evaluation finds the metrics in `report`."""
    written = {
        name: {
            "binary_classification_metrics": {"auc": {"value": value}},
            "regression_metrics": {"rmse": {"value": value}},
        }
        for name, value in report.items()
    }
    flag = "import json, pathlib, sys\nflag = lambda name: pathlib.Path(sys.argv[sys.argv.index(name) + 1])\n"
    prepare = "for name in ('train', 'validation', 'test', 'transform'): (flag('--' + name) / 'data').write_text(name)\n"
    train = "import os\npathlib.Path(os.environ['SM_MODEL_DIR'], 'model.json').write_text('{}')\n"
    evaluate = (
        "assert (flag('--model') / 'model.tar.gz').exists()\n"
        "reports = {'evaluation': '--model', 'baseline': '--baseline'}\n"
        f"for name, report in {written!r}.items():\n"
        "    if reports[name] in sys.argv: (flag('--output') / f'{name}.json').write_text(json.dumps(report))\n"
    )
    steps = {
        "prepare": flag + prepare,
        "train": train.replace("import os", "import os, pathlib"),
        "evaluate": flag + evaluate,
    }
    return archive_of(
        {"pipeline/__init__.py": "", **{f"pipeline/{name}.py": text for name, text in steps.items()}}
    )


def run_with(
    deployed: Cloud, file: str, *, value: float, baseline: float, threshold: float
) -> ExecutionResult:
    deployed.s3.put_object(
        Bucket="assets", Key="0a1b.tar.gz", Body=stand_ins({"evaluation": value, "baseline": baseline})
    )
    deployed.s3.put_object(Bucket="curated", Key="flights/event_month=2013-01/part-0.parquet", Body=b"rows")
    return deployed.run(filled(file), parameters={"MetricThreshold": threshold})


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=[pytest.mark.deep] * ("isolated" in f)) for f in FILES]
)
def test_a_model_exactly_at_the_threshold_and_better_than_the_baseline_is_registered(
    deployed: Cloud, file: str
) -> None:
    better = -0.1 if "regression" in file else 0.1
    result = run_with(deployed, file, value=0.7, baseline=0.7 - better, threshold=0.7)
    assert result.status == "Succeeded", {s.name: s.failure_reason for s in result.steps.values()}
    assert result.not_executed == ("QualityTooLow",)
    assert package_of(deployed, result)["ModelPackageVersion"] == 1


WORSE = [
    (
        "classification-xgboost.json",
        0.6,
        0.5,
        "auc on the test split is 0.6, it must be at least 0.7 and above the linear baseline's 0.5",
    ),
    (
        "classification-xgboost.json",
        0.8,
        0.8,
        "auc on the test split is 0.8, it must be at least 0.7 and above the linear baseline's 0.8",
    ),
    ("classification-linear.json", 0.6, 0.5, "auc on the test split is 0.6, it must be at least 0.7"),
    (
        "regression-xgboost.json",
        0.8,
        0.9,
        "rmse on the test split is 0.8, it must be at most 0.7 and below the linear baseline's 0.9",
    ),
    (
        "regression-xgboost.json",
        0.6,
        0.6,
        "rmse on the test split is 0.6, it must be at most 0.7 and below the linear baseline's 0.6",
    ),
    ("regression-linear-isolated.json", 0.8, 0.9, "rmse on the test split is 0.8, it must be at most 0.7"),
]


@pytest.mark.parametrize(("file", "value", "baseline", "reason"), WORSE)
def test_a_worse_model_is_refused_with_value_and_threshold(
    deployed: Cloud, file: str, value: float, baseline: float, reason: str
) -> None:
    result = run_with(deployed, file, value=value, baseline=baseline, threshold=0.7)
    assert result.status == "Failed"
    assert result.steps["QualityTooLow"].failure_reason == f"The model is not registered: its {reason}."
    assert result.not_executed == ("CreateModel", "RegisterModel")
    group = SAMPLES["ModelPackageGroupName"]
    packages = deployed.setting.sagemaker.list_model_packages(ModelPackageGroupName=group)
    assert packages["ModelPackageSummaryList"] == deployed.models() == []
