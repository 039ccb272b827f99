"""Types, stacks and their roles, by CloudFormation's API alone."""

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest

from local.cloud.lifecycle import PYTHON
from local.cloud.place import ACCOUNT, REGION, ROOT, Place

ENDED = ("_COMPLETE", "_FAILED")


class Stack:
    """A stack with a name of its own: `stack.deploy({"Logical": {"Type": ..., "Properties": ...}})`."""

    def __init__(self, cloudformation: Any) -> None:
        self.api = self.root = cloudformation
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.exists = False

    def deploy(self, resources: dict[str, Any], outputs: dict[str, Any] | None = None, **more: Any) -> str:
        """Create or update; the status it ends in."""
        template = {"Resources": resources}
        if outputs:
            template["Outputs"] = {name: {"Value": value} for name, value in outputs.items()}
        call = self.api.update_stack if self.exists else self.api.create_stack
        self.id = call(StackName=self.name, TemplateBody=json.dumps(template), **more)["StackId"]
        self.exists = True
        return self.status()

    def delete(self) -> str:
        self.root.delete_stack(StackName=self.name)
        return self.status()

    def status(self) -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            status: str = self.describe()["StackStatus"]
            if status.endswith(ENDED) and "CLEANUP" not in status:
                return status
            time.sleep(0.05)
        raise AssertionError(f"{self.name} is still {status}: {self.reasons()}")

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = self.root.describe_stacks(StackName=self.id)["Stacks"][0]
        return described

    def physical_id(self, logical_id: str) -> str:
        resource = self.root.describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
        return str(resource["StackResourceDetail"]["PhysicalResourceId"])

    def reasons(self) -> str:
        """Why resources failed."""
        events = self.root.describe_stack_events(StackName=self.id)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
        return "\n".join(event.get("ResourceStatusReason", "") for event in failed)


@pytest.fixture
def stack(client) -> Iterator[Stack]:
    made = Stack(client("cloudformation"))
    yield made
    if made.exists:
        made.delete()


@pytest.fixture
def role(client) -> Iterator[Callable[..., str]]:
    """`role("cloudformation.amazonaws.com", "glue:*")`: the ARN of a role that may do these actions."""
    made = []

    def make(trusted: str, *actions: str, resource: str = "*") -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        arn = client("iam").create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )["Role"]["Arn"]
        may = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
        client("iam").put_role_policy(
            RoleName=name,
            PolicyName="may",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
        )
        made.append(name)
        return str(arn)

    yield make
    for name in made:
        client("iam").delete_role_policy(RoleName=name, PolicyName="may")
        client("iam").delete_role(RoleName=name)


def acting_as(cloud: Place, client: Callable[[str], Any], role_arn: str, service: str) -> Any:
    credentials = client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=cloud.url,
        verify=str(cloud.certificate),
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def workflow(**properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::Glue::Workflow", "Properties": properties}


def test_a_workflow_is_created_updated_and_deleted(stack: Stack, client) -> None:
    glue = client("glue")
    status = stack.deploy({"W": workflow(Description="a", MaxConcurrentRuns=1)}, {"Ref": {"Ref": "W"}})
    assert status == "CREATE_COMPLETE"
    name = stack.physical_id("W")
    assert stack.describe()["Outputs"][0]["OutputValue"] == name
    assert stack.deploy({"W": workflow(Description="b", MaxConcurrentRuns=1)}) == "UPDATE_COMPLETE"
    assert stack.physical_id("W") == name
    assert glue.get_workflow(Name=name)["Workflow"]["Description"] == "b"
    assert stack.delete() == "DELETE_COMPLETE"
    with pytest.raises(glue.exceptions.EntityNotFoundException):
        glue.get_workflow(Name=name)


def test_who_asks_about_a_stack_waits_for_its_operation(stack: Stack) -> None:
    template = json.dumps({"Resources": {"W": workflow(), "Q": {"Type": "AWS::SQS::Queue"}}})
    stack.id = stack.api.create_stack(StackName=stack.name, TemplateBody=template)["StackId"]
    stack.exists = True
    assert stack.describe()["StackStatus"] == "CREATE_COMPLETE"
    stack.root.delete_stack(StackName=stack.name)
    assert stack.describe()["StackStatus"] == "DELETE_COMPLETE"


def test_a_stack_that_is_being_updated_cannot_be_deleted(stack: Stack) -> None:
    stack.deploy({"Signal": {"Type": "AWS::CloudFormation::WaitConditionHandle"}})
    waits = {"Handle": {"Ref": "Signal"}, "Timeout": "3"}
    resources = {
        "Signal": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Wait": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": waits},
    }
    stack.api.update_stack(StackName=stack.name, TemplateBody=json.dumps({"Resources": resources}))
    message = rf"ValidationError.*Stack \[{stack.id}\] cannot be deleted while in status UPDATE_IN_PROGRESS"
    for name in (stack.name, stack.id):
        with pytest.raises(botocore.exceptions.ClientError, match=message):
            stack.root.delete_stack(StackName=name)
    assert stack.status() == "UPDATE_ROLLBACK_COMPLETE"  # nobody gave the signal
    assert stack.delete() == "DELETE_COMPLETE"


DELETIONS = """
import json, pathlib, sys
from local.cloud import extensions, place, seams

found = {}
with extensions.install(place.Place(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[1])):
    for status in sys.argv[2:]:
        stack = {"StackName": "s", "StackId": "arn:s", "StackStatus": status, "EnableTerminationProtection": True}
        seams.cloudformation._stacks["s"] = stack
        _, _, body = seams.stack_handlers._ACTION_HANDLERS["DeleteStack"]({"StackName": ["s"]})
        found[status] = body.decode().partition("<Message>")[2].partition("</Message>")[0]
print(json.dumps(found))
"""


def test_only_an_update_or_its_way_back_is_in_a_deletion_s_way(tmp_path: Path) -> None:
    """What is not refused for its status comes to the next check, which is the one for termination protection."""
    under_way = [
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    ]
    others = ["CREATE_IN_PROGRESS", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"]
    paths = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), str(tmp_path))
    ran = subprocess.run(
        [PYTHON, "-c", DELETIONS, str(tmp_path), *under_way, *others],
        cwd=ROOT,
        env=paths,
        capture_output=True,
        text=True,
        check=True,
    )
    protected = "Stack [arn:s] cannot be deleted while TerminationProtection is enabled"
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        **{it: f"Stack [arn:s] cannot be deleted while in status {it}" for it in under_way},
        **dict.fromkeys(others, protected),
    }


def test_a_new_name_is_a_new_resource(stack: Stack, client) -> None:
    glue, (old, new) = client("glue"), (f"test-{uuid.uuid4().hex[:8]}" for _ in range(2))
    stack.deploy({"W": workflow(Name=old)})
    assert stack.deploy({"W": workflow(Name=new)}) == "UPDATE_COMPLETE"
    assert stack.physical_id("W") == new
    assert glue.get_workflow(Name=new)["Workflow"]["Name"] == new
    with pytest.raises(glue.exceptions.EntityNotFoundException):
        glue.get_workflow(Name=old)


def test_a_stack_made_anew_gives_new_names_so_that_what_was_kept_is_not_in_its_way(
    stack: Stack, client
) -> None:
    kept = {**workflow(), "DeletionPolicy": "Retain"}
    stack.deploy({"W": kept})
    old = stack.physical_id("W")
    assert stack.delete() == "DELETE_COMPLETE"
    stack.exists = False
    assert stack.deploy({"W": kept}) == "CREATE_COMPLETE", stack.reasons()
    for name in (old, stack.physical_id("W")):
        client("glue").delete_workflow(Name=name)
    assert stack.physical_id("W") != old


def test_a_failing_create_rolls_back(stack: Stack, client) -> None:
    taken = f"test-{uuid.uuid4().hex[:8]}"
    client("glue").create_workflow(Name=taken)
    first = f"test-{uuid.uuid4().hex[:8]}"
    status = stack.deploy({"A": workflow(Name=first), "B": {**workflow(Name=taken), "DependsOn": "A"}})
    assert status == "ROLLBACK_COMPLETE"
    assert "already exists" in stack.reasons()
    with pytest.raises(client("glue").exceptions.EntityNotFoundException):
        client("glue").get_workflow(Name=first)
    client("glue").delete_workflow(Name=taken)


def test_a_failing_update_puts_everything_back(stack: Stack, client) -> None:
    taken = f"test-{uuid.uuid4().hex[:8]}"
    client("glue").create_workflow(Name=taken)
    stack.deploy({"A": workflow(Description="before")})
    status = stack.deploy(
        {"A": workflow(Description="after"), "B": {**workflow(Name=taken), "DependsOn": "A"}}
    )
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert client("glue").get_workflow(Name=stack.physical_id("A"))["Workflow"]["Description"] == "before"
    client("glue").delete_workflow(Name=taken)


def test_what_a_template_no_longer_says_of_a_workflow_is_gone(stack: Stack, client) -> None:
    glue, own = client("glue"), {"team": "data", "stage": "test"}
    whole = workflow(
        Description="a", MaxConcurrentRuns="1", DefaultRunProperties={"k": "v"}, Tags={"a": "1", "b": "1"}
    )
    stack.deploy({"W": whole}, Tags=[{"Key": key, "Value": value} for key, value in own.items()])
    name = stack.physical_id("W")
    arn = f"arn:aws:glue:{REGION}:{ACCOUNT}:workflow/{name}"
    made = glue.get_tags(ResourceArn=arn)["Tags"]
    assert made.items() >= ({"a": "1", "b": "1", "aws:cloudformation:logical-id": "W"} | own).items()
    tags = [{"Key": "stage", "Value": "other"}]
    assert stack.deploy({"W": workflow(Tags={"b": "2"})}, Tags=tags) == "UPDATE_COMPLETE"
    assert stack.physical_id("W") == name
    found = glue.get_workflow(Name=name)["Workflow"]
    kept = [found.get(key) for key in ("Description", "MaxConcurrentRuns", "DefaultRunProperties")]
    assert not any(kept), kept
    changed = glue.get_tags(ResourceArn=arn)["Tags"]
    assert {key: value for key, value in changed.items() if not key.startswith("aws:")} == {
        "b": "2",
        "stage": "other",
    }


def test_a_security_configuration_is_made_anew_when_it_changes(stack: Stack, client) -> None:
    glue = client("glue")

    def configuration(mode: str) -> dict[str, Any]:
        properties = {"EncryptionConfiguration": {"S3Encryptions": [{"S3EncryptionMode": mode}]}}
        return {"C": {"Type": "AWS::Glue::SecurityConfiguration", "Properties": properties}}

    stack.deploy(configuration("DISABLED"))
    old = stack.physical_id("C")
    assert stack.deploy(configuration("SSE-S3")) == "UPDATE_COMPLETE"
    made = glue.get_security_configuration(Name=stack.physical_id("C"))["SecurityConfiguration"]
    assert made["EncryptionConfiguration"]["S3Encryption"] == [{"S3EncryptionMode": "SSE-S3"}]
    with pytest.raises(glue.exceptions.EntityNotFoundException):
        glue.get_security_configuration(Name=old)


BUDGET: dict[str, Any] = {"BudgetType": "COST", "TimeUnit": "MONTHLY"}


def test_a_stack_is_deleted_whose_resources_are_gone(stack: Stack, client) -> None:
    encryption = {"EncryptionConfiguration": {"S3Encryptions": [{"S3EncryptionMode": "SSE-S3"}]}}
    stack.deploy(
        {
            "W": workflow(),
            "C": {"Type": "AWS::Glue::SecurityConfiguration", "Properties": encryption},
            "B": {"Type": "AWS::Budgets::Budget", "Properties": {"Budget": BUDGET}},
        }
    )
    client("glue").delete_workflow(Name=stack.physical_id("W"))
    client("glue").delete_security_configuration(Name=stack.physical_id("C"))
    client("budgets").delete_budget(AccountId=ACCOUNT, BudgetName=stack.physical_id("B"))
    assert stack.delete() == "DELETE_COMPLETE", stack.reasons()


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (workflow(Nope=1), "#: extraneous key [Nope] is not permitted"),
        ({"Type": "AWS::Glue::DataQualityRuleset", "Properties": {}}, "#: required key [Ruleset] not found"),
        ({"Type": "AWS::Budgets::Budget", "Properties": {}}, "#: required key [Budget] not found"),
        (
            {"Type": "AWS::SageMaker::Pipeline", "Properties": {"RoleArn": "r", "Nope": 1}},
            "#: required key [PipelineDefinition] not found; #: extraneous key [Nope] is not permitted",
        ),
    ],
    ids=["workflow", "ruleset", "budget", "pipeline"],
)
def test_a_property_too_many_or_too_few_fails_the_resource(
    stack: Stack, resource: dict[str, Any], reason: str
) -> None:
    assert stack.deploy({"R": resource}) == "ROLLBACK_COMPLETE"
    assert f"Properties validation failed for resource R with message: {reason}" in stack.reasons()


def test_an_alarm_on_metric_math_is_described_whole(stack: Stack, client) -> None:
    metrics = [
        {"Id": "ratio", "Expression": "IF(a > 0, 100 * b / a, 0)", "Label": "percent", "ReturnData": True},
        *(
            {
                "Id": name,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "N",
                        "MetricName": metric,
                        "Dimensions": [{"Name": "Endpoint", "Value": "e"}],
                    },
                    "Period": 60,
                    "Stat": "Sum",
                },
                "ReturnData": False,
            }
            for name, metric in (("a", "All"), ("b", "Bad"))
        ),
    ]
    alarm = {
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "Threshold": 5,
        "TreatMissingData": "notBreaching",
        "Metrics": metrics,
    }
    resources = {"A": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm}}
    assert stack.deploy(resources, {"Arn": {"Fn::GetAtt": ["A", "Arn"]}}) == "CREATE_COMPLETE"
    name = stack.physical_id("A")
    described = client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
    assert described["Metrics"] == metrics
    assert described.items() >= {key: alarm[key] for key in alarm if key != "Metrics"}.items()
    assert "MetricName" not in described
    assert stack.describe()["Outputs"][0]["OutputValue"] == described["AlarmArn"]


def test_rules_of_a_security_group_come_and_go_alone(stack: Stack, client) -> None:
    vpc = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}
    group = {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "test", "VpcId": {"Ref": "Vpc"}, "SecurityGroupEgress": []},
    }
    ids = {"Fn::GetAtt": ["Group", "GroupId"]}
    ports = {"GroupId": ids, "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Description": "TLS"}
    ingress = {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": ports | {"SourceSecurityGroupId": ids}}
    egress = {"Type": "AWS::EC2::SecurityGroupEgress", "Properties": ports | {"CidrIp": "10.0.0.0/16"}}
    both = {"Vpc": vpc, "Group": group, "In": ingress, "Out": egress}
    assert stack.deploy(both, {"Id": {"Fn::GetAtt": ["In", "Id"]}}) == "CREATE_COMPLETE"
    assert stack.describe()["Outputs"][0]["OutputValue"] == stack.physical_id("In")

    def rules() -> dict[str, Any]:
        filters = [{"Name": "group-id", "Values": [stack.physical_id("Group")]}]
        found = client("ec2").describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        return {rule["SecurityGroupRuleId"]: rule for rule in found}

    source = rules()[stack.physical_id("In")]
    assert source["ReferencedGroupInfo"]["GroupId"] == stack.physical_id("Group")
    assert (source["FromPort"], source["Description"], source["IsEgress"]) == (443, "TLS", False)
    out = stack.physical_id("Out")
    assert rules()[out]["CidrIpv4"] == "10.0.0.0/16"
    assert stack.deploy({"Vpc": vpc, "Group": group, "In": ingress}) == "UPDATE_COMPLETE"
    assert out not in rules()


def test_a_budget_tells_its_subscribers(stack: Stack, client) -> None:
    notification = {
        "Notification": {
            "ComparisonOperator": "GREATER_THAN",
            "NotificationType": "ACTUAL",
            "Threshold": 80,
            "ThresholdType": "PERCENTAGE",
        },
        "Subscribers": [{"Address": "a@example.org", "SubscriptionType": "EMAIL"}],
    }

    def budget(amount: int) -> dict[str, Any]:
        limit = {"Amount": amount, "Unit": "USD"}
        data = {"BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": limit}
        properties = {"Budget": data, "NotificationsWithSubscribers": [notification]}
        return {"B": {"Type": "AWS::Budgets::Budget", "Properties": properties}}

    assert stack.deploy(budget(50)) == "CREATE_COMPLETE"
    name = {"AccountId": ACCOUNT, "BudgetName": stack.physical_id("B")}
    found = client("budgets").describe_notifications_for_budget(**name)["Notifications"]
    assert [item["Threshold"] for item in found] == [80]
    assert stack.deploy(budget(60)) == "UPDATE_COMPLETE"
    assert client("budgets").describe_budget(**name)["Budget"]["BudgetLimit"]["Amount"] == "60"


def test_a_budget_of_another_name_is_a_new_one(stack: Stack, client) -> None:
    budgets, names = client("budgets"), [f"test-{uuid.uuid4().hex[:8]}" for _ in range(2)]

    def budget(name: str, **more: Any) -> dict[str, Any]:
        properties = {"Budget": {**BUDGET, "BudgetName": name}, **more}
        return {"B": {"Type": "AWS::Budgets::Budget", "Properties": properties}}

    def known() -> list[str]:
        found = budgets.describe_budgets(AccountId=ACCOUNT).get("Budgets", [])
        return [it["BudgetName"] for it in found if it["BudgetName"] in names]

    def own() -> dict[str, str]:
        arn = f"arn:aws:budgets::{ACCOUNT}:budget/{names[0]}"
        tags = budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        return {tag["Key"]: tag["Value"] for tag in tags if not tag["Key"].startswith("aws:")}

    stack.deploy(budget(names[0], ResourceTags=[{"Key": key, "Value": "1"} for key in "ab"]))
    assert stack.deploy(budget(names[0], ResourceTags=[{"Key": "b", "Value": "2"}])) == "UPDATE_COMPLETE"
    assert own() == {"b": "2"}
    failing = {"F": {**workflow(Nope=1), "DependsOn": "B"}}
    assert stack.deploy(budget(names[1]) | failing) == "UPDATE_ROLLBACK_COMPLETE"
    assert (known(), stack.physical_id("B")) == (names[:1], names[0])
    assert stack.deploy(budget(names[1])) == "UPDATE_COMPLETE"
    assert (known(), stack.physical_id("B")) == (names[1:], names[1])


def test_a_budget_without_a_name_is_replaced_with_its_notifications(stack: Stack, client) -> None:
    def budget(threshold: int) -> dict[str, Any]:
        notification = {
            "Notification": {
                "ComparisonOperator": "GREATER_THAN",
                "NotificationType": "ACTUAL",
                "Threshold": threshold,
            },
            "Subscribers": [{"Address": "a@example.org", "SubscriptionType": "EMAIL"}],
        }
        properties = {"Budget": BUDGET, "NotificationsWithSubscribers": [notification]}
        return {"B": {"Type": "AWS::Budgets::Budget", "Properties": properties}}

    stack.deploy(budget(80))
    assert stack.deploy(budget(90)) == "UPDATE_COMPLETE"
    name = {"AccountId": ACCOUNT, "BudgetName": stack.physical_id("B")}
    found = client("budgets").describe_notifications_for_budget(**name)["Notifications"]
    assert [item["Threshold"] for item in found] == [90]


def test_a_stack_keeps_its_role_and_acts_with_it(stack: Stack, client, role) -> None:
    weak = role("cloudformation.amazonaws.com", "glue:GetWorkflow")
    assert stack.deploy({"W": workflow()}, RoleARN=weak) == "ROLLBACK_COMPLETE"
    assert "glue:CreateWorkflow" in stack.reasons()
    assert stack.describe()["RoleARN"] == weak


def test_only_who_may_pass_a_role_gives_it_to_a_stack(cloud: Place, stack: Stack, client, role) -> None:
    strong = role("cloudformation.amazonaws.com", "glue:*")
    allowed = role("lambda.amazonaws.com", "cloudformation:*", "iam:PassRole")
    refused = role("lambda.amazonaws.com", "cloudformation:*")
    stack.api = acting_as(cloud, client, refused, "cloudformation")
    with pytest.raises(botocore.exceptions.ClientError, match=r"AccessDenied.*iam:PassRole"):
        stack.deploy({"W": workflow()}, RoleARN=strong)
    stack.api = acting_as(cloud, client, allowed, "cloudformation")
    assert stack.deploy({"W": workflow()}, RoleARN=strong) == "CREATE_COMPLETE"


def test_the_role_of_an_update_can_be_a_condition(cloud: Place, stack: Stack, client, role) -> None:
    given, other = (role("cloudformation.amazonaws.com", "glue:*") for _ in range(2))
    bound = role("lambda.amazonaws.com", "iam:PassRole")
    statement = {
        "Effect": "Allow",
        "Action": ["cloudformation:UpdateStack", "cloudformation:DescribeStacks"],
        "Resource": "*",
        "Condition": {"StringEqualsIfExists": {"cloudformation:RoleArn": given}},
    }
    client("iam").put_role_policy(
        RoleName=bound.rpartition("/")[2],
        PolicyName="may",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [statement, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}],
            }
        ),
    )
    stack.deploy({"W": workflow(Description="a")})
    stack.api = acting_as(cloud, client, bound, "cloudformation")
    with pytest.raises(botocore.exceptions.ClientError, match=r"AccessDenied.*cloudformation:UpdateStack"):
        stack.deploy({"W": workflow(Description="b")}, RoleARN=other)
    assert stack.deploy({"W": workflow(Description="b")}, RoleARN=given) == "UPDATE_COMPLETE"


def test_every_change_of_status_is_an_event(stack: Stack, client) -> None:
    queue = client("sqs").create_queue(QueueName=f"test-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    rule = f"test-{uuid.uuid4().hex[:8]}"
    pattern = {"source": ["aws.cloudformation"], "detail-type": ["CloudFormation Stack Status Change"]}
    rule_arn = client("events").put_rule(Name=rule, EventPattern=json.dumps(pattern))["RuleArn"]
    policy = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn["QueueArn"],
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})
    client("events").put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])
    stack.deploy({"W": workflow()}, ClientRequestToken="release-1-a")
    heard: dict[str, list[str]] = {}
    tokens: set[str] = set()
    deadline = time.monotonic() + 5
    while len(heard.get(stack.id, [])) < 2 and time.monotonic() < deadline:
        for message in (
            client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        ):
            detail = json.loads(message["Body"])["detail"]
            heard.setdefault(detail["stack-id"], []).append(detail["status-details"]["status"])
            if detail["stack-id"] == stack.id:
                tokens.add(detail["client-request-token"])
        time.sleep(0.05)
    client("events").remove_targets(Rule=rule, Ids=["queue"])
    client("events").delete_rule(Name=rule)
    assert heard[stack.id] == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]


def test_a_bucket_with_objects_is_not_deleted(stack: Stack, client) -> None:
    stack.deploy({"B": {"Type": "AWS::S3::Bucket", "Properties": {}}})
    bucket = stack.physical_id("B")
    client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    assert stack.delete() == "DELETE_FAILED"
    assert "not empty" in stack.reasons()
    client("s3").delete_object(Bucket=bucket, Key="k")
    assert stack.delete() == "DELETE_COMPLETE"


BUCKET = {
    "BucketEncryption": {
        "ServerSideEncryptionConfiguration": [
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/aws/s3"}}
        ]
    },
    "LifecycleConfiguration": {"Rules": [{"Id": "old", "Status": "Enabled", "ExpirationInDays": 7}]},
    "LoggingConfiguration": {"LogFilePrefix": "log/"},
    "Tags": [{"Key": "owner", "Value": "tests"}],
}


def test_what_a_template_no_longer_says_of_a_bucket_is_gone(stack: Stack, client) -> None:
    assert stack.deploy({"Bucket": {"Type": "AWS::S3::Bucket", "Properties": BUCKET}}) == "CREATE_COMPLETE"
    s3, name = client("s3"), stack.physical_id("Bucket")

    def said() -> list[str]:
        """Which words of the template the API tells."""
        found = []
        for read, word in (
            (s3.get_bucket_encryption, "aws:kms"),
            (s3.get_bucket_lifecycle_configuration, '"Days": 7'),
            (s3.get_bucket_logging, "log/"),
            (s3.get_bucket_tagging, "owner"),
        ):
            with contextlib.suppress(
                botocore.exceptions.ClientError
            ):  # NoSuchLifecycleConfiguration and the like
                found += [word] * (word in json.dumps(read(Bucket=name)))
        return found

    assert said() == ["aws:kms", '"Days": 7', "log/", "owner"]
    assert stack.deploy({"Bucket": {"Type": "AWS::S3::Bucket"}}) == "UPDATE_COMPLETE"
    assert said() == []


def test_a_condition_on_a_joined_list_of_parameters_holds(client) -> None:
    """What decides, in the template of `cdk bootstrap`, whether CloudFormation may do anything."""
    conditional = {
        "Parameters": {"Policies": {"Type": "CommaDelimitedList", "Default": ""}},
        "Conditions": {"Given": {"Fn::Not": [{"Fn::Equals": ["", {"Fn::Join": ["", {"Ref": "Policies"}]}]}]}},
        "Resources": {"W": workflow()},
        "Outputs": {"Given": {"Value": {"Fn::If": ["Given", "yes", "no"]}}},
    }
    cloudformation, told = client("cloudformation"), []
    for value in ("", "a,b"):
        name = f"test-{uuid.uuid4().hex[:8]}"
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(conditional),
            Parameters=[{"ParameterKey": "Policies", "ParameterValue": value}],
        )
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
        told.append(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["Outputs"][0]["OutputValue"])
        cloudformation.delete_stack(StackName=name)
    assert told == ["no", "yes"]
