"""EventBridge's and Scheduler's targets, and queues behind them: new services, permissions, retries, dead letters.

A service of ours registers itself: `TARGETS["glue"] = start`. It is called on a thread of its own with the target, the
event after Input, InputPath or InputTransformer, and a session of the target's role; it raises what the API raises.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from local.cloud import clock, roles, seams
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT
from local.cloud.protocol import ApiError

TARGETS: dict[str, Callable[[dict[str, Any], dict[str, Any], roles.Session | None], None]] = {}

# "Event retry policy" (EventBridge) and "RetryPolicy" (Scheduler): the defaults of both.
ATTEMPTS, AGE_SECONDS = 185, 24 * 3600
_SWEEP_SECONDS = 0.5  # schedules name minutes: at factor 60 the shortest rate is a second
_MISSING = {"ResourceNotFound", "ResourceNotFoundException", "EntityNotFoundException", "QueueDoesNotExist"}
_PASSING = {"ThrottlingException", "ConcurrentRunsExceededException", "ResourceLimitExceeded"}
# "Using universal targets" (EventBridge Scheduler User Guide): an operation of any service, by the name SDKs give it.
_UNIVERSAL = re.compile(r"arn:aws:scheduler:::aws-sdk:([a-z0-9]+):([a-zA-Z0-9]+)")
_EXECUTION = "<aws.scheduler.execution-id>"
# Resource policies decide for these: the rule itself calls, not a role.
_ACTIONS = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": "lambda:InvokeFunction"}


class UndeliveredError(Exception):
    """An event could not be delivered: EventBridge's error code, and whether it tries again."""

    def __init__(self, code: str, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.code, self.again = code, again


def install(cloud: Cloud) -> None:
    """Deliver every target from here, and let rates and calendars run at the cloud's speed."""
    seams.replace(seams.eventbridge, "_invoke_target", lambda original: _invoker(original, cloud))
    seams.replace(seams.eventbridge, "_parse_rate_seconds", _rate)
    seams.replace(seams.eventbridge, "_cron_next_fire", _cron)
    seams.replace(seams.lambda_svc, "_run_sqs_batch", _given_back)
    TARGETS["scheduler"] = functools.partial(_operation, cloud)
    seams.eventbridge._SCHEDULER_TICK_INTERVAL = seams.scheduler._SCHEDULE_TICK_INTERVAL = _SWEEP_SECONDS


def emit(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: list[str] | None = None
) -> None:
    """Put an event of an AWS service on the default bus."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail, default=str)}
    seams.eventbridge._put_events(
        {"Entries": [entry | {"Resources": resources or []}]}, allow_aws_source=True
    )


def permit(service: str, arn: str, action: str, source_arn: str) -> None:
    """Raise `UndeliveredError` unless the resource's own policy lets an AWS service act for `source_arn`."""
    owned = seams.iam_evaluator._resource_policy(action.partition(":")[0], arn)
    if owned is None:
        raise UndeliveredError("NO_RESOURCE", f"{arn} does not exist")
    context = {"aws:sourcearn": source_arn, "aws:sourceaccount": ACCOUNT}
    if not roles.allows(owned[0], service, action, arn, context):
        raise UndeliveredError(
            "NO_PERMISSIONS", f"{service} is not authorized to perform: {action} on {arn} for {source_arn}"
        )


def send(queue_arn: str, body: str, **parameters: Any) -> None:
    """Put a message on a queue as a service does, so that a FIFO queue drops what comes twice."""
    queue = seams.sqs._queue_by_arn(queue_arn)
    seams.sqs._act_send_message({"QueueUrl": queue["url"], "MessageBody": body, **parameters}, queue["url"])


def attempt(
    deliver: Callable[[], None], policy: Mapping[str, Any]
) -> tuple[UndeliveredError, int, str] | None:
    """Deliver, again and again as the retry policy says; what the last failure was, or None."""
    attempts = policy.get("MaximumRetryAttempts", ATTEMPTS)
    deadline = time.monotonic() + clock.scaled(policy.get("MaximumEventAgeInSeconds", AGE_SECONDS))
    tried = 0
    while True:
        try:
            deliver()
        except Exception as error:  # noqa: BLE001 - whatever a target raises is a failed delivery
            failure = _failure(error)
        else:
            return None
        if not failure.again:
            return failure, tried, ""
        if tried >= attempts:
            return failure, tried, "MaximumRetryAttempts"
        pause = max(0.05, clock.scaled(min(2**tried, 600)))
        if time.monotonic() + pause > deadline:
            return failure, tried, "MaximumEventAgeInSeconds"
        time.sleep(pause)
        tried += 1


def _invoker(original: Callable[..., None], cloud: Cloud) -> Callable[..., None]:
    def invoke(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> None:
        service = target.get("Arn", "").split(":")[2:3]
        if not service or service[0] not in TARGETS.keys() | _ACTIONS.keys():
            original(target, event, rule, view)
            return
        view = view or seams.eventbridge._pattern_event_view(event)
        delivery = (target, _payload(target, rule, view), json.dumps(view.event_with_detail()), rule, cloud)
        if service[0] in TARGETS:  # may call the server itself and wait: not on the event loop
            threading.Thread(target=_deliver, args=delivery, name=f"events.{service[0]}", daemon=True).start()
        else:
            _deliver(*delivery)

    return invoke


def _deliver(target: dict[str, Any], payload: str, event: str, rule: dict[str, Any], cloud: Cloud) -> None:
    inside = target["Arn"].split(":")[2] in _ACTIONS  # in this process nothing fails for a while only
    policy = {"MaximumRetryAttempts": 0} if inside else target.get("RetryPolicy") or {}
    failed = attempt(lambda: _call(target, payload, rule), policy)
    letters = (target.get("DeadLetterConfig") or {}).get("Arn")
    if failed is None:
        return
    print(f"{rule['Arn']} -> {target['Arn']}: {failed[0].code}: {failed[0]}", flush=True)
    if letters:
        _bury(letters, target, rule, event, failed, cloud)


def _call(target: dict[str, Any], payload: str, rule: dict[str, Any]) -> None:
    arn = target["Arn"]
    service = arn.split(":")[2]
    if service in TARGETS:
        role = target.get("RoleArn")
        caller = "scheduler" if ":scheduler:" in rule["Arn"] else "events"
        session = roles.assume(role, caller, rule["Name"]) if role else None
        TARGETS[service](target, json.loads(payload), session)
        return
    permit("events.amazonaws.com", arn, _ACTIONS[service], rule["Arn"])
    if service == "sqs":
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        send(arn, payload, **({"MessageGroupId": group} if group else {}))
    elif service == "sns":
        seams.eventbridge._dispatch_to_sns(arn, payload)
    else:
        seams.eventbridge._dispatch_to_lambda(arn, payload)


def _operation(
    cloud: Cloud, target: dict[str, Any], request: dict[str, Any], session: roles.Session | None
) -> None:
    """Call the operation that a schedule's universal target names, as the schedule's role."""
    found = _UNIVERSAL.fullmatch(target["Arn"])
    if found is None or session is None:
        raise UndeliveredError("InvalidTarget", f"{target['Arn']} is no universal target with a role")
    # "Adding context attributes": another id for each attempt.
    given = json.loads(json.dumps(request).replace(_EXECUTION, secrets.token_hex(8)))
    client = session.client(found[1], cloud.place)
    try:
        getattr(client, xform_name(found[2]))(**given)
    finally:
        client.close()


def _payload(target: dict[str, Any], rule: dict[str, Any], view: Any) -> str:
    if target.get("InputTransformer"):
        return str(seams.eventbridge._apply_input_transformer(target["InputTransformer"], rule, view))
    if target.get("Input"):
        return str(target["Input"])
    value = view.event_with_detail()
    for part in target.get("InputPath", "$").removeprefix("$").split("."):
        value = value.get(part, {}) if part else value
    return json.dumps(value)


def _failure(error: Exception) -> UndeliveredError:
    if isinstance(error, UndeliveredError):
        return error
    if isinstance(error, roles.AccessDeniedError):
        return UndeliveredError("NO_PERMISSIONS", str(error))
    if isinstance(error, ApiError):
        code, status = error.code, error.status
    elif isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    else:
        return UndeliveredError("INTERNAL_ERROR", repr(error), again=True)
    if code.startswith("AccessDenied"):
        return UndeliveredError("NO_PERMISSIONS", str(error))
    if code in _MISSING:
        return UndeliveredError("NO_RESOURCE", str(error))
    return UndeliveredError(code, str(error), again=code in _PASSING or status >= 500)


def _bury(
    letters: str,
    target: dict[str, Any],
    rule: dict[str, Any],
    event: str,
    failed: tuple[UndeliveredError, int, str],
    cloud: Cloud,
) -> None:
    failure, tried, condition = failed
    scheduled = ":scheduler:" in rule["Arn"]
    values = {
        "SCHEDULE_ARN" if scheduled else "RULE_ARN": rule["Arn"],
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": failure.code,
        "ERROR_MESSAGE": str(failure)[:1000],
        "RETRY_ATTEMPTS": str(tried),
        "EXHAUSTED_RETRY_CONDITION": condition,
    }
    attributes = {key: {"DataType": "String", "StringValue": text} for key, text in values.items() if text}
    try:
        if scheduled:  # Scheduler sends with the schedule's role, a rule with the queue's policy
            sqs = roles.assume(target["RoleArn"], "scheduler", rule["Name"]).client("sqs", cloud.place)
            url = seams.sqs._queue_by_arn(letters)["url"]
            sqs.send_message(QueueUrl=url, MessageBody=event, MessageAttributes=attributes)
        else:
            permit("events.amazonaws.com", letters, "sqs:SendMessage", rule["Arn"])
            send(letters, event, MessageAttributes=attributes)
    except Exception as error:  # noqa: BLE001 - nobody is left to tell but the log
        print(f"{rule['Arn']} -> {letters}: the event is lost: {error}", flush=True)


def _rate(original: Callable[[str], int | None]) -> Callable[[str], float | None]:
    def rate(expression: str) -> float | None:
        seconds = original(expression)
        return None if seconds is None else clock.scaled(seconds)

    return rate


def _cron(original: Callable[..., dt.datetime | None]) -> Callable[..., dt.datetime | None]:
    def following(fields: Any, after: dt.datetime) -> dt.datetime | None:
        shown = dt.datetime.fromtimestamp(clock.calendar(after.timestamp()), dt.UTC)
        due = original(fields, shown)
        return None if due is None else dt.datetime.fromtimestamp(clock.moment(due.timestamp()), dt.UTC)

    return following


def _given_back(original: Callable[..., None]) -> Callable[..., None]:
    """What a function did not settle is visible again when the queue's time has passed, at the cloud's speed."""

    def run(mapping: dict[str, Any], function: object, event: object, batch: list[Any], *rest: Any) -> None:
        original(mapping, function, event, batch, *rest)
        if (queue := seams.sqs._queue_by_arn(mapping["EventSourceArn"])) is None:
            return
        handles = {message["receipt_handle"] for message in batch}
        visible = time.time() + clock.scaled(int(queue["attributes"]["VisibilityTimeout"]))
        for message in list(queue["messages"]):
            if message["receipt_handle"] in handles:
                message["visible_at"] = min(message["visible_at"], visible)

    return run
