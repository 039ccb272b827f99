"""The Serving stack, its endpoint and the registry, behaving as AWS documents them.

The functions get real boto3 clients whose calls are answered here, so botocore checks every request's shape; moto knows
neither an endpoint's update nor a stack's busy states.
"""

import dataclasses
import functools
import json
import re
from datetime import datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError

STACK, ENDPOINT, GROUP = "flights-sandbox-serving", "flights-sandbox", "flights-sandbox"
FOLLOWER, SOURCE = "flights-sandbox-serverless", "flights-sandbox.release"
ROLE = "arn:aws:iam::123456789012:role/serving-update"
SETTINGS = {
    "SERVING_STACK_NAME": STACK,
    "SERVING_UPDATE_ROLE_ARN": ROLE,
    "MODEL_PACKAGE_GROUP_NAME": GROUP,
    "ENDPOINT_NAME": ENDPOINT,
    "FOLLOWER_STACK_NAMES": "[]",
    "RESULT_SOURCE": SOURCE,
}
# In the order in which they happen; a test that needs another order says so.
APPROVED_AT, ENDED_AT, REJECTED_AT, HOURLY_AT = (f"2026-11-22T{hour}:00:00Z" for hour in (10, 11, 12, 13))
ERRORS_ALARM = "flights-sandbox-serving-AlarmsErrors"
# What a handler answers: the message is done with, or comes again later.
DONE: dict[str, Any] = {"batchItemFailures": []}
AGAIN: dict[str, Any] = {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
DEFAULTS = {
    "ModelPackageArn": "",
    "RollbackAlarms": "on",
    "BootstrapVersion": "/cdk-bootstrap/hnb659fds/version",
}


def package(version: int, group: str = GROUP) -> str:
    return f"arn:aws:sagemaker:eu-west-1:123456789012:model-package/{group}/{version}"


def failure(operation: str, message: str, code: str = "ValidationError") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class _Answers:
    """Answers a client's calls in place of AWS, after botocore has checked the parameters."""

    world: "World"

    def remember(self, params: dict[str, Any], **_: Any) -> None:
        self.asked = dict(params)

    def answer(self, model: Any, **_: Any) -> Any:
        operation = getattr(self.world, f"_{model.name}")
        return type("Http", (), {"status_code": 200})(), operation(self.asked)


@functools.cache  # making a client takes longer than a test
def _client(service: str) -> tuple[Any, _Answers]:
    client, answers = boto3.client(service, region_name="eu-west-1"), _Answers()
    client.meta.events.register("before-parameter-build", answers.remember)
    client.meta.events.register("before-call", answers.answer)
    return client, answers


@dataclasses.dataclass
class World:
    """What AWS knows. `updates` are the UpdateStack calls of Serving that were accepted, of all `attempts`.

    `results` are the details of the events that were put on the bus, `metadata` what stands beside each package.
    """

    parameters: dict[str, str] = dataclasses.field(default_factory=lambda: {**DEFAULTS, "Kept": "as it is"})
    status: str = "CREATE_COMPLETE"
    packages: dict[str, str] = dataclasses.field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    configs: list[str] = dataclasses.field(default_factory=list)  # number n → its model package
    believed: int | None = None
    running: int | None = None
    endpoint_status: str = "InService"
    follower_endpoint_status: str = "InService"
    failure_reason: str = ""
    alarms: dict[str, str] = dataclasses.field(default_factory=lambda: {ERRORS_ALARM: "OK"})
    stack_events: list[dict[str, str]] = dataclasses.field(default_factory=list)  # oldest first
    followers: dict[str, str] = dataclasses.field(default_factory=dict)  # stack → its model package
    follower_statuses: dict[str, str] = dataclasses.field(default_factory=dict)  # CREATE_COMPLETE if not here
    follower_configs: dict[str, tuple[int, int | None]] = dataclasses.field(
        default_factory=dict
    )  # believed, running
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    updates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    follower_updates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    attempts: int = 0
    before: dict[str, str] = dataclasses.field(default_factory=dict)  # the parameters before the last update

    def serving(self, version: int) -> "World":
        """This world with `version` approved and in service."""
        self.packages[package(version)] = "Approved"
        self.parameters["ModelPackageArn"] = package(version)
        self.status = "UPDATE_IN_PROGRESS"
        self.finish()
        return self

    def finish(self, *, rolled_back: bool = False) -> None:
        """The rollout ends; rolled back by an alarm, the endpoint keeps its configuration and the stack is wrong."""
        self.configs.append(self.parameters["ModelPackageArn"])
        self.believed = len(self.configs) - 1
        if not rolled_back:
            self.running = self.believed
        self.status = "UPDATE_COMPLETE"

    def redeploy(self, *, rolled_back: bool) -> None:
        """`cdk deploy` changes something else of Serving, such as the instance type, with the same version."""
        self.finish(rolled_back=rolled_back)

    def fail(self, kind: str, status: str, reason: str, *, time: str = ENDED_AT) -> None:
        """The rollout fails at a resource of type `kind`, and CloudFormation takes everything back."""
        token = self.updates[-1]["ClientRequestToken"]
        cancelled = ("AWS::CloudWatch::Alarm", "UPDATE_FAILED", "Resource update cancelled")
        ended = ("AWS::CloudFormation::Stack", "UPDATE_ROLLBACK_COMPLETE", "")
        for type_, ended_as, why in ((kind, status, reason), cancelled, ended):
            event = {"ResourceType": type_, "ResourceStatus": ended_as, "ResourceStatusReason": why}
            self.stack_events.append(event | {"ClientRequestToken": token, "Timestamp": time})
        self.parameters, self.status = self.before, "UPDATE_ROLLBACK_COMPLETE"

    def client(self, service: str) -> Any:
        """A real client of `service`, answered by this world from now on."""
        client, answers = _client(service)
        answers.world = self
        return client

    def _DescribeStacks(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        name = asked["StackName"]
        if name in self.followers:
            follows = {"ParameterKey": "ModelPackageArn", "ParameterValue": self.followers[name]}
            status = self.follower_statuses.get(name, "CREATE_COMPLETE")
            if status == "REVIEW_IN_PROGRESS":  # nothing of it has been deployed
                return {"Stacks": [{"StackStatus": status}]}
            outputs = {}
            if name in self.follower_configs:
                believed, _ = self.follower_configs[name]
                outputs = {
                    "EndpointName": f"{name}-endpoint",
                    "EndpointConfigName": f"EndpointConfig-{believed}",
                }
            described = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]
            return {"Stacks": [{"StackStatus": status, "Parameters": [follows], "Outputs": described}]}
        if name != STACK:
            raise failure("DescribeStacks", f"Stack with id {name} does not exist")
        outputs = {"EndpointName": ENDPOINT, "RollbackAlarmNames": ",".join(self.alarms)}
        if self.believed is not None:
            outputs["EndpointConfigName"] = f"EndpointConfig-{self.believed}"
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        described = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]
        return {"Stacks": [{"StackStatus": self.status, "Parameters": parameters, "Outputs": described}]}

    def _DescribeStackEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """One event a page, the newest first."""
        newest_first = self.stack_events[::-1]
        position = int(asked.get("NextToken", "0"))
        more = {"NextToken": str(position + 1)} if position + 1 < len(newest_first) else {}
        shown = [
            event | {"Timestamp": datetime.fromisoformat(event["Timestamp"])}
            for event in newest_first[position : position + 1]
        ]
        return {"StackEvents": shown, **more}

    def _UpdateStack(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if asked["StackName"] in self.followers:
            status = self.follower_statuses.get(asked["StackName"], "CREATE_COMPLETE")
            if not status.endswith("_COMPLETE") or status == "ROLLBACK_COMPLETE":
                raise failure("UpdateStack", f"Stack:{FOLLOWER} is in {status} state and can not be updated.")
            (told,) = asked["Parameters"]
            self.followers[asked["StackName"]] = told["ParameterValue"]
            self.follower_updates.append(dict(asked))
            return {"StackId": asked["StackName"]}
        self.attempts += 1
        if not self.status.endswith("_COMPLETE"):
            raise failure("UpdateStack", f"Stack:{STACK} is in {self.status} state and can not be updated.")
        given = {item["ParameterKey"]: item for item in asked["Parameters"]}
        updated = {
            key: value
            if given.get(key, {}).get("UsePreviousValue")
            else given.get(key, {}).get("ParameterValue", DEFAULTS.get(key, ""))
            for key, value in self.parameters.items()
        }
        if updated == self.parameters:
            raise failure("UpdateStack", "No updates are to be performed.")
        self.before, self.parameters, self.status = self.parameters, updated, "UPDATE_IN_PROGRESS"
        self.updates.append(dict(asked))
        return {"StackId": STACK}

    def _DescribeModelPackage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["ModelPackageName"]
        if name not in self.packages:
            raise failure("DescribeModelPackage", "ModelPackage does not exist.", "ValidationException")
        written = {"CustomerMetadataProperties": self.metadata[name]} if name in self.metadata else {}
        return {"ModelApprovalStatus": self.packages[name], **written}

    def _ListModelPackages(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """One version a page."""
        named = f":model-package/{asked['ModelPackageGroupName']}/"
        wanted = [
            arn
            for arn, status in self.packages.items()
            if named in arn and status == asked.get("ModelApprovalStatus", status)
        ]
        position = int(asked.get("NextToken", "0"))
        more = {"NextToken": str(position + 1)} if position + 1 < len(wanted) else {}
        listed = [{"ModelPackageArn": arn} for arn in wanted[position : position + 1]]
        return {"ModelPackageSummaryList": listed, **more}

    def _UpdateModelPackage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["ModelPackageArn"]
        if name not in self.packages:
            raise failure("UpdateModelPackage", "ModelPackage does not exist.", "ValidationException")
        assert set(asked) == {"ModelPackageArn", "CustomerMetadataProperties"}, "an approval is a person's"
        for value in asked["CustomerMetadataProperties"].values():
            assert re.fullmatch(r"[\w\s.:/=+@-]{1,256}", value), value
        self.metadata.setdefault(name, {}).update(asked["CustomerMetadataProperties"])
        return {"ModelPackageArn": name}

    def _PutEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        (entry,) = asked["Entries"]
        assert (entry["Source"], entry["DetailType"]) == (SOURCE, "Rollout Result")
        self.results.append(json.loads(entry["Detail"]))
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]}

    def _DescribeAlarms(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        named = [name for name in asked["AlarmNames"] if self.alarms[name] == asked["StateValue"]]
        return {"MetricAlarms": [{"AlarmName": name} for name in named], "CompositeAlarms": []}

    def _DescribeEndpoint(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        follower = asked["EndpointName"].removesuffix("-endpoint")
        running = self.running if asked["EndpointName"] == ENDPOINT else self.follower_configs[follower][1]
        if running is None:
            raise failure("DescribeEndpoint", "Could not find endpoint", "ValidationException")
        status = self.endpoint_status if asked["EndpointName"] == ENDPOINT else self.follower_endpoint_status
        return {
            "EndpointStatus": status,
            "EndpointConfigName": f"EndpointConfig-{running}",
            **({"FailureReason": self.failure_reason} if self.failure_reason else {}),
        }

    def _DescribeEndpointConfig(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = asked["EndpointConfigName"].rsplit("-", 1)[-1]
        return {"ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": f"Model-{number}"}]}

    def _DescribeModel(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = int(asked["ModelName"].rsplit("-", 1)[-1])
        return {"PrimaryContainer": {"ModelPackageName": self.configs[number]}}


def approve(world: World, *versions: int) -> None:
    """As a person does, before the events arrive."""
    world.packages |= {package(version): "Approved" for version in versions}


def message(event: dict[str, Any]) -> dict[str, Any]:
    """What Lambda hands over for one EventBridge event that went through a FIFO queue."""
    return {
        "Records": [
            {
                "messageId": "m-1",
                "receiptHandle": "r",
                "body": json.dumps(event),
                "attributes": {"MessageGroupId": "serving"},
                "eventSource": "aws:sqs",
            }
        ]
    }


def approval_event(version: int, **detail: Any) -> dict[str, Any]:
    """A "SageMaker Model Package State Change" event, as the Developer Guide's example has it."""
    group = detail.pop("ModelPackageGroupName", GROUP)
    return {
        "version": "0",
        "id": f"844e2571-85d4-695f-b930-{version:012d}",
        "detail-type": "SageMaker Model Package State Change",
        "source": "aws.sagemaker",
        "time": detail.pop("time", APPROVED_AT),
        "resources": [package(version, group)],
        "detail": {
            "ModelPackageGroupName": group,
            "ModelPackageVersion": version,
            "ModelPackageArn": package(version, group),
            "ModelPackageStatus": "Completed",
            "ModelApprovalStatus": "Approved",
            "UpdatedModelPackageFields": ["ModelApprovalStatus"],
            **detail,
        },
    }


def rejection_event(version: int, time: str = REJECTED_AT) -> dict[str, Any]:
    """The same event, for a version that has been rejected."""
    return approval_event(version, time=time, ModelApprovalStatus="Rejected")


def hourly_event() -> dict[str, Any]:
    """A "Scheduled Event", as the EventBridge User Guide's example has it."""
    return {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "time": HOURLY_AT,
        "resources": ["arn:aws:events:eu-west-1:123456789012:rule/hourly"],
        "detail": {},
    }


def completion_event(
    status: str = "UPDATE_COMPLETE", *, token: str = "", time: str = ENDED_AT, stack: str = STACK
) -> dict[str, Any]:
    """A "CloudFormation Stack Status Change" event, as the CloudFormation User Guide's example has it."""
    stack_id = f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{stack}/d0a825a0"
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "CloudFormation Stack Status Change",
        "source": "aws.cloudformation",
        "time": time,
        "resources": [stack_id],
        "detail": {
            "stack-id": stack_id,
            "status-details": {"status": status, "status-reason": ""},
            "client-request-token": token,
        },
    }
