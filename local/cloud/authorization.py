"""Authorization as AWS does it, where MiniStack stops at the request itself.

What one call needs beyond its own action is asked for the same caller: the key of encrypted data, the role that is
passed on, the database and catalog above a table. What Lambda does with a function's role, logging, tracing, reading
the queue, is asked for that role. Every decision is recorded (`decisions`).
"""

from __future__ import annotations

import contextvars
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.cloud import decisions, roles, seams
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT, REGION

Context = dict[str, Any]
Function = Callable[..., Any]

# Glue operations whose request names its resource indirectly (by the id of a run): operation → ARN, from the request.
GLUE_RESOURCES: dict[str, Callable[[dict[str, Any]], str]] = {}

# What a call on encrypted data needs from its key. Sources: "Protecting data with SSE-KMS" (Amazon S3), "Permissions to
# Use User-Generated KMS Keys" (Kinesis Data Streams), "Key management" (Amazon SQS and Amazon SNS Developer Guides).
_KEY_USES = {
    "s3:GetObject": ("kms:Decrypt",),
    "s3:GetObjectVersion": ("kms:Decrypt",),
    "s3:PutObject": ("kms:GenerateDataKey",),
    "kinesis:GetRecords": ("kms:Decrypt",),
    "kinesis:PutRecord": ("kms:GenerateDataKey",),
    "kinesis:PutRecords": ("kms:GenerateDataKey",),
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
    "sns:Publish": ("kms:GenerateDataKey", "kms:Decrypt"),
}
# A batch needs the permission of its single action ("Amazon SQS API permissions", "Amazon SNS API permissions").
_BATCHES = {
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sns:PublishBatch": "sns:Publish",
}
# Who hands a role to a service, and where the request names the role: there "Actions, resources, and condition keys"
# of the service wants iam:PassRole. CloudFormation's role is a condition key; SageMaker's operations ask themselves.
_PASSES = {
    "events:PutTargets": ("Targets.RoleArn",),
    "firehose:CreateDeliveryStream": (
        "ExtendedS3DestinationConfiguration.RoleARN",
        "KinesisStreamSourceConfiguration.RoleARN",
    ),
    "firehose:UpdateDestination": ("ExtendedS3DestinationUpdate.RoleARN",),
    "glue:CreateCrawler": ("Role",),
    "glue:CreateJob": ("Role",),
    "glue:UpdateCrawler": ("Role",),
    "glue:UpdateJob": ("JobUpdate.Role",),
    "lambda:CreateFunction": ("Role",),
    "lambda:UpdateFunctionConfiguration": ("Role",),
    "scheduler:CreateSchedule": ("Target.RoleArn",),
    "scheduler:UpdateSchedule": ("Target.RoleArn",),
}
# How each service names a refusal of the key: S3 says AccessDenied.
_KEY_ERRORS = {
    "kinesis": "KMSAccessDeniedException",
    "sqs": "KmsAccessDenied",
    "sns": "KMSAccessDenied",
}
# "Actions, resources, and condition keys for AWS Glue": what stands outside the catalog, by a word of the operation.
_GLUE_KINDS = {
    "DataQualityRuleset": "dataQualityRuleset",
    "Crawler": "crawler",
    "Job": "job",
    "Workflow": "workflow",
    "Trigger": "trigger",
    "Connection": "connection",
}
# Logs checks these on the stream; the group's own ARN does not match a policy on `<group>:*`.
_LOG_STREAM_ACTIONS = {"CreateLogStream", "DeleteLogStream", "GetLogEvents", "PutLogEvents"}

_SSE, _SSE_KEY = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"

# A part of a multipart upload is written: S3 must read what it wrote ("Multipart upload API and permissions").
_multipart: contextvars.ContextVar[bool] = contextvars.ContextVar("multipart", default=False)
# The roles that the request hands to its service.
_passed: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("passed", default=())
# The action behind the one that was called, when that is what was refused.
_refused: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar("refused", default=None)


def install(cloud: Cloud) -> None:
    """Stand between MiniStack's dispatcher and its policy evaluation."""
    recorder = decisions.Recorder(cloud.place.folder / decisions.FILE)
    cloud.closing.callback(recorder.close)
    seams.replace(seams.iam_evaluator, "enforce", lambda original: _enforcer(original, recorder))
    seams.replace(seams.iam_actions, "extract_iam_action", _actions)
    seams.replace(seams.iam_actions, "extract_resource_arn", _resources)
    seams.replace(seams.iam_actions, "s3_service_context", _encryption)
    seams.replace(seams.iam_actions, "request_tag_context", _conditions)
    seams.replace(seams.iam_actions, "access_denied_response", _refusals)
    seams.replace(seams.lambda_svc, "_emit_lambda_logs", _logging)
    seams.replace(seams.sqs, "_receive_messages_for_esm", _polling)


# --- decisions -------------------------------------------------------------------------------------------------------


def _enforcer(original: Function, recorder: decisions.Recorder) -> Function:
    def decide(key: str, action: str, service: str, region: str, resource: str, context: Context) -> Any:
        denied = original(key, action, service, region, resource_arn=resource, service_context=context)
        if not isinstance(denied, seams.iam_evaluator.AuthError):
            who = (seams.iam_evaluator.resolve_caller_identity(key) or {}).get("userArn", "anonymous")
            recorder.record(decisions.Decision(who, action, resource, context, denied is None))
        return denied

    def enforce(
        access_key_id: str,
        iam_action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: Mapping[str, Any] | None = None,
    ) -> Any:
        context = _tags(resource_arn) | dict(service_context or {})
        _refused.set(None)
        # Who calls from outside comes over TLS, nothing else listens; so do the services, which here make no request.
        seams.iam_evaluator.pin_request_origin("127.0.0.1", secure_transport=True)
        if not access_key_id and iam_action in (
            "s3:ListAllMyBuckets",
            "s3:CreateBucket",
        ):  # nobody's policy allows it
            return seams.iam_evaluator.EvalResult("ImplicitDeny", principal_arn="anonymous")
        if seams.iam_evaluator.is_root_access_key(access_key_id or ""):  # no policy applies to the root user
            return original(
                access_key_id, iam_action, service, region, resource_arn=resource_arn, service_context=context
            )
        denied = decide(access_key_id, iam_action, service, region, resource_arn, context)
        if denied is not None:
            return denied
        for action, resource, conditions in _implied(iam_action, resource_arn, context):
            denied = decide(
                access_key_id, action, action.partition(":")[0], region, resource, dict(conditions)
            )
            if denied is not None:
                _refused.set((action, resource))
                return denied
        return None

    return enforce


def _implied(action: str, resource: str, context: Context) -> Iterator[tuple[str, str, Context]]:
    service = action.partition(":")[0]
    for needed in _KEY_USES.get(action, ()):
        if key := _key(action, resource, context):
            yield needed, key, {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}
    if action == "s3:PutObject" and _multipart.get() and (key := _key(action, resource, context)):
        yield "kms:Decrypt", key, {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}
    if role := context.get("cloudformation:RoleArn"):
        yield "iam:PassRole", role, {"iam:PassedToService": "cloudformation.amazonaws.com"}
    if action in _PASSES:
        for role in _passed.get():
            yield "iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"}
    kind, *names = resource.partition(f":glue:{REGION}:{ACCOUNT}:")[2].split("/")
    # "Specifying AWS Glue resource ARNs": what is done to a table is done to its database and to the catalog, too.
    if kind == "table":
        yield action, _glue(f"database/{names[0]}"), context
    if kind in {"table", "database", "connection"}:
        yield action, _glue("catalog"), context


def _tags(resource: str) -> Context:
    """`aws:ResourceTag/...` of a SageMaker resource, so that the record holds what the decision saw."""
    if not resource.startswith("arn:aws:sagemaker:"):
        return {}
    tags: dict[str, str] = seams.tagging.resource_tags(resource) or {}
    return {f"aws:ResourceTag/{name}": value for name, value in tags.items()}


def _key(action: str, resource: str, context: Context) -> str | None:
    """The ARN of the customer's key that encrypts what an action reads or writes; None if there is none."""
    service = action.partition(":")[0]
    name = resource.rpartition(":")[2].removeprefix("stream/")
    if service == "s3":
        bucket, _, path = name.partition("/")
        if action == "s3:PutObject":
            headers = {name: context[f"s3:{name}"] for name in (_SSE, _SSE_KEY) if f"s3:{name}" in context}
        else:
            stored = seams.s3._buckets.get(bucket, {}).get("objects", {}).get(path)
            headers = seams.s3._stored_sse_headers(stored) if stored else {}
        key = (headers or seams.s3._bucket_default_sse_headers(bucket)).get(_SSE_KEY)
    elif service == "kinesis":
        key = seams.kinesis._streams.get(name, {}).get("KeyId")
    elif service == "sqs":
        key = (seams.sqs._queue_by_arn(resource) or {}).get("attributes", {}).get("KmsMasterKeyId")
    else:
        key = seams.sns._topics.get(resource, {}).get("attributes", {}).get("KmsMasterKeyId")
    found = seams.kms._resolve_key(key) if key else None
    return found["Arn"] if found else None


# --- requests --------------------------------------------------------------------------------------------------------


def _actions(original: Function) -> Function:
    def extract_iam_action(*request: Any) -> str | None:
        action: str | None = original(*request)
        return _BATCHES.get(action, action) if action else None

    return extract_iam_action


def _resources(original: Function) -> Function:
    def extract_resource_arn(
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query_params: dict[str, Any],
        region: str,
        account_id: str,
    ) -> str:
        found: str = original(service, method, path, headers, body, query_params, region, account_id)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "glue":
            return _glue_resource(operation, _request(body))
        if service == "kinesis" and operation == "GetRecords":
            # The iterator is of a stream, whichever the request names beside it.
            iterator = seams.kinesis._shard_iterators.get(str(_request(body).get("ShardIterator")))
            return str(iterator["stream_arn"]) if iterator else found
        if operation == "DescribeAlarms" and (names := _request(body).get("AlarmNames")):
            return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{names[0]}"  # AWS asks for each of them
        if service == "logs" and operation in _LOG_STREAM_ACTIONS:
            return f"{found}:log-stream:{_request(body).get('logStreamName', '')}"
        return found

    return extract_resource_arn


def _request(body: bytes) -> dict[str, Any]:
    """The JSON object of a request; what is none names no resource, and the service refuses it later."""
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return {}
    return request if isinstance(request, dict) else {}


def _glue_resource(operation: str, request: dict[str, Any]) -> str:
    if known := GLUE_RESOURCES.get(operation):
        return known(request)
    for word, kind in _GLUE_KINDS.items():
        if word in operation:
            listed = request.get("RulesetNames") or [None]
            name = request.get("Name") or request.get(f"{word}Name") or listed[0]
            # Lists, and CreateCrawler, take no resource ("Actions, resources, and condition keys for AWS Glue").
            return _glue(f"{kind}/{name}") if name and operation != "CreateCrawler" else "*"
    if "Table" in operation or "Partition" in operation:
        table = request.get("TableName") or request.get("Name") or request.get("TableInput", {}).get("Name")
        return _glue(f"table/{request.get('DatabaseName')}/{table or '*'}")
    if "Database" in operation:
        name = request.get("Name") or request.get("DatabaseInput", {}).get("Name")
        return _glue(f"database/{name}" if name else "catalog")
    if "Tag" in operation and "ResourceArn" in request:
        return str(request["ResourceArn"])
    return "*"


def _glue(resource: str) -> str:
    return f"arn:aws:glue:{REGION}:{ACCOUNT}:{resource}"


def _encryption(original: Function) -> Function:
    def s3_service_context(
        iam_action: str, query_params: dict[str, Any], path: str = "", headers: dict[str, str] | None = None
    ) -> Context:
        found: Context = dict(original(iam_action, query_params, path, headers))
        if f"s3:{_SSE}" in found:  # a part of an upload has the upload's
            upload = seams.s3._multipart_uploads.get((query_params.get("uploadId") or [""])[0])
            if key := (upload["preserved_headers"] if upload else headers or {}).get(_SSE_KEY):
                found[f"s3:{_SSE_KEY}"] = key
        return found

    return s3_service_context


def _roles(action: str, body: bytes) -> Iterator[str]:
    """The ARNs of the roles that a request hands to its service."""
    for path in _PASSES.get(action, ()):
        found: list[Any] = [_request(body)]
        for name in path.split("."):
            listed = [inner for outer in found for inner in (outer if isinstance(outer, list) else [outer])]
            found = [outer[name] for outer in listed if isinstance(outer, dict) and outer.get(name)]
        for role in map(str, found):
            yield role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT}:role/{role}"


def _conditions(original: Function) -> Function:
    def request_tag_context(service: str, iam_action: str, body: bytes, params: dict[str, Any]) -> Context:
        found: Context = dict(original(service, iam_action, body, params))
        _passed.set(tuple(_roles(iam_action, body)))
        _multipart.set(service == "s3" and bool({"uploads", "uploadId"} & params.keys()))
        if service == "cloudformation" and params.get("RoleARN"):
            found["cloudformation:RoleArn"] = params["RoleARN"][0]
        if iam_action == "cloudwatch:PutMetricData":
            given = params.get("Namespace")  # older clients speak the query protocol, newer ones JSON
            found["cloudwatch:namespace"] = given[0] if given else json.loads(body).get("Namespace")
        if iam_action == "events:PutEvents":
            entries = json.loads(body).get("Entries", [])
            for key, member in (("events:source", "Source"), ("events:detail-type", "DetailType")):
                values = {entry.get(member, "") for entry in entries}
                found[key] = values.pop() if len(values) == 1 else sorted(values)
        return found

    return request_tag_context


def _refusals(original: Function) -> Function:
    def access_denied_response(
        service: str, action: str, principal_arn: str, request_id: str, **more: Any
    ) -> Any:
        if refused := _refused.get():  # the message names the action behind the call, as AWS's does
            action, more["resource_arn"] = refused
            if action.startswith("kms:"):
                more["error_code"] = _KEY_ERRORS.get(service, "")
        # "Troubleshoot access denied error messages" (IAM User Guide): who, what, on what, and which policy.
        if "resource_arn" in more and not more.get("resource_policy_arn"):
            more["message"] = seams.iam_actions.identity_denial_message(
                action, principal_arn, more["resource_arn"], more.get("explicit_deny", False)
            )
        return original(service, action, principal_arn, request_id, **more)

    return access_denied_response


# --- what Lambda does with a function's role -------------------------------------------------------------------------


def _logging(original: Function) -> Function:
    def emit_logs(function: dict[str, Any], *arguments: Any, **more: Any) -> None:
        config = function.get("config") or function
        name = config["FunctionName"]
        group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}"
        stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:{name}"
        if (config.get("TracingConfig") or {}).get("Mode") == "Active":
            for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords"):
                _may(config, action, "*")
        if all(_may(config, action, stream) for action in ("logs:CreateLogStream", "logs:PutLogEvents")):
            original(function, *arguments, **more)

    return emit_logs


def _polling(original: Function) -> Function:
    def receive(queue_url: str, max_number: int) -> list[dict[str, Any]]:
        # "Configuring an Amazon SQS queue to trigger an AWS Lambda function": the role needs these, and the key.
        attributes = seams.sqs._queues[queue_url]["attributes"]
        consumer = _consumer(attributes["QueueArn"])
        needed = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
        if consumer and not all(_may(consumer, action, attributes["QueueArn"]) for action in needed):
            return []
        received: list[dict[str, Any]] = original(queue_url, max_number)
        return received

    return receive


def _consumer(queue_arn: str) -> dict[str, Any] | None:
    """The configuration of the function that a mapping feeds from the queue."""
    for _account, _region, mapping in seams.lambda_svc._iter_all_esms():
        if mapping.get("EventSourceArn") == queue_arn:
            function, _ = seams.lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], None)
            if function:
                config: dict[str, Any] = function["config"]
                return config
    return None


@functools.cache
def _function_session(role_arn: str, function: str) -> roles.Session:
    return roles.assume(role_arn, "lambda", function)


def _may(config: Mapping[str, Any], action: str, resource: str) -> bool:
    try:
        _function_session(config["Role"], config["FunctionName"]).authorize(action, resource)
    except roles.AccessDeniedError:
        return False
    return True
