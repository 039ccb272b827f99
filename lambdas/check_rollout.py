"""After each update of Serving: compare what the endpoint runs with what the stack believes (Tasks 3.3 and 4.2).

After an automatic rollback an endpoint is `InService` on its old configuration, and the stack may still have succeeded.
The next deployment of anything in Serving would then bring the refused model back without an approval. So the
difference is counted (an alarm watches it), and the stack is told to serve what is really in service.

It cannot loop: putting the parameter back to the value it already has is not attempted, and the update that puts it
back ends in a check that finds no difference.
"""

import json
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from lambdas import clients, serving_stack, settings

METRIC = "RolloutDifference"
UNSETTLED = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})

logger = Logger()
metrics = Metrics()


@dataclass(frozen=True)
class Settings:
    """What is compared with what, and with whose permissions the parameter is put back."""

    serving_stack_name: str
    endpoint_name: str
    serving_update_role_arn: str


@dataclass(frozen=True)
class Difference:
    """The stack believes in one endpoint configuration, the endpoint runs another (None: there is no endpoint)."""

    believed: str
    running: str | None


class UnsettledError(Exception):
    """The endpoint is changing: what it will run is not decided yet. Try again later."""


def running_config(sagemaker: Any, endpoint: str) -> str | None:
    """The name of the configuration the endpoint runs, or None if there is no such endpoint."""
    try:
        found = sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if "Could not find" in error.response["Error"]["Message"]:
            return None
        raise
    if found["EndpointStatus"] in UNSETTLED:
        raise UnsettledError(f"endpoint {endpoint} is {found['EndpointStatus']}")
    name: str = found["EndpointConfigName"]
    return name


def compare(stack: serving_stack.ServingStack, running: str | None) -> Difference | None:
    """The difference between what the stack believes and what runs; a stack without a model believes nothing."""
    believed = stack.outputs.get(serving_stack.CONFIG_OUTPUT)
    return Difference(believed, running) if believed and believed != running else None


def model_package_of(sagemaker: Any, config: str) -> str | None:
    """The model package behind an endpoint configuration (Serving keeps replaced ones for this), or None."""
    variant = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
    model = sagemaker.describe_model(ModelName=variant["ModelName"])
    package: str | None = model.get("PrimaryContainer", {}).get("ModelPackageName")
    return package


def check(event_id: str, to: Settings, *, cloudformation: Any, sagemaker: Any) -> Difference | None:
    """Compare, and put the parameter back on a difference; raises `UnsettledError` or `StackBusyError`."""
    stack = serving_stack.read(cloudformation, to.serving_stack_name)
    if stack.busy:
        logger.info("a newer update is running; its own end will be checked")
        return None
    difference = compare(stack, running_config(sagemaker, to.endpoint_name))
    if difference is None:
        return None
    # Counted before it is mended: a difference that cannot be mended must be seen, too.
    logger.error(
        "the endpoint does not run what the stack believes",
        extra={"believed": difference.believed, "running": difference.running},
    )
    metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=1)
    package = model_package_of(sagemaker, difference.running) if difference.running else None
    if package and package != stack.model_package:
        serving_stack.serve(
            cloudformation,
            stack,
            model_package=package,
            role=to.serving_update_role_arn,
            token=event_id,
        )
        logger.info("the stack is told to serve what is in service", extra={"model_package": package})
    return difference


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Lambda's entry point for the queue of the stack's completions: FIFO, one message a batch."""
    to = settings.read(Settings)
    (message,) = SQSEvent(event).records
    try:
        difference = check(
            json.loads(message.body)["id"],
            to,
            cloudformation=clients.client("cloudformation"),
            sagemaker=clients.client("sagemaker"),
        )
    except (UnsettledError, serving_stack.StackBusyError) as wait:
        logger.info("not settled, looking again later", extra={"reason": str(wait)})
        metrics.add_metric(name="ChecksPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    if difference is None:
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=0)
    return {"batchItemFailures": []}
