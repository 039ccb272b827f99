"""Before the first deployment, compare the account's SageMaker quotas with what this stage asks for.

A blue/green rollout runs the old and the new fleet side by side ("Blue/Green Deployments", SageMaker Developer
Guide), so an endpoint needs twice its instances; a rolling update needs a batch more ("Use rolling deployments").
Read-only: two paginated listings.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from stacks.config import Config
from stacks.rollout_config import Rolling, Rollout
from tools import aws


@dataclasses.dataclass(frozen=True)
class Need:
    """`count` instances under the quota called `quota` (its name in the Service Quotas console)."""

    quota: str
    count: int
    why: str


def needs(config: Config) -> list[Need]:
    """What the stage asks for at once: endpoints of one instance type share a quota."""
    training = config.training
    jobs = {"xgboost": 2, "linear": 1}[training.estimator]
    found = [
        *_endpoints(config),
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
    if "batch" in config.options:
        batch = config.batch
        quota = f"{batch.instance_type} for transform job usage"
        found.append(Need(quota, batch.instance_count, "one transform job at a time"))
    return _by_quota(found)


def _endpoints(config: Config) -> Iterator[Need]:
    """The most instances of each endpoint, while a rollout replaces them."""
    serving, quota = config.serving, "{} for endpoint usage"
    fleet = serving.autoscaling.maximum_instances
    count, why = _during_rollout(serving.rollout, fleet)
    yield Need(quota.format(serving.instance_type), count, f"{fleet} instances after scaling out, {why}")
    if "asynchronous" in config.options:
        asynchronous = config.asynchronous
        fleet = asynchronous.maximum_instances
        count, why = _during_rollout(asynchronous.rollout, fleet)
        yield Need(quota.format(asynchronous.instance_type), count, f"{fleet} asynchronous ones, {why}")
    if "experiment" in config.options:
        experiment = config.experiment
        why = f"{experiment.instance_count} for each variant of the experiment, doubled during an update"
        yield Need(quota.format(experiment.instance_type), 4 * experiment.instance_count, why)


def _during_rollout(rollout: Rollout, fleet: int) -> tuple[int, str]:
    if isinstance(rollout, Rolling):
        batch = rollout.batch.instances(fleet)
        return fleet + batch, f"and a batch of {batch} during a rolling update"
    return 2 * fleet, "doubled during a blue/green rollout"


def _by_quota(found: Sequence[Need]) -> list[Need]:
    quotas = dict.fromkeys(need.quota for need in found)
    alike = [[need for need in found if need.quota == quota] for quota in quotas]
    return [
        Need(needs[0].quota, sum(need.count for need in needs), "; ".join(need.why for need in needs))
        for needs in alike
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
