"""The deployed pipeline, started and watched by the API, and what it left behind in S3 and in the registry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local import registry
from local.demo.account import Account
from local.demo.progress import Progress

METRICS = "binary_classification_metrics"
GATE = "auc"
RUNNING = ("Executing", "Stopping")


class TrainingError(Exception):
    """The pipeline did not register a model: the message names the step that failed and its reason."""


@dataclass(frozen=True)
class Trained:
    """A successful execution, and the version that it registered."""

    account: Account
    steps: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, str]
    package: registry.ModelPackage

    def output(self, step: str, name: str) -> str:
        """The S3 URI of a processing step's output."""
        job = self.steps[step]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
        described = self.account.client("sagemaker").describe_processing_job(ProcessingJobName=job)
        outputs = described["ProcessingOutputConfig"]["Outputs"]
        uri: str = next(item["S3Output"]["S3Uri"] for item in outputs if item["OutputName"] == name)
        return uri


def run_pipeline(account: Account, prefix: str, progress: Progress) -> Trained:
    """Start the deployed pipeline and wait; raises `TrainingError` unless it registers a version."""
    sagemaker = account.client("sagemaker")
    pipeline = account.resource(f"{prefix}-training", "AWS::SageMaker::Pipeline")
    arn = sagemaker.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"]
    told: set[str] = set()
    while True:
        status = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"]
        steps = _steps(sagemaker, arn)
        for name in steps:
            if name not in told:
                told.add(name)
                progress.detail(name)
        if status not in RUNNING:
            break
        time.sleep(0.5)
    if status != "Succeeded":
        failed = next((step for step in steps.values() if step["StepStatus"] != "Succeeded"), {})
        raise TrainingError(f"step {failed.get('StepName')}: {failed.get('FailureReason', status)}")
    parameters = sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)[
        "PipelineParameters"
    ]
    package = steps["RegisterModel"]["Metadata"]["RegisterModel"]["Arn"]
    return Trained(
        account, steps, {p["Name"]: p["Value"] for p in parameters}, registry.describe(sagemaker, package)
    )


def _steps(sagemaker: Any, arn: str) -> dict[str, dict[str, Any]]:
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
        PipelineExecutionArn=arn, SortOrder="Ascending"
    )
    return {step["StepName"]: step for page in pages for step in page["PipelineExecutionSteps"]}


def model_figures(trained: Trained) -> dict[str, Any]:
    """The report's part on the model: its metrics beside the baseline's on the test split, and the gate."""
    folder = trained.output("Evaluate", "evaluation")
    evaluation = trained.account.read_json(f"{folder}/evaluation.json")
    baseline = trained.account.read_json(f"{folder}/baseline.json")
    found, beside = _scalars(evaluation), _scalars(baseline)
    return {
        "estimator": evaluation["estimator"],
        "baseline": baseline["estimator"],
        "gate": {
            "metric": GATE.upper(),
            "threshold": float(trained.parameters["MetricThreshold"]),
            "model": found[GATE],
            "baseline": beside[GATE],
        },
        "metrics": [
            {"name": name.replace("_", " "), "model": value, "baseline": beside[name]}
            for name, value in found.items()
        ],
    }


def _scalars(evaluation: Mapping[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in evaluation[METRICS].items() if "value" in metric}
