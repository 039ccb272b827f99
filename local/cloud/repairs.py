"""Properties of our templates that MiniStack's CloudFormation drops: set through the service's API, or on its record.

What stays dropped is listed in docs/embedded-cloud.md, "Known differences"; tests/local/cloud/test_properties.py
compares both with what the APIs tell.
"""

from __future__ import annotations

import json
from typing import Any

from local.cloud import resources, seams
from local.cloud.protocol import arn
from local.cloud.resources import Properties, Request


def install(_cloud: object) -> None:
    """Register them."""
    for resource_type, mend in _REPAIRS.items():
        resources.extend(resource_type, mend)
    seams.provisioners._STACK_TAG_PROPERTY["AWS::S3::Bucket"] = ("Tags", "list")
    seams.replace(seams.ec2, "_vpce_fields_xml", _whole_endpoint)
    seams.provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]["delete"] = _delete_bucket
    for module in (seams.stack_handlers, seams.changesets, seams.stacks):
        seams.replace(module, "_evaluate_conditions", _joining)


def _bucket(request: Request, name: str, old: Properties) -> None:
    s3, given = request.client("s3"), request.properties
    if encryption := given.get("BucketEncryption"):
        rules = [_encryption_rule(rule) for rule in encryption["ServerSideEncryptionConfiguration"]]
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})
    elif "BucketEncryption" in old:
        s3.delete_bucket_encryption(Bucket=name)
    if lifecycle := given.get("LifecycleConfiguration"):
        rules = [_lifecycle_rule(rule) for rule in lifecycle["Rules"]]
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    elif "LifecycleConfiguration" in old:
        s3.delete_bucket_lifecycle(Bucket=name)
    if logging := given.get("LoggingConfiguration"):
        target = logging.get("DestinationBucketName", name)
        enabled = {"TargetBucket": target, "TargetPrefix": logging.get("LogFilePrefix", "")}
        s3.put_bucket_logging(Bucket=name, BucketLoggingStatus={"LoggingEnabled": enabled})
    elif "LoggingConfiguration" in old:
        s3.put_bucket_logging(Bucket=name, BucketLoggingStatus={})
    if tags := given.get("Tags"):
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
    elif "Tags" in old:
        s3.delete_bucket_tagging(Bucket=name)


def _encryption_rule(rule: Properties) -> dict[str, Any]:
    told = _renamed(rule, {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"})
    default = told.get("ApplyServerSideEncryptionByDefault", {})
    if default.get("SSEAlgorithm") == "aws:kms" and "KMSMasterKeyID" not in default:
        key = arn(
            "kms", "alias/aws/s3"
        )  # what AWS takes then (the bucket of `cdk bootstrap`), and MiniStack wants named
        told["ApplyServerSideEncryptionByDefault"] = {**default, "KMSMasterKeyID": key}
    return told


def _lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """A rule in the API's words."""
    told = _renamed(rule, {"Id": "ID"})
    told["Filter"] = {"Prefix": told.pop("Prefix", "")}
    if days := told.pop("ExpirationInDays", None):
        told["Expiration"] = {"Days": int(days)}
    if told.pop("ExpiredObjectDeleteMarker", None):
        told["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if transitions := told.get("Transitions"):
        told["Transitions"] = [_renamed(item, {"TransitionInDays": "Days"}) for item in transitions]
    return told


def _renamed(given: Properties, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in given.items()}


def _delete_bucket(name: str, _properties: Properties) -> None:
    """As the API deletes it: not while it holds objects or versions."""
    status, _, answer = seams.s3._delete_bucket(name)
    if status == 409:
        raise ValueError(
            f"The bucket you tried to delete is not empty: {name} (Service: S3, Status Code: 409)"
        )
    if status >= 400 and b"NoSuchBucket" not in answer:
        raise ValueError(answer.decode())


def _stream(request: Request, name: str, old: Properties) -> None:
    kinesis = request.client("kinesis")
    wanted = request.properties.get("StreamEncryption")
    if wanted == old.get("StreamEncryption"):
        return
    if wanted:
        kinesis.start_stream_encryption(StreamName=name, **wanted)
    else:
        kinesis.stop_stream_encryption(StreamName=name, **old["StreamEncryption"])


def _topic(request: Request, topic: str, _old: Properties) -> None:
    key = request.properties.get("KmsMasterKeyId", "")
    request.client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue=key
    )


def _function(request: Request, name: str, old: Properties) -> None:
    wanted = request.properties.get("VpcConfig")
    if wanted != old.get("VpcConfig"):
        config = wanted or {"SubnetIds": [], "SecurityGroupIds": []}
        request.client("lambda").update_function_configuration(FunctionName=name, VpcConfig=config)


def _mapping(request: Request, uuid: str, old: Properties) -> None:
    resource, api = arn("lambda", f"event-source-mapping:{uuid}"), request.client("lambda")
    wanted, had = (
        {tag["Key"]: tag["Value"] for tag in it.get("Tags", [])} for it in (request.properties, old)
    )
    if wanted != had:
        if gone := sorted(had.keys() - wanted.keys()):
            api.untag_resource(Resource=resource, TagKeys=gone)
        api.tag_resource(Resource=resource, Tags=wanted)


def _job(request: Request, name: str, _old: Properties) -> None:
    given = request.properties
    seams.glue._jobs[name] |= {
        "ExecutionProperty": given.get("ExecutionProperty", {"MaxConcurrentRuns": 1}),
        "JobRunQueuingEnabled": given.get("JobRunQueuingEnabled", False),
    }


def _trigger(request: Request, name: str, _old: Properties) -> None:
    trigger = seams.glue._triggers[name]
    trigger.pop("EventBatchingCondition", None)
    if condition := request.properties.get("EventBatchingCondition"):
        trigger["EventBatchingCondition"] = condition


def _whole_endpoint(original: Any) -> Any:
    """MiniStack keeps these of a VPC endpoint and does not describe them."""

    def describe(endpoint: dict[str, Any], tag: str = "item") -> str:
        groups = "".join(
            f"<item><groupId>{group}</groupId></item>" for group in endpoint.get("SecurityGroupIds", [])
        )
        policy = endpoint.get("PolicyDocument")
        document = seams.ec2._esc(policy if isinstance(policy, str) else json.dumps(policy))
        more = f"<groupSet>{groups}</groupSet>" + (
            f"<policyDocument>{document}</policyDocument>" if policy else ""
        )
        more += (
            f"<privateDnsEnabled>{str(bool(endpoint.get('PrivateDnsEnabled'))).lower()}</privateDnsEnabled>"
        )
        return str(original(endpoint, tag)).replace("<routeTableIdSet>", more + "<routeTableIdSet>")

    return describe


def _joining(original: Any) -> Any:
    """MiniStack knows no Fn::Join in a condition; the template of `cdk bootstrap` has it, on parameters."""

    def joined(value: Any, parameters: dict[str, Any]) -> Any:
        if isinstance(value, list):
            return [joined(item, parameters) for item in value]
        if not isinstance(value, dict):
            return value
        if "Fn::Join" not in value:
            return {key: joined(item, parameters) for key, item in value.items()}
        separator, items = value["Fn::Join"]
        values = parameters[items["Ref"]]["Value"] if isinstance(items, dict) else items
        return separator.join(values.split(",") if isinstance(values, str) else values)

    def evaluate(template: dict[str, Any], parameters: dict[str, Any]) -> Any:
        conditions = joined(template.get("Conditions", {}), parameters)
        return original({**template, "Conditions": conditions}, parameters)

    return evaluate


_REPAIRS = {
    "AWS::S3::Bucket": _bucket,
    "AWS::Kinesis::Stream": _stream,
    "AWS::SNS::Topic": _topic,
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::EventSourceMapping": _mapping,
    "AWS::Glue::Job": _job,
    "AWS::Glue::Trigger": _trigger,
}
