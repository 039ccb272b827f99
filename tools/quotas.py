"""Before the first deployment, compare the account's SageMaker quotas with what this stage asks for.

A blue/green rollout runs the old and the new fleet side by side ("Blue/Green Deployments", SageMaker Developer
Guide), so an endpoint needs twice its instances. Read-only: two paginated listings.
"""

import argparse
import dataclasses
import sys
from typing import Any

from stacks.config import Config
from tools import aws


@dataclasses.dataclass(frozen=True)
class Need:
    """`count` instances under the quota called `quota` (its name in the Service Quotas console)."""

    quota: str
    count: int
    why: str


def needs(config: Config) -> list[Need]:
    """What the stage asks for at once, largest first use."""
    serving, training = config.serving, config.training
    fleet = serving.autoscaling.maximum_instances
    jobs = {"xgboost": 2, "linear": 1}[training.estimator]
    return [
        Need(
            f"{serving.instance_type} for endpoint usage",
            2 * fleet,
            f"{fleet} instances after scaling out, doubled during a blue/green rollout",
        ),
        Need(
            f"{training.training_instance_type} for training job usage",
            jobs * training.instance_count,
            "the model and its linear baseline train side by side" if jobs == 2 else "one training job",
        ),
        Need(
            f"{training.processing_instance_type} for processing job usage",
            1,
            "prepare and evaluate run one after the other",
        ),
    ]


def applied(client: Any) -> dict[str, float]:
    """Quota name → value in force for SageMaker in this account and region.

    An account is listed with what was applied to it; every other quota has AWS's default.
    """
    return {
        quota["QuotaName"]: quota["Value"]
        for listing in ("list_aws_default_service_quotas", "list_service_quotas")
        for page in client.get_paginator(listing).paginate(ServiceCode="sagemaker")
        for quota in page["Quotas"]
    }


@aws.told()
def main(argv: list[str] | None = None, *, client: Any = None) -> int:
    """Print one line a need; 1 if any quota is too low or unknown."""
    _, config = aws.parse_stage(argparse.ArgumentParser(prog="make quotas", description=__doc__), argv)
    quotas = applied(client or aws.session().client("service-quotas"))
    short = 0
    for need in needs(config):
        value = quotas.get(need.quota)
        enough = value is not None and value >= need.count
        short += not enough
        shown = "unknown here" if value is None else f"{value:.0f}"
        print(f"{'ok  ' if enough else 'LOW '} {need.quota}: need {need.count} ({need.why}), quota {shown}")
    if short:
        print(
            f"\n{short} quota(s) too low: Service Quotas console → Amazon SageMaker → request an increase, or choose "
            f"another instance type in cdk.json (context.stages.{config.stage}).",
            file=sys.stderr,
        )
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
