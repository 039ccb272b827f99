"""What every resource must say about encryption, transport, access, retention and removal: one table by type.

A row demands that a property is spelled out, because what AWS does by default changes, differs by region, and cannot be
read in a template.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tools.assembly import Resource, Template

Expected = Collection[Any] | Callable[[Any], bool]


def present(value: object) -> bool:
    """Stated, whatever it is."""
    return value is not None


PUBLIC_ACCESS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
BUCKET_KEY = "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault"

# Type → property (dots descend, numbers index) → the accepted values, or a test of the value.
TABLE: Mapping[str, Mapping[str, Expected]] = {
    "AWS::CloudWatch::Alarm": {"TreatMissingData": present},
    "AWS::EC2::VPC": {"EnableDnsHostnames": {True}},
    "AWS::Glue::Crawler": {
        "CrawlerSecurityConfiguration": present,
        "SchemaChangePolicy": present,
        "RecrawlPolicy": present,
    },
    "AWS::Glue::Job": {
        "SecurityConfiguration": present,
        "GlueVersion": present,
        "Timeout": present,
        "MaxRetries": present,
    },
    "AWS::Glue::SecurityConfiguration": {
        "EncryptionConfiguration.CloudWatchEncryption.CloudWatchEncryptionMode": {"SSE-KMS"},
        "EncryptionConfiguration.JobBookmarksEncryption.JobBookmarksEncryptionMode": {"CSE-KMS"},
        "EncryptionConfiguration.S3Encryptions.0.S3EncryptionMode": {"SSE-KMS"},
    },
    "AWS::KMS::Key": {"EnableKeyRotation": {True}, "PendingWindowInDays": present, "KeyPolicy": present},
    "AWS::Kinesis::Stream": {
        "StreamEncryption.EncryptionType": {"KMS"},
        "StreamEncryption.KeyId": lambda key: present(key) and key != "alias/aws/kinesis",
        "RetentionPeriodHours": present,
        "StreamModeDetails.StreamMode": present,
    },
    "AWS::KinesisFirehose::DeliveryStream": {
        "ExtendedS3DestinationConfiguration.EncryptionConfiguration.KMSEncryptionConfig.AWSKMSKeyARN": present,
        "ExtendedS3DestinationConfiguration.CloudWatchLoggingOptions.Enabled": {True},
        "ExtendedS3DestinationConfiguration.ErrorOutputPrefix": present,
    },
    "AWS::Lambda::Function": {
        "LoggingConfig.LogGroup": present,
        "Timeout": present,
        "TracingConfig.Mode": {"Active"},
    },
    "AWS::Logs::LogGroup": {"KmsKeyId": present, "RetentionInDays": present},
    "AWS::S3::Bucket": {
        **{f"PublicAccessBlockConfiguration.{name}": {True} for name in PUBLIC_ACCESS},
        f"{BUCKET_KEY}.SSEAlgorithm": {"aws:kms", "AES256"},
        "LifecycleConfiguration.Rules.0": present,
        "VersioningConfiguration.Status": {"Enabled"},
    },
    "AWS::SNS::Topic": {"KmsMasterKeyId": lambda key: present(key) and key != "alias/aws/sns"},
    "AWS::SQS::Queue": {"KmsMasterKeyId": present, "MessageRetentionPeriod": present},
    "AWS::SageMaker::EndpointConfig": {"KmsKeyId": present},
}
# What an endpoint writes, by its kind: a real-time one captures, an asynchronous one answers into S3, a serverless one
# can do neither (stacks/serving_rules.py).
CAPTURE: Mapping[str, Expected] = {
    "DataCaptureConfig.KmsKeyId": present,
    "DataCaptureConfig.DestinationS3Uri": present,
}
ANSWERS: Mapping[str, Expected] = {
    "AsyncInferenceConfig.OutputConfig.KmsKeyId": present,
    "AsyncInferenceConfig.OutputConfig.S3OutputPath": present,
    "AsyncInferenceConfig.OutputConfig.S3FailurePath": present,
}
# A mapping from a stream: one bad record must neither block its shard for a day nor vanish.
STREAM_MAPPING: Mapping[str, Expected] = {
    "BisectBatchOnFunctionError": {True},
    "DestinationConfig.OnFailure.Destination": present,
    "MaximumRecordAgeInSeconds": lambda age: isinstance(age, int) and age > 0,
    "MaximumRetryAttempts": lambda attempts: isinstance(attempts, int) and attempts >= 0,
}
# Types whose schema knows an encryption property that has nothing to encrypt here.
NOTHING_TO_ENCRYPT = {
    "AWS::Lambda::EventSourceMapping": "KmsKeyArn encrypts filter criteria; these name no value of a record",
    "AWS::EC2::VPC": "VpcEncryptionControl is about traffic between instances; no instance runs here",
    "AWS::Scheduler::Schedule": "the target's input holds no data",
    "AWS::SageMaker::Pipeline": "its jobs' keys stand in the definition, which has its own tests",
}
# What is lost when the resource goes: it must say whether that may happen, on deletion and on replacement.
# (cfn-lint's list of stateful types, and those it lacks.)
STATEFUL = {
    "AWS::DynamoDB::Table",
    "AWS::Glue::Database",
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::SageMaker::FeatureGroup",
    "AWS::SageMaker::ModelPackageGroup",
    "AWS::SecretsManager::Secret",
}
# Where a stage keeps its data (`foundation.retain_data`), these stay when their stack goes; nothing else ever does.
KEPT = {
    "AWS::Glue::Database",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SageMaker::ModelPackageGroup",
}
# What is created is empty: if its stack fails to come up, it goes, or its name would stop the next attempt.
KEEPING = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
# A rollout leaves these behind on purpose (docs/decisions/0043), and `make destroy` removes them by their tag.
REPLACED_BY_A_ROLLOUT = {"AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model"}


def findings(template: Template, *, retain: bool) -> list[str]:
    """Every safeguard that a template leaves out, or leaves to a default."""
    problems = [
        *_unstated(template),
        *_written_by_endpoints(template),
        *_unbounded(template),
        *_removal(template, retain=retain),
        *_unencrypted_transport(template),
        *_weak_buckets(template),
        *_open_groups(template),
    ]
    return [f"{template.stack}/{problem}" for problem in problems]


def read(resource: Resource, path: str) -> Any:
    """The property at a dotted path; None if it is not there."""
    node: Any = resource.get("Properties", {})
    for part in path.split("."):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return None
    return node


def encryptable(schema: Mapping[str, Any]) -> bool:
    """Whether a resource type's schema has an encryption property at its top level."""
    return any(re.search("kms|encryption|sse", name, re.IGNORECASE) for name in schema["properties"])


def _unstated(template: Template) -> Iterator[str]:
    for name, resource in template.resources().items():
        yield from _compared(name, resource, TABLE.get(resource["Type"], {}))


def _written_by_endpoints(template: Template) -> Iterator[str]:
    for name, config in template.resources("AWS::SageMaker::EndpointConfig").items():
        if read(config, "AsyncInferenceConfig") is not None:
            yield from _compared(name, config, ANSWERS)
        elif read(config, "ProductionVariants.0.ServerlessConfig") is None:
            yield from _compared(name, config, CAPTURE)


def _compared(name: str, resource: Resource, rows: Mapping[str, Expected]) -> Iterator[str]:
    for path, expected in rows.items():
        value = read(resource, path)
        accepted = expected(value) if callable(expected) else value in list(expected)
        if not accepted:
            said = f"{name}: {resource['Type']}.{path} is {value!r}"
            yield f"{said}: state it as tests/support/safeguards.py says"


def _unbounded(template: Template) -> Iterator[str]:
    """What a function cannot handle must end somewhere, after a number of tries."""
    queues = template.resources("AWS::SQS::Queue")
    for name, mapping in template.resources("AWS::Lambda::EventSourceMapping").items():
        queue = (read(mapping, "EventSourceArn.Fn::GetAtt") or [None])[0]
        if queue not in queues:
            yield from _compared(name, mapping, STREAM_MAPPING)
        elif read(queues[queue], "RedrivePolicy.maxReceiveCount") is None:
            yield f"{queue}: a function reads this AWS::SQS::Queue, and nothing takes what it cannot handle"


def _removal(template: Template, *, retain: bool) -> Iterator[str]:
    for name, resource in template.resources().items():
        kind = resource["Type"]
        for policy, keeping in KEEPING.items():
            value = resource.get(policy)
            if policy == "UpdateReplacePolicy" and kind in REPLACED_BY_A_ROLLOUT:
                continue
            if value is None and kind in STATEFUL:
                yield f"{name}: {kind} has no {policy}: call apply_removal_policy"
            elif retain and kind in KEPT and value != keeping:
                yield f"{name}: {policy} is {value} in a stage that retains data: make it {keeping}"
            elif not (retain and kind in KEPT) and value not in {None, "Delete"}:
                yield f"{name}: {policy} is {value}, and {kind} is to leave nothing behind here"


# What has a policy of its own, the resource that carries it, and the property with which that names its subjects.
_POLICIES = {
    "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket"),
    "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics"),
    "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues"),
}


def _unencrypted_transport(template: Template) -> Iterator[str]:
    for subject, (carrier, key) in _POLICIES.items():
        guarded = set()
        for policy in template.resources(carrier).values():
            if any(
                _denies_plain_http(entry) for entry in policy["Properties"]["PolicyDocument"]["Statement"]
            ):
                named = policy["Properties"][key]
                for reference in named if isinstance(named, list) else [named]:
                    guarded.add(reference.get("Ref"))
        for name in template.resources(subject).keys() - guarded:
            yield f"{name}: {subject} accepts requests without TLS: deny them in its policy"


def _denies_plain_http(statement: Mapping[str, Any]) -> bool:
    secure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
    return statement["Effect"] == "Deny" and secure in {"false", False} and "*" in str(statement["Principal"])


def _weak_buckets(template: Template) -> Iterator[str]:
    """Only a target of access logs may do without our key: S3 delivers such logs with SSE-S3 alone."""
    buckets = template.resources("AWS::S3::Bucket")
    targets = {read(bucket, "LoggingConfiguration.DestinationBucketName.Ref") for bucket in buckets.values()}
    for name, bucket in buckets.items():
        if read(bucket, f"{BUCKET_KEY}.KMSMasterKeyID") is None and name not in targets:
            yield f"{name}: AWS::S3::Bucket is encrypted without the customer-managed key"
        if name not in targets and read(bucket, "LoggingConfiguration.DestinationBucketName") is None:
            yield f"{name}: AWS::S3::Bucket has no access log"


def _open_groups(template: Template) -> Iterator[str]:
    for name, resource in template.resources().items():
        rules = resource.get("Properties", {}).get("SecurityGroupIngress", [])
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress":
            rules = [resource["Properties"]]
        for rule in rules:
            if rule.get("CidrIp") == "0.0.0.0/0" or rule.get("CidrIpv6") == "::/0":
                yield f"{name}: lets the whole internet in"
