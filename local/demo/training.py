"""The pipeline of the synthesized template, run here, and what it left behind in S3 and in the registry."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import registry, runner
from local.demo.account import Account, split
from local.demo.processes import ACCOUNT
from local.demo.progress import Progress
from local.demo.synthesis import pipeline_definition, publish_assets
from tools.assembly import Assembly

METRICS = "binary_classification_metrics"
GATE = "auc"


class TrainingError(Exception):
    """The pipeline did not register a model: the message names the step that failed and its reason."""


@dataclass(frozen=True)
class Trained:
    """A successful execution, and the version that it registered."""

    account: Account
    execution: runner.ExecutionResult
    package: registry.ModelPackage

    def output(self, step: str, name: str) -> str:
        """The S3 URI of a processing step's output."""
        outputs = self.execution.steps[step].properties["ProcessingOutputConfig"]["Outputs"]
        uri: str = next(item["S3Output"]["S3Uri"] for item in outputs if item["OutputName"] == name)
        return uri


def run_pipeline(account: Account, assembly: Assembly, *, work: Path, progress: Progress) -> Trained:
    """Run the definition that would go to AWS; raises `TrainingError` unless it registers a version."""
    publish_assets(assembly, "Training", account.s3)
    definition, values = pipeline_definition(assembly)
    account.s3.create_bucket(Bucket=split(values["ArtifactsUri"])[0])
    account.sagemaker.create_model_package_group(ModelPackageGroupName=values["ModelPackageGroupName"])

    def tell(event: runner.Event) -> None:
        if event.kind == "started":
            progress.detail(event.step)

    execution = runner.run(
        definition,
        setting=runner.Setting(
            s3=account.s3,
            sagemaker=account.sagemaker,
            images={values["ImageUri"]: Path(sys.executable)},
            work_dir=work,
            account=ACCOUNT,
        ),
        pipeline=values["ModelPackageGroupName"],
        on_event=tell,
    )
    if execution.status != "Succeeded":
        failed = next(step for step in execution.steps.values() if step.status != "Succeeded")
        raise TrainingError(f"step {failed.name}: {failed.failure_reason}")
    arn = registry.latest(account.sagemaker, values["ModelPackageGroupName"])
    return Trained(account, execution, registry.describe(account.sagemaker, arn))


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
            "threshold": trained.execution.parameters["MetricThreshold"],
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
