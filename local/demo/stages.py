"""The stages in their order, each a real piece of the project, and the figures that they leave."""

import os
import platform
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import registry
from local.cloud import lifecycle
from local.demo import account, ingestion, serving, synthesis, training
from local.demo.progress import Progress
from pipeline import schema as schemas
from stacks import config as configuration
from tools.assembly import Assembly, context

SYNTHESIZE, DEPLOY, REPLAY, CURATE, TRAIN, APPROVE, ASK = (
    "Synthesize the templates",
    "Deploy into the embedded cloud",
    "Replay real flights with faults",
    "Crawl, check and curate",
    "Run the pipeline",
    "Approve, and wait for the endpoint",
    "Ask the endpoint",
)
# Plots in the order in which a reader asks: how good, at what price, can the score be believed, what goes wrong.
PLOTS = ("roc.png", "precision_recall.png", "calibration.png", "confusion_matrix.png")


class DemoError(Exception):
    """A stage's result does not hold together, or the request cannot be met; the message says why."""


FAILURES = (
    DemoError,
    configuration.ConfigError,
    synthesis.SynthesisError,
    lifecycle.CloudError,
    account.DeploymentError,
    ingestion.IngestionError,
    training.TrainingError,
    registry.PackageError,
    serving.ServingError,
)


def run(options: Namespace, work: Path, progress: Progress) -> tuple[dict[str, Any], list[Path]]:
    """Run every stage; returns the report's figures and the paths of the plots. `work` is an empty folder.

    Raises one of FAILURES, with a message for the person at the terminal.
    """
    if options.stage not in configuration.STAGES:
        raise DemoError(f"--stage = {options.stage}: must be one of {', '.join(configuration.STAGES)}.")
    config = configuration.load(context(options.stage))
    if (config.training.problem_type, config.training.estimator) != ("classification", "xgboost"):
        raise DemoError(
            f"cdk.json: stage {options.stage}: the demo compares a classifier by XGBoost with its linear baseline. "
            "Set training.problem_type = classification and training.estimator = xgboost, or choose another --stage."
        )
    if options.app and not (options.app / "manifest.json").is_file():
        raise DemoError(
            f"--app = {options.app}: holds no manifest.json. Name a folder that `cdk synth` wrote."
        )
    progress.total = 7
    with progress.during(SYNTHESIZE):
        assembly = (
            Assembly(options.stage, options.app)
            if options.app
            else synthesis.synthesize(options.stage, work / "cdk.out")
        )
        resources = sum(len(template.resources()) for template in assembly.templates.values())
        progress.detail(f"{len(assembly.templates)} stacks, {resources} resources")
    with account.account(work / "cloud") as cloud:
        with progress.during(DEPLOY):
            cloud.deploy(assembly)
            progress.detail(f"{len(assembly.templates)} stacks at {cloud.place.url}")
        raw = ingestion.Ingestion(cloud, config.prefix, work / "ingestion")
        with progress.during(REPLAY):
            injected = raw.replay(flights=options.flights, seed=options.seed, progress=progress)
            progress.detail(f"{injected['records']:,} records in s3://{raw.raw}")
        with progress.during(CURATE):
            curated = raw.curate(progress)
            progress.detail(f"{curated['rows_in']:,} in, {curated['rows_out']:,} out")
        with progress.during(TRAIN):
            trained = training.run_pipeline(cloud, config.prefix, progress)
            progress.detail(f"version {trained.package.version} registered")
        with progress.during(APPROVE):
            served = serving.approve(cloud, trained, config.prefix, progress)
            progress.detail(f"{served.name} in service")
        with progress.during(ASK):
            answers = serving.ask(served, trained, work / "serve")
            progress.detail(f"{answers['records']:,} held-out flights asked, as JSON and CSV")
        plots = {
            path.name: path
            for path in cloud.download_folder(trained.output("Evaluate", "evaluation"), work / "evaluation")
        }
        package = registry.describe(cloud.client("sagemaker"), trained.package.arn)
        figures = {
            "title": "From raw flights to served predictions",
            "dataset": {"name": "flights", "description": schemas.load("flights").description},
            "run": {
                "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                "stage": options.stage,
                "flights": options.flights,
            },
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "data": ingestion.figures(injected, curated),
            "splits": cloud.read_json(f"{trained.output('Prepare', 'transform')}/summary.json"),
            "model": training.model_figures(trained),
            "package": {
                "arn": package.arn,
                "version": package.version,
                "approval": package.approval,
                "image": package.image,
                "model_data_url": package.model_data_url,
            },
            "serving": {"endpoint": served.name, **answers},
            "stages": _times(progress, trained.steps),
            "seconds": round(sum(progress.seconds.values()), 2),
        }
        _check(figures)
        return figures, [plots[name] for name in PLOTS]


def _times(progress: Progress, pipeline: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    steps = [
        {
            "name": name,
            "status": step["StepStatus"],
            "seconds": round((step["EndTime"] - step["StartTime"]).total_seconds(), 2),
        }
        for name, step in pipeline.items()
    ]
    return [
        {"name": name, "seconds": seconds, "steps": steps if name == TRAIN else []}
        for name, seconds in progress.seconds.items()
    ]


def _check(figures: dict[str, Any]) -> None:
    """Refuse to report what contradicts itself."""
    data, serving, gate = figures["data"], figures["serving"], figures["model"]["gate"]
    parts = [data[name] for name in ("rows_out", "quarantined", "duplicates", "excluded")]
    if data["rows_in"] != sum(parts):
        raise DemoError(
            f"{data['rows_in']} records arrived, but {' + '.join(map(str, parts))} are accounted for."
        )
    rows = sum(split["rows"] for split in figures["splits"].values())
    if rows != data["rows_out"]:
        raise DemoError(f"{data['rows_out']} flights were curated, but the splits hold {rows}.")
    if abs(serving["auc"] - gate["model"]) > 1e-6:
        raise DemoError(
            f"AUC of the answers over HTTP is {serving['auc']}, the registered one {gate['model']}: the served model is "
            "not the evaluated one."
        )
