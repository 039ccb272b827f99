"""After each update of Serving: is the model in service, who is told, and who follows (Tasks 3.3 and 4.2).

What the endpoint runs is compared with what the stack believes (`lambdas.difference`). If another version runs, the next
deployment of anything in Serving would bring the refused model back without an approval. So a difference is counted (an
alarm watches it), and the stack is told to serve the version that is really in service. What cannot be put right so, such
as another instance type or a deleted endpoint, a person is told, with what to do. Where there is no difference, the stacks
that follow Serving are told the same version, and compared when they have been. What became of an approval is reported once.

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
from lambdas.completion import REPAIR, Completion
from lambdas.difference import AlarmsRingError, Difference, UnsettledError
from lambdas.rollout_result import Result
from lambdas.serving_stack import ResourceFailure, ServingStack, StackBusyError

METRIC = "RolloutDifference"
ENDPOINT_TYPE = "AWS::SageMaker::Endpoint"
# What UpdateEndpoint says of an endpoint that is being scaled.
IN_PROGRESS = "Cannot update in-progress endpoint"
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


def check(completion: Completion, to: Settings, aws: Aws) -> Difference | None:
    """Compare, report, and put right or pass on; raises `UnsettledError` or `StackBusyError`."""
    try:
        stack = serving_stack.read(aws.cloudformation, to.serving_stack_name)
    except serving_stack.StackMissingError:
        logger.info("the stack has been deleted since")
        return None
    if completion.package and completion.status != "UPDATE_COMPLETE":
        _failed(completion, stack, to, aws)
    if stack.busy:
        logger.info("a newer update is running; its own end will be checked")
        return None
    if not stack.updatable:
        logger.error("the stack takes no update", extra={"status": stack.status})
        return None
    found = _difference(stack, to.endpoint_name, aws)
    released = completion.status == "UPDATE_COMPLETE" and completion.package == stack.model_package
    if found is None:
        return _arrived(completion, stack, to, aws, released=released)
    mends = found.of_versions and not completion.failed_repair
    if released:
        _report_released(completion, found, to, aws, mends=mends)
    if mends:
        _put_right(completion, found, to, aws)
    elif found.of_versions:
        failure = serving_stack.first_failure(aws.cloudformation, completion.stack_id, completion.token)
        _tell(found, found.remedy((failure and failure.reason) or UNKNOWN), completion, to, aws)
    else:
        _tell(found, found.remedy(), completion, to, aws)
    return found


def _arrived(
    completion: Completion, stack: ServingStack, to: Settings, aws: Aws, *, released: bool
) -> Difference | None:
    """The endpoint runs what the stack believes: report it once, and pass it on."""
    version = registry.find(aws.sagemaker, stack.model_package) if released else None
    if version and version.status == registry.REJECTED:
        logger.info("withdrawn during its rollout: the function that releases says so, and what follows")
        return None
    if released:
        reason = "it took over the endpoint"
        _report(completion, registry.IN_SERVICE, reason, stack.model_package, to, aws)
    return _pass_on(completion, stack, to, aws)


def _difference(stack: ServingStack, endpoint_name: str, aws: Aws) -> Difference | None:
    found = difference.find(aws.sagemaker, stack, endpoint_name)
    if found:
        # Counted before it is mended: a difference that cannot be mended must be seen, too.
        logger.error(
            "the endpoint does not run what the stack believes",
            extra={
                "stack": stack.name,
                "believed": found.believed,
                "running": found.endpoint and found.endpoint.config,
            },
        )
        metrics.add_metric(name=METRIC, unit=MetricUnit.Count, value=1)
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


def _tell(found: Difference, reason: str, completion: Completion, to: Settings, aws: Aws) -> None:
    """Nobody puts it right: tell a person. It is written beside no version, because it is no version's result."""
    stack = found.stack
    said = Result(stack.model_package, registry.DIFFERS, reason, found.package, stack.status, completion.time)
    rollout_result.tell(said, source=to.result_source, events=aws.events)


def _put_right(completion: Completion, found: Difference, to: Settings, aws: Aws) -> None:
    """Tell the stack to serve what is in service, once none of the alarms would roll that back, too."""
    difference.ringing(aws.cloudwatch, found.stack)
    _serve(found.stack, found.package, token=f"{REPAIR}{completion.id}", to=to, aws=aws)
    logger.info("the stack is told to serve what is in service", extra={"model_package": found.package})


def _pass_on(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> Difference | None:
    """Tell each stack that follows the version that Serving serves; nothing only if nothing was asked for.

    A Serving that has been made anew serves nothing yet, and that is no reason to end what follows it. One that has been
    told is compared, too, and never put back: it would be told the same again, for ever.
    """
    if not stack.model_package and not completion.token.startswith("empty-"):
        return None
    found, waits = [], []
    for name in json.loads(to.follower_stack_names):
        try:
            if differs := _follow(name, completion, stack, to, aws):
                found.append(differs)
        except (StackBusyError, UnsettledError) as wait:  # the others need not wait for it
            waits.append(str(wait))
    if waits:
        raise StackBusyError("; ".join(waits))
    for differs in found:
        _tell(differs, differs.remedy(), completion, to, aws)
    return found[0] if found else None


def _follow(
    name: str, completion: Completion, stack: ServingStack, to: Settings, aws: Aws
) -> Difference | None:
    try:
        follower = serving_stack.read(aws.cloudformation, name)
    except serving_stack.StackMissingError:
        return None  # not deployed yet: the end of its creation is checked, too
    if follower.model_package == stack.model_package:
        endpoint_name = follower.outputs.get(serving_stack.ENDPOINT_OUTPUT)
        return _difference(follower, endpoint_name, aws) if endpoint_name and follower.updatable else None
    if follower.busy:
        raise StackBusyError(f"{name} is in {follower.status}")
    if follower.updatable:
        # An option that scales takes no update meanwhile; `UnsettledError` until it has.
        if endpoint_name := follower.outputs.get(serving_stack.ENDPOINT_OUTPUT):
            difference.look(aws.sagemaker, endpoint_name)
        _serve(follower, stack.model_package, token=f"follow-{completion.id}", to=to, aws=aws)
        logger.info("told to follow", extra={"stack": name, "model_package": stack.model_package})
    else:
        # Waiting for it would keep the check of every later update waiting.
        logger.error("a follower takes no update", extra={"stack": name, "status": follower.status})
    return None


def _serve(
    stack: ServingStack, package: str, *, token: str, to: Settings, aws: Aws, guarded: bool = True
) -> None:
    serving_stack.serve(
        aws.cloudformation,
        stack,
        model_package=package,
        role=to.serving_update_role_arn,
        token=token,
        guarded=guarded,
    )


def _failed(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """Report why a release failed, or try it again if it was not tried at all."""
    failure = serving_stack.first_failure(aws.cloudformation, completion.stack_id, completion.token)
    if failure and IN_PROGRESS in failure.reason and completion.status == "UPDATE_ROLLBACK_COMPLETE":
        _try_again(completion, stack, to, aws)
    else:
        _report_failure(completion, failure, stack, to, aws)


def _try_again(completion: Completion, stack: ServingStack, to: Settings, aws: Aws) -> None:
    """The endpoint was being scaled when the release reached it: that is no failure of the version."""
    version = registry.find(aws.sagemaker, completion.package or "")
    serving = registry.find(aws.sagemaker, stack.model_package)
    if stack.busy:
        raise StackBusyError(f"{stack.name} is in {stack.status}")
    difference.look(aws.sagemaker, to.endpoint_name)
    if version and version.releasable and not registry.superseded(version, stack.model_package, serving):
        withdrawn = registry.withdrawn(stack.model_package, serving)
        try:
            ringing = difference.ringing(aws.cloudwatch, stack, withdrawn=withdrawn)
        except AlarmsRingError as error:
            # The hourly look releases it: an alarm may ring for longer than a check can wait.
            said = rollout_result.waiting(
                version, error.names, stack.model_package, stack.status, completion.time
            )
            rollout_result.report(said, source=to.result_source, events=aws.events, sagemaker=aws.sagemaker)
            return
        token = serving_stack.release_token(version.number, completion.id)
        _serve(stack, version.arn, token=token, to=to, aws=aws, guarded=not ringing)


def _report_failure(
    completion: Completion, failure: ResourceFailure | None, stack: ServingStack, to: Settings, aws: Aws
) -> None:
    """CloudFormation has undone the release, or could not: say why it failed in the first place."""
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
