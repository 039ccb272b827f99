"""After each update of Serving: is the model in service, who is told, and who follows (Tasks 3.3 and 4.2).

What the endpoint runs is compared with what the stack believes: after an automatic rollback an endpoint is `InService`
on its old configuration, and the stack may still have succeeded. The next deployment of anything in Serving would then
bring the refused model back without an approval. So the difference is counted (an alarm watches it), and the stack is
told to serve what is really in service. Where there is no difference, the stacks that follow Serving are told the same
version. What became of an approval is reported once.

It cannot loop: putting a parameter back to the value it already has is not attempted, and the update that puts it back
ends in a check that finds no difference.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from lambdas import clients, registry, rollout_result, serving_stack, settings
from lambdas.rollout_result import Result
from lambdas.serving_stack import ServingStack, StackBusyError

METRIC = "RolloutDifference"
UNSETTLED = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
ENDPOINT_TYPE = "AWS::SageMaker::Endpoint"

logger = Logger()
metrics = Metrics()


@dataclass(frozen=True)
class Settings:
    """What is compared with what, with whose permissions a stack is told, and who follows (a JSON list of names)."""

    serving_stack_name: str
    follower_stack_names: str
    endpoint_name: str
    serving_update_role_arn: str
    model_package_group_name: str
    result_source: str


class Aws(NamedTuple):
    """The clients, by service."""

    cloudformation: Any
    sagemaker: Any
    events: Any
    cloudwatch: Any


@dataclass(frozen=True)
class Completion:
    """A "CloudFormation Stack Status Change" event: the end of an update of Serving, or of a stack that follows it.

    `package` is the version that the update was to release, as its token says; None if it was no release.
    """

    id: str
    time: str
    stack_id: str
    status: str
    token: str
    package: str | None

    @classmethod
    def parse(cls, event: dict[str, Any], group: str) -> "Completion":
        """Read the event. A stack and its model packages share partition, region and account."""
        detail = event["detail"]
        stack_id, token = detail["stack-id"], detail.get("client-request-token") or ""
        version = serving_stack.released_version(token)
        _, partition, _, region, account, *_ = stack_id.split(":")
        package = f"arn:{partition}:sagemaker:{region}:{account}:model-package/{group}/{version}"
        status = detail["status-details"]["status"]
        return cls(event["id"], event["time"], stack_id, status, token, package if version else None)


@dataclass(frozen=True)
class Endpoint:
    """What runs: its configuration, the reason SageMaker gives for its last failure, and its rollback alarms."""

    config: str
    reason: str
    alarms: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """The stack believes in one endpoint configuration, the endpoint runs another (None: there is no endpoint)."""

    believed: str
    running: str | None


class UnsettledError(Exception):
    """What will run is not decided yet, or cannot be put right yet. Try again later."""


def look(sagemaker: Any, endpoint: str) -> Endpoint | None:
    """The endpoint, or None if there is none of that name; `UnsettledError` while it is changing."""
    try:
        found = sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        # DescribeEndpoint has no error of its own for an endpoint that does not exist.
        if "Could not find" in error.response["Error"]["Message"]:
            return None
        raise
    if found["EndpointStatus"] in UNSETTLED:
        raise UnsettledError(f"endpoint {endpoint} is {found['EndpointStatus']}")
    rollback = found.get("LastDeploymentConfig", {}).get("AutoRollbackConfiguration", {})
    alarms = tuple(alarm["AlarmName"] for alarm in rollback.get("Alarms", []))
    return Endpoint(found["EndpointConfigName"], found.get("FailureReason", ""), alarms)


def compare(stack: ServingStack, running: str | None) -> Difference | None:
    """The difference between what the stack believes and what runs; a stack without a model believes nothing."""
    believed = stack.outputs.get(serving_stack.CONFIG_OUTPUT)
    return Difference(believed, running) if believed and believed != running else None


def model_package_of(sagemaker: Any, config: str) -> str | None:
    """The model package behind an endpoint configuration (Serving keeps replaced ones for this), or None."""
    variant = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
    model = sagemaker.describe_model(ModelName=variant["ModelName"])
    package: str | None = model.get("PrimaryContainer", {}).get("ModelPackageName")
    return package


def check(completion: Completion, to: Settings, aws: Aws) -> Difference | None:
    """Compare, report, and put right or pass on; raises `UnsettledError` or `StackBusyError`."""
    try:
        stack = serving_stack.read(aws.cloudformation, to.serving_stack_name)
    except serving_stack.StackMissingError:
        logger.info("the stack has been deleted since")
        return None
    if completion.package and completion.status != "UPDATE_COMPLETE":
        _report_failure(completion, stack, to, aws)
    if stack.busy:
        logger.info("a newer update is running; its own end will be checked")
        return None
    if not stack.status.endswith("_COMPLETE"):
        logger.error("the stack takes no update", extra={"status": stack.status})
        return None
    endpoint = look(aws.sagemaker, to.endpoint_name)
    difference = compare(stack, endpoint.config if endpoint else None)
    released = completion.status == "UPDATE_COMPLETE" and completion.package == stack.model_package
    if difference is None:
        if released:
            _report(completion, registry.IN_SERVICE, "the endpoint runs it", stack.model_package, to, aws)
        _pass_on(completion, stack, to, aws)
        return None
    # Counted before it is mended: a difference that cannot be mended must be seen, too.
    logger.error(
        "the endpoint does not run what the stack believes",
        extra={"believed": difference.believed, "running": difference.running},
    )
    metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=1)
    package = (model_package_of(aws.sagemaker, endpoint.config) if endpoint else None) or ""
    if released:
        why = (endpoint and endpoint.reason) or "SageMaker gives no reason"
        reason = f"{why}. CloudFormation took it for a success; the stack is put right"
        _report(completion, registry.ROLLED_BACK, reason, package, to, aws)
    if endpoint and package and package != stack.model_package:
        _put_right(completion, stack, package, endpoint.alarms, to, aws)
    return difference


def _put_right(
    completion: Completion,
    stack: ServingStack,
    package: str,
    alarms: tuple[str, ...],
    to: Settings,
    aws: Aws,
) -> None:
    """Tell the stack to serve what is in service, once none of the alarms would roll that back, too."""
    if alarms:
        found = aws.cloudwatch.describe_alarms(AlarmNames=list(alarms), StateValue="ALARM")
        if raised := [alarm["AlarmName"] for alarm in found["MetricAlarms"]]:
            raise UnsettledError(f"alarms that roll back are in ALARM: {', '.join(raised)}")
    _serve(stack, package, token=f"repair-{completion.id}", to=to, aws=aws)
    logger.info("the stack is told to serve what is in service", extra={"model_package": package})


def _pass_on(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """Tell each stack that follows the version that Serving serves; nothing only if nothing was asked for.

    A Serving that has been made anew serves nothing yet, and that is no reason to end what follows it.
    """
    if not stack.model_package and not completion.token.startswith("empty-"):
        return
    for name in json.loads(to.follower_stack_names):
        try:
            follower = serving_stack.read(aws.cloudformation, name)
        except serving_stack.StackMissingError:
            continue  # not deployed yet: the end of its creation is checked, too
        if follower.model_package == stack.model_package:
            continue
        if follower.busy:
            raise StackBusyError(f"{name} is in {follower.status}")
        _serve(follower, stack.model_package, token=f"follow-{completion.id}", to=to, aws=aws)
        logger.info("told to follow", extra={"stack": name, "model_package": stack.model_package})


def _serve(stack: ServingStack, package: str, *, token: str, to: Settings, aws: Aws) -> None:
    serving_stack.serve(
        aws.cloudformation, stack, model_package=package, role=to.serving_update_role_arn, token=token
    )


def _report_failure(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """CloudFormation has undone the release, or could not: say why it failed in the first place."""
    failure = serving_stack.first_failure(aws.cloudformation, completion.stack_id, completion.token)
    reason = (failure and failure.reason) or "CloudFormation gives no reason"
    word, running = registry.NOT_RELEASED, "" if stack.busy else stack.model_package
    # The endpoint's own update failed: SageMaker had begun, and took it back. What fails earlier never reached it.
    if failure and (failure.type, failure.status) == (ENDPOINT_TYPE, "UPDATE_FAILED"):
        word = registry.ROLLED_BACK
    if completion.status == "UPDATE_ROLLBACK_FAILED":
        word, running = registry.STUCK, ""
        remedy = f"aws cloudformation continue-update-rollback --stack-name {to.serving_stack_name}"
        reason = (
            f"CloudFormation could not undo it; when the cause is gone: {remedy}. It began with: {reason}"
        )
    _report(completion, word, reason, running, to, aws)


def _report(completion: Completion, word: str, reason: str, running: str, to: Settings, aws: Aws) -> None:
    if completion.package:
        result = Result(completion.package, word, reason, running, completion.status, completion.time)
        rollout_result.report(result, source=to.result_source, events=aws.events, sagemaker=aws.sagemaker)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Lambda's entry point for the queue of completions: FIFO, one message a batch."""
    to = settings.read(Settings)
    (message,) = SQSEvent(event).records
    completion = Completion.parse(json.loads(message.body), to.model_package_group_name)
    aws = Aws(*(clients.client(service) for service in Aws._fields))
    try:
        difference = check(completion, to, aws)
    except (UnsettledError, StackBusyError) as wait:
        logger.info("not settled, looking again later", extra={"reason": str(wait)})
        metrics.add_metric(name="ChecksPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    if difference is None:
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=0)
    return {"batchItemFailures": []}
