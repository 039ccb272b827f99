"""What a template says of a resource, its service's API says too: nothing that protects is dropped on the way.

A property is read back (`READERS`), or has no bearing on security or is not told by its API (`NOT_READ`): a new one needs
the decision. What the emulator holds and does not act on is in docs/embedded-cloud.md, "What differs".
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from local.cloud.place import ACCOUNT, REGION
from tests.local.cloud.conftest import Cdk, Clients
from tests.support.deployed import Deployment, Resource
from tools.assembly import Assembly

Reader = Callable[[Clients, Resource], Mapping[str, Any]]


def bucket(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    s3, name = clients("s3"), {"Bucket": resource.physical_id}
    encryption = s3.get_bucket_encryption(**name)["ServerSideEncryptionConfiguration"]["Rules"]
    logging = s3.get_bucket_logging(**name).get("LoggingEnabled", {})
    notification = s3.get_bucket_notification_configuration(**name)
    return {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                renamed(rule, ApplyServerSideEncryptionByDefault="ServerSideEncryptionByDefault")
                for rule in encryption
            ]
        },
        "PublicAccessBlockConfiguration": s3.get_public_access_block(**name)[
            "PublicAccessBlockConfiguration"
        ],
        "VersioningConfiguration": {"Status": s3.get_bucket_versioning(**name).get("Status")},
        "LoggingConfiguration": renamed(
            logging, TargetBucket="DestinationBucketName", TargetPrefix="LogFilePrefix"
        ),
        "NotificationConfiguration": {
            "EventBridgeConfiguration": {"EventBridgeEnabled": "EventBridgeConfiguration" in notification}
        },
        "LifecycleConfiguration": {"Rules": [lifecycle(rule) for rule in rules_of(s3, name)]},
        "Tags": s3.get_bucket_tagging(**name)["TagSet"],
    }


def rules_of(s3: Any, name: dict[str, str]) -> list[dict[str, Any]]:
    try:
        rules: list[dict[str, Any]] = s3.get_bucket_lifecycle_configuration(**name)["Rules"]
    except s3.exceptions.ClientError:
        return []
    return rules


def lifecycle(rule: dict[str, Any]) -> dict[str, Any]:
    told = renamed(rule, ID="Id") | {"Prefix": rule["Filter"].get("Prefix", "")}
    told |= renamed(rule.get("Expiration", {}), Days="ExpirationInDays")
    if "Transitions" in told:
        told["Transitions"] = [renamed(item, Days="TransitionInDays") for item in told["Transitions"]]
    return told


def policies_of(read: Callable[[Clients, str], str], targets: str) -> Reader:
    """The one policy document that each of the resource's targets has."""

    def reader(clients: Clients, resource: Resource) -> Mapping[str, Any]:
        given = resource.properties[targets]
        found = {read(clients, target) for target in (given if isinstance(given, list) else [given])}
        assert len(found) == 1
        return {"PolicyDocument": found.pop(), targets: given}

    return reader


def key(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    kms, name = clients("kms"), resource.physical_id
    return {
        "KeyPolicy": kms.get_key_policy(KeyId=name, PolicyName="default")["Policy"],
        "EnableKeyRotation": kms.get_key_rotation_status(KeyId=name)["KeyRotationEnabled"],
    }


def stream(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("kinesis").describe_stream_summary(StreamName=resource.physical_id)[
        "StreamDescriptionSummary"
    ]
    return {**found, "StreamEncryption": found, "ShardCount": found["OpenShardCount"]}


def delivery_stream(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("firehose").describe_delivery_stream(DeliveryStreamName=resource.physical_id)
    described = found["DeliveryStreamDescription"]
    return {
        **described,
        "ExtendedS3DestinationConfiguration": described["Destinations"][0][
            "ExtendedS3DestinationDescription"
        ],
        "KinesisStreamSourceConfiguration": described["Source"]["KinesisStreamSourceDescription"],
    }


def function(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("lambda").get_function(FunctionName=resource.physical_id)
    config = found["Configuration"]
    return {**config, "Layers": [layer["Arn"] for layer in config.get("Layers", [])], "Tags": found["Tags"]}


def mapping(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("lambda").get_event_source_mapping(UUID=resource.physical_id)
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{resource.physical_id}"
    tags = clients("lambda").list_tags(Resource=arn)["Tags"]
    return {**found, "FunctionName": found["FunctionArn"].rpartition(":")[2], "Tags": tags}


def queue(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    read = clients("sqs").get_queue_attributes
    return read(QueueUrl=resource.physical_id, AttributeNames=["All"])["Attributes"]


def log_group(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("logs").describe_log_groups(logGroupNamePrefix=resource.physical_id)["logGroups"][0]
    return renamed(found, kmsKeyId="KmsKeyId", retentionInDays="RetentionInDays")


def inline_policy(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    name, roles = resource.properties["PolicyName"], resource.properties["Roles"]
    found = [clients("iam").get_role_policy(RoleName=role, PolicyName=name) for role in roles]
    return {
        "PolicyDocument": found[0]["PolicyDocument"],
        "PolicyName": found[0]["PolicyName"],
        "Roles": [item["RoleName"] for item in found],
    }


def crawler(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    return clients("glue").get_crawler(Name=resource.physical_id)["Crawler"]


def ruleset(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    return clients("glue").get_data_quality_ruleset(Name=resource.physical_id)


def security_configuration(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("glue").get_security_configuration(Name=resource.physical_id)["SecurityConfiguration"]
    encryption = renamed(found["EncryptionConfiguration"], S3Encryption="S3Encryptions")
    return {**found, "EncryptionConfiguration": encryption}


def connection(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    return {"ConnectionInput": clients("glue").get_connection(Name=resource.physical_id)["Connection"]}


def rule(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    targets = clients("events").list_targets_by_rule(Rule=resource.physical_id)["Targets"]
    return {**clients("events").describe_rule(Name=resource.physical_id), "Targets": targets}


def alarm(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    return clients("cloudwatch").describe_alarms(AlarmNames=[resource.physical_id])["MetricAlarms"][0]


def budget(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    name = {"AccountId": ACCOUNT, "BudgetName": resource.physical_id}
    api = clients("budgets")
    notifications = api.describe_notifications_for_budget(**name)["Notifications"]
    return {
        "Budget": api.describe_budget(**name)["Budget"],
        "NotificationsWithSubscribers": [
            {
                "Notification": notification,
                "Subscribers": api.describe_subscribers_for_notification(
                    **name,
                    Notification={
                        key: value for key, value in notification.items() if key != "NotificationState"
                    },
                )["Subscribers"],
            }
            for notification in notifications
        ],
    }


def vpc(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    ec2, name = clients("ec2"), resource.physical_id
    found = {
        attribute: ec2.describe_vpc_attribute(VpcId=name, Attribute=attribute[0].lower() + attribute[1:])[
            attribute
        ]["Value"]
        for attribute in ("EnableDnsSupport", "EnableDnsHostnames")
    }
    return {**ec2.describe_vpcs(VpcIds=[name])["Vpcs"][0], **found}


def security_group(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("ec2").describe_security_groups(GroupIds=[resource.physical_id])["SecurityGroups"][0]
    alone = clients("ec2").describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [resource.physical_id]}]
    )["SecurityGroupRules"]
    wide = [item for item in alone if item["IsEgress"] and "CidrIpv4" in item]
    return {
        "VpcId": found["VpcId"],
        "GroupDescription": found["Description"],
        "SecurityGroupEgress": [renamed(item, CidrIpv4="CidrIp") for item in wide],
    }


def security_group_rule(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    read = clients("ec2").describe_security_group_rules
    found = read(SecurityGroupRuleIds=[resource.physical_id])["SecurityGroupRules"][0]
    peer = found["ReferencedGroupInfo"]["GroupId"]
    return {**found, "SourceSecurityGroupId": peer, "DestinationSecurityGroupId": peer}


def vpc_endpoint(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("ec2").describe_vpc_endpoints(VpcEndpointIds=[resource.physical_id])["VpcEndpoints"][0]
    return {**found, "SecurityGroupIds": [group["GroupId"] for group in found.get("Groups", [])]}


def pipeline(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("sagemaker").describe_pipeline(PipelineName=resource.physical_id)
    return {**found, "PipelineDefinition": {"PipelineDefinitionBody": found["PipelineDefinition"]}}


def endpoint(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    name = resource.physical_id.rpartition("/")[2]
    return renamed(
        clients("sagemaker").describe_endpoint(EndpointName=name), LastDeploymentConfig="DeploymentConfig"
    )


def scalable_target(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    of_variant, _, namespace = resource.physical_id.split("|")
    scaling = clients("application-autoscaling")
    [found] = scaling.describe_scalable_targets(ServiceNamespace=namespace, ResourceIds=[of_variant])[
        "ScalableTargets"
    ]
    actions = scaling.describe_scheduled_actions(ServiceNamespace=namespace, ResourceId=of_variant)[
        "ScheduledActions"
    ]
    told = {**found, "ScheduledActions": actions}
    limits = {name: found[name] for name in ("MinCapacity", "MaxCapacity")}
    if limits in [it.get("ScalableTargetAction") for it in actions]:
        # An hour is a minute here: an action may have set the limits since, which is what it is for.
        told |= {name: resource.properties[name] for name in limits}
    return told


def scaling_policy(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    read = clients("application-autoscaling").describe_scaling_policies
    [found] = read(ServiceNamespace="sagemaker", PolicyNames=[resource.properties["PolicyName"]])[
        "ScalingPolicies"
    ]
    target = "|".join(found[name] for name in ("ResourceId", "ScalableDimension", "ServiceNamespace"))
    return {**found, "ScalingTargetId": target}


def described(service: str, operation: str, parameter: str, answer: str = "") -> Reader:
    """One call that takes the physical id, and the member of its answer that describes the resource."""

    def reader(clients: Clients, resource: Resource) -> Mapping[str, Any]:
        plural = parameter.endswith("Ids")
        given: Any = [resource.physical_id] if plural else resource.physical_id
        if resource.type in ARN_BY_REF:
            given = given.rpartition("/")[2]
        found = getattr(clients(service), operation)(**{parameter: given})
        found = found[answer] if answer else found
        return found[0] if plural else found

    return reader


def renamed(given: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in given.items()}


def bucket_policy(clients: Clients, name: str) -> str:
    return str(clients("s3").get_bucket_policy(Bucket=name)["Policy"])


def queue_policy(clients: Clients, url: str) -> str:
    attributes = clients("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    return str(attributes["Policy"])


def topic(clients: Clients, resource: Resource) -> Mapping[str, Any]:
    found = clients("sns").get_topic_attributes(TopicArn=resource.physical_id)["Attributes"]
    return {**found, "TopicName": found["TopicArn"].rpartition(":")[2]}


def topic_policy(clients: Clients, arn: str) -> str:
    return str(clients("sns").get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])


# Ref of these is an ARN, and their API asks for the name.
ARN_BY_REF = {"AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"}
READERS: Mapping[str, Reader] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": scalable_target,
    "AWS::ApplicationAutoScaling::ScalingPolicy": scaling_policy,
    "AWS::Budgets::Budget": budget,
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::CloudWatch::Dashboard": described("cloudwatch", "get_dashboard", "DashboardName"),
    "AWS::EC2::FlowLog": described("ec2", "describe_flow_logs", "FlowLogIds", "FlowLogs"),
    "AWS::EC2::RouteTable": described("ec2", "describe_route_tables", "RouteTableIds", "RouteTables"),
    "AWS::EC2::SecurityGroup": security_group,
    "AWS::EC2::SecurityGroupEgress": security_group_rule,
    "AWS::EC2::SecurityGroupIngress": security_group_rule,
    "AWS::EC2::Subnet": described("ec2", "describe_subnets", "SubnetIds", "Subnets"),
    "AWS::EC2::VPC": vpc,
    "AWS::EC2::VPCEndpoint": vpc_endpoint,
    "AWS::Events::Rule": rule,
    "AWS::Glue::Connection": connection,
    "AWS::Glue::Crawler": crawler,
    "AWS::Glue::DataQualityRuleset": ruleset,
    "AWS::Glue::Job": described("glue", "get_job", "JobName", "Job"),
    "AWS::Glue::SecurityConfiguration": security_configuration,
    "AWS::Glue::Trigger": described("glue", "get_trigger", "Name", "Trigger"),
    "AWS::Glue::Workflow": described("glue", "get_workflow", "Name", "Workflow"),
    "AWS::IAM::Policy": inline_policy,
    "AWS::IAM::Role": described("iam", "get_role", "RoleName", "Role"),
    "AWS::KMS::Key": key,
    "AWS::Kinesis::Stream": stream,
    "AWS::KinesisFirehose::DeliveryStream": delivery_stream,
    "AWS::Lambda::EventSourceMapping": mapping,
    "AWS::Lambda::Function": function,
    "AWS::Logs::LogGroup": log_group,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": policies_of(bucket_policy, "Bucket"),
    "AWS::SNS::Topic": topic,
    "AWS::SNS::TopicPolicy": policies_of(topic_policy, "Topics"),
    "AWS::SQS::Queue": queue,
    "AWS::SQS::QueuePolicy": policies_of(queue_policy, "Queues"),
    "AWS::SageMaker::Endpoint": endpoint,
    "AWS::SageMaker::EndpointConfig": described(
        "sagemaker", "describe_endpoint_config", "EndpointConfigName"
    ),
    "AWS::SageMaker::Model": described("sagemaker", "describe_model", "ModelName"),
    "AWS::SageMaker::ModelPackageGroup": described(
        "sagemaker", "describe_model_package_group", "ModelPackageGroupName"
    ),
    "AWS::SageMaker::Pipeline": pipeline,
    "AWS::Scheduler::Schedule": described("scheduler", "get_schedule", "Name"),
}
# Told by no API, or without bearing on security: `type.property`, or a property of every type.
NOT_READ = {
    "Description",
    "AWS::EC2::FlowLog.ResourceType",
    "AWS::EC2::SubnetRouteTableAssociation.RouteTableId",
    "AWS::EC2::SubnetRouteTableAssociation.SubnetId",
    "AWS::Glue::Connection.CatalogId",
    "AWS::Glue::Database.CatalogId",
    "AWS::Glue::Database.DatabaseInput",
    "AWS::Glue::Trigger.StartOnCreation",  # its effect is the trigger's state
    "AWS::KMS::Key.PendingWindowInDays",  # counts when the key is deleted
    "AWS::Lambda::Function.Code",
    "AWS::Logs::LogStream.LogGroupName",
    "AWS::SageMaker::Endpoint.ExcludeRetainedVariantProperties",  # of an update
    "AWS::SageMaker::Endpoint.RetainAllVariantProperties",
    "AWS::SageMaker::Pipeline.PipelineDisplayName",
    "AWS::SageMaker::Pipeline.PipelineDescription",
}
# Tags are read where `make destroy`, a cost filter or a policy looks at them.
TAGGED = {"AWS::S3::Bucket", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"}


def agrees(wanted: Any, told: Any) -> bool:
    """Whether the API tells what the template says, in its own spelling of numbers, booleans and documents.

    It may tell more of a thing, and of tags, but no more things: no other statement, rule or target.
    """
    if isinstance(wanted, dict):
        told = parsed(told)
        if isinstance(told, list):  # tags
            told = {item["Key"]: item["Value"] for item in told}
        return isinstance(told, dict) and all(
            key in told and agrees(value, told[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        told = parsed(told)
        if isinstance(told, dict) or any(isinstance(item, dict) and "Key" in item for item in wanted):
            return agrees({item["Key"]: item["Value"] for item in wanted}, told)
        return (
            isinstance(told, list)
            and len(told) == len(wanted)
            and all(any(agrees(item, other) for other in told) for item in wanted)
        )
    return spelled(wanted) == spelled(told)


def parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value


def spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def differences(assembly: Assembly, clients: Clients) -> Iterator[str]:
    """`type.property` for each that is dropped or changed, or that nobody reads."""
    found = list(Deployment(assembly, clients("cloudformation")).resources())
    yield from added(found, clients)
    for resource in found:
        reader = READERS.get(resource.type)
        told = reader(clients, resource) if reader else {}
        for name, wanted in resource.properties.items():
            where = f"{resource.type}.{name}"
            if {where, name} & NOT_READ or (name in {"Tags", "ResourceTags"} and resource.type not in TAGGED):
                continue
            if resource.type.startswith("AWS::CDK"):
                continue
            if name not in told or not agrees(wanted, told[name]):
                yield where


def added(found: list[Resource], clients: Clients) -> Iterator[str]:
    """Rules of a security group, and policies of a role, that no resource of the templates writes."""
    written: Counter[str] = Counter()
    for it in found:
        if it.type == "AWS::EC2::SecurityGroup":
            rules = [it.properties.get(f"SecurityGroup{way}", []) for way in ("Egress", "Ingress")]
            written[it.physical_id] += sum(map(len, rules))
        elif it.type in {"AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroupIngress"}:
            written[it.properties["GroupId"]] += 1
        elif it.type == "AWS::IAM::Policy":
            written.update(it.properties["Roles"])
    for it in found:
        if it.type == "AWS::EC2::SecurityGroup":
            told = clients("ec2").describe_security_group_rules(
                Filters=[{"Name": "group-id", "Values": [it.physical_id]}]
            )["SecurityGroupRules"]
        elif it.type == "AWS::IAM::Role":
            told = clients("iam").list_role_policies(RoleName=it.physical_id)["PolicyNames"]
        else:
            continue
        if len(told) != written[it.physical_id]:
            yield f"{it.type} {it.logical_id}: {told}"


def test_the_sandbox_reads_back_as_it_was_written(deployed: Cdk, client: Clients) -> None:
    assert set(differences(deployed.assembly, client)) == set()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (60, "60"),
        (True, "true"),
        ({"a": 1}, '{"a": 1, "b": 2}'),
        ([{"Key": "k", "Value": "v"}], {"k": "v", "more": ""}),
        (1_800_000, 1_800_000.0),
    ],
)
def test_spelling_is_no_difference(wanted, told) -> None:
    assert agrees(wanted, told)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (60, "61"),
        ({"a": 1}, {}),
        ([1, 2], [1]),
        ("aws:kms", "AES256"),
        ([1], None),
        ([], [1]),
        ([{"Key": "k", "Value": "v"}], [{"Key": "k", "Value": "w"}]),
        ({"Statement": [{"a": 1}]}, '{"Statement": [{"a": 1}, {"a": 2}]}'),
    ],
)
def test_a_dropped_or_an_added_value_is_a_difference(wanted, told) -> None:
    assert not agrees(wanted, told)
