"""After each update of Serving: is the model in service, who is told, and who follows (Tasks 3.3 and 4.2).

What the endpoint runs is compared with what the stack believes (`lambdas.difference`). If another version runs, the next
deployment of anything in Serving would bring the refused model back without an approval. So a difference is counted (an
alarm watches it), and the stack is told to serve the version that is really in service. What cannot be put right so, such
as another instance type or a deleted endpoint, a person is told, with what to do. Where there is no difference, the stacks
that follow Serving are told the same version. What became of an approval is reported once.

It cannot loop: putting a parameter back to the value it already has is not attempted, and the update that puts it back
ends in a check that finds no difference; if that update fails, it is not tried again.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas import clients, difference, registry, rollout_result, serving_stack, settings
from lambdas.difference import Difference, UnsettledError
from lambdas.rollout_result import Result
from lambdas.serving_stack import ServingStack, StackBusyError

METRIC = "RolloutDifference"
REPAIR = "repair-"
ENDPOINT_TYPE = "AWS::SageMaker::Endpoint"
UNKNOWN = "CloudFormation gives no reason"

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

    @property
    def failed_repair(self) -> bool:
        """Whether the stack was to be told what is in service, and the update failed: the next would, too."""
        return self.token.startswith(REPAIR) and self.status != "UPDATE_COMPLETE"


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
    if not stack.updatable:
        logger.error("the stack takes no update", extra={"status": stack.status})
        return None
    found = difference.find(aws.sagemaker, stack, to.endpoint_name)
    released = completion.status == "UPDATE_COMPLETE" and completion.package == stack.model_package
    if found is None:
        if released:
            _report(completion, registry.IN_SERVICE, "the endpoint runs it", stack.model_package, to, aws)
        _pass_on(completion, stack, to, aws)
        return None
    # Counted before it is mended: a difference that cannot be mended must be seen, too.
    logger.error(
        "the endpoint does not run what the stack believes",
        extra={"believed": found.believed, "running": found.endpoint and found.endpoint.config},
    )
    metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=1)
    mends = found.of_versions and not completion.failed_repair
    if released:
        _report_released(completion, found, to, aws, mends=mends)
    if mends:
        _put_right(completion, found, to, aws)
    else:
        _tell_difference(completion, found, to, aws)
    return found


def _report_released(
    completion: Completion, found: Difference, to: Settings, aws: Aws, *, mends: bool
) -> None:
    """CloudFormation took the release for a success. An endpoint deleted by hand says nothing about the version."""
    if found.endpoint is None:
        return
    if found.package == completion.package:
        reason = "the endpoint runs it, by another configuration than the stack believes"
        _report(completion, registry.IN_SERVICE, reason, found.package, to, aws)
        return
    why = found.endpoint.reason or "SageMaker gives no reason"
    reason = f"{why}. CloudFormation took it for a success{'; the stack is put right' if mends else ''}"
    _report(completion, registry.ROLLED_BACK, reason, found.package, to, aws)


def _tell_difference(completion: Completion, found: Difference, to: Settings, aws: Aws) -> None:
    """Nobody puts it right: tell a person. It is written beside no version, because it is no version's result."""
    failure = None
    if found.of_versions:  # then putting it right has failed
        failure = serving_stack.first_failure(aws.cloudformation, completion.stack_id, completion.token)
    reason = found.remedy(to.endpoint_name, (failure and failure.reason) or UNKNOWN)
    stack = found.stack
    said = Result(stack.model_package, registry.DIFFERS, reason, found.package, stack.status, completion.time)
    rollout_result.tell(said, source=to.result_source, events=aws.events)


def _put_right(completion: Completion, found: Difference, to: Settings, aws: Aws) -> None:
    """Tell the stack to serve what is in service, once none of the alarms would roll that back, too."""
    if found.endpoint and found.endpoint.alarms:
        names = list(found.endpoint.alarms)
        alarms = aws.cloudwatch.describe_alarms(AlarmNames=names, StateValue="ALARM")["MetricAlarms"]
        if raised := [alarm["AlarmName"] for alarm in alarms]:
            raise UnsettledError(f"alarms that roll back are in ALARM: {', '.join(raised)}")
    _serve(found.stack, found.package, token=f"{REPAIR}{completion.id}", to=to, aws=aws)
    logger.info("the stack is told to serve what is in service", extra={"model_package": found.package})


def _pass_on(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """Tell each stack that follows the version that Serving serves; nothing only if nothing was asked for.

    A Serving that has been made anew serves nothing yet, and that is no reason to end what follows it.
    """
    if not stack.model_package and not completion.token.startswith("empty-"):
        return
    busy = []
    for name in json.loads(to.follower_stack_names):
        try:
            follower = serving_stack.read(aws.cloudformation, name)
        except serving_stack.StackMissingError:
            continue  # not deployed yet: the end of its creation is checked, too
        if follower.model_package == stack.model_package:
            continue
        if follower.busy:
            busy.append(f"{name} is in {follower.status}")
        elif follower.updatable:
            _serve(follower, stack.model_package, token=f"follow-{completion.id}", to=to, aws=aws)
            logger.info("told to follow", extra={"stack": name, "model_package": stack.model_package})
        else:
            # Waiting for it would keep the check of every later update waiting.
            logger.error("a follower takes no update", extra={"stack": name, "status": follower.status})
    if busy:
        raise StackBusyError("; ".join(busy))


def _serve(stack: ServingStack, package: str, *, token: str, to: Settings, aws: Aws) -> None:
    serving_stack.serve(
        aws.cloudformation, stack, model_package=package, role=to.serving_update_role_arn, token=token
    )


def _report_failure(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """CloudFormation has undone the release, or could not: say why it failed in the first place."""
    failure = serving_stack.first_failure(aws.cloudformation, completion.stack_id, completion.token)
    reason = (failure and failure.reason) or UNKNOWN
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
        found = check(completion, to, aws)
    except (UnsettledError, StackBusyError) as wait:
        logger.info("not settled, looking again later", extra={"reason": str(wait)})
        metrics.add_metric(name="ChecksPostponed", unit=MetricUnit.Count, value=1)
        return {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
    if found is None:
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=0)
    return {"batchItemFailures": []}
