"""The Serving stack, its endpoint and the registry, behaving as AWS documents them.

The functions get real boto3 clients whose calls are answered here, so botocore checks every request's shape; moto knows
neither an endpoint's update nor a stack's busy states.
"""

import dataclasses
import functools
import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

STACK, ENDPOINT, GROUP = "flights-sandbox-serving", "flights-sandbox", "flights-sandbox"
ROLE = "arn:aws:iam::123456789012:role/serving-update"
DEFAULTS = {"ModelPackageArn": "", "BootstrapVersion": "/cdk-bootstrap/hnb659fds/version"}


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
    """What AWS knows. `updates` are the UpdateStack calls that were accepted, of all `attempts`."""

    parameters: dict[str, str] = dataclasses.field(default_factory=lambda: {**DEFAULTS, "Kept": "as it is"})
    status: str = "CREATE_COMPLETE"
    packages: dict[str, str] = dataclasses.field(default_factory=dict)
    configs: list[str] = dataclasses.field(default_factory=list)  # number n → its model package
    believed: int | None = None
    running: int | None = None
    endpoint_status: str = "InService"
    updates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    attempts: int = 0

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

    def client(self, service: str) -> Any:
        """A real client of `service`, answered by this world from now on."""
        client, answers = _client(service)
        answers.world = self
        return client

    def _DescribeStacks(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        if asked["StackName"] != STACK:
            raise failure("DescribeStacks", f"Stack with id {asked['StackName']} does not exist")
        outputs = {"EndpointName": ENDPOINT}
        if self.believed is not None:
            outputs["EndpointConfigName"] = f"EndpointConfig-{self.believed}"
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        described = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]
        return {"Stacks": [{"StackStatus": self.status, "Parameters": parameters, "Outputs": described}]}

    def _UpdateStack(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
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
        self.parameters, self.status = updated, "UPDATE_IN_PROGRESS"
        self.updates.append(dict(asked))
        return {"StackId": STACK}

    def _DescribeModelPackage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if asked["ModelPackageName"] not in self.packages:
            raise failure("DescribeModelPackage", "ModelPackage does not exist.", "ValidationException")
        return {"ModelApprovalStatus": self.packages[asked["ModelPackageName"]]}

    def _DescribeEndpoint(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if asked["EndpointName"] != ENDPOINT or self.running is None:
            raise failure("DescribeEndpoint", "Could not find endpoint", "ValidationException")
        return {
            "EndpointStatus": self.endpoint_status,
            "EndpointConfigName": f"EndpointConfig-{self.running}",
        }

    def _DescribeEndpointConfig(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = asked["EndpointConfigName"].rsplit("-", 1)[-1]
        return {"ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": f"Model-{number}"}]}

    def _DescribeModel(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = int(asked["ModelName"].rsplit("-", 1)[-1])
        return {"PrimaryContainer": {"ModelPackageName": self.configs[number]}}


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


def completion_event(status: str = "UPDATE_COMPLETE") -> dict[str, Any]:
    """A "CloudFormation Stack Status Change" event, as the CloudFormation User Guide's example has it."""
    stack = f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{STACK}/d0a825a0"
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "CloudFormation Stack Status Change",
        "source": "aws.cloudformation",
        "resources": [stack],
        "detail": {
            "stack-id": stack,
            "status-details": {"status": status, "status-reason": ""},
            "client-request-token": "",
        },
    }
