"""Updates by CloudFormation: it is told of a rollback, or it is not; and a cloud that is killed in a bake."""

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from local.cloud import lifecycle
from local.cloud.place import Place
from tests.local.cloud.rollouts import Rollouts, canary, listen, rollouts
from tests.local.cloud.test_sagemaker_endpoints import servers
from tests.local.cloud.test_sagemaker_types import reasons, wait
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import ENVIRONMENT

__all__ = ["rollouts"]


class Stack:
    """A stack with an endpoint of two instances; each call creates or updates it, and waits."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts, self.name = rollouts, f"stack-{uuid.uuid4().hex[:8]}"
        self._cloudformation = rollouts.client("cloudformation")

    def __call__(self, factor: float, how: Mapping[str, Any], token: str) -> Any:
        container = {
            "Image": "image:1",
            "ModelDataUrl": self._rollouts.store(factor),
            "Environment": ENVIRONMENT,
        }
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 2,
        }
        properties = {
            "Model": {"ExecutionRoleArn": self._rollouts.role, "PrimaryContainer": container},
            "EndpointConfig": {"ProductionVariants": [variant]},
            "Endpoint": {
                "EndpointName": self.name,
                "EndpointConfigName": {"Fn::GetAtt": ["EndpointConfig", "EndpointConfigName"]},
                "DeploymentConfig": how,
            },
        }
        template = {
            name: {"Type": f"AWS::SageMaker::{name}", "Properties": it} for name, it in properties.items()
        }
        given = {
            "StackName": self.name,
            "TemplateBody": json.dumps({"Resources": template}),
            "ClientRequestToken": token,
        }
        try:
            self._cloudformation.create_stack(**given)
        except self._cloudformation.exceptions.AlreadyExistsException:
            self._cloudformation.update_stack(**given)
        return wait(self._rollouts, self.name)

    def config(self) -> str:
        """The endpoint configuration that the stack believes in."""
        found = self._cloudformation.describe_stack_resource(
            StackName=self.name, LogicalResourceId="EndpointConfig"
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"].rsplit("/", 1)[1])

    def delete(self) -> None:
        self._cloudformation.delete_stack(StackName=self.name)
        wait(self._rollouts, self.name)


def test_told_of_a_rollback_cloudformation_goes_back_too_and_its_events_carry_the_request_s_token(
    rollouts: Rollouts, client: Callable[[str], Any]
) -> None:
    stack = Stack(rollouts)
    told = listen(client, {"source": ["aws.cloudformation"]})
    alarm = rollouts.alarm(stack.name, "breaching", "NeverPublished")
    how = canary() | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}
    stack(2, how, "first")
    before = rollouts.described(stack.name)
    assert eventually(lambda: rollouts.state(alarm) == "ALARM")
    after = stack(5, how, "release-7-0a1b")
    assert after["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert f"Rollback alarm {alarm} went off" in reasons(rollouts, after)
    found = rollouts.described(stack.name)
    assert found["EndpointConfigName"] == before["EndpointConfigName"] == stack.config()
    assert alarm in found["FailureReason"]  # nothing was deployed since
    events = eventually(lambda: told(until="UPDATE_ROLLBACK_COMPLETE"), seconds=10)
    tokens = {
        (it["detail"]["status-details"]["status"], it["detail"]["client-request-token"])
        for it in events
        if it["detail"]["stack-id"] == after["StackId"]
    }
    assert {("CREATE_COMPLETE", "first"), ("UPDATE_ROLLBACK_COMPLETE", "release-7-0a1b")} <= tokens
    stack.delete()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A faster cloud whose CloudFormation is not told of rollbacks."""
    place = Place.on_free_port(tmp_path_factory.mktemp("elsewhere"), 120, "silent")
    with lifecycle.running(place):
        yield place


def test_not_told_of_a_rollback_cloudformation_believes_in_the_new_model(elsewhere: Place) -> None:
    """It is its time-out that takes this one back: 600 seconds of AWS, of a bake of an hour."""
    rollouts = Rollouts(elsewhere.client)
    stack, how = Stack(rollouts), canary(bake=3600)
    how["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] = 600
    stack(2, how, "first")
    before = rollouts.described(stack.name)["EndpointConfigName"]
    assert stack(5, how, "second")["StackStatus"] == "UPDATE_COMPLETE"
    found = rollouts.described(stack.name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", before)
    assert stack.config() != before
    assert "FailureReason" not in found
    assert rollouts.answers(stack.name) == {2.0}
    stack.delete()


def test_a_cloud_killed_in_a_bake_leaves_no_process_and_starts_empty(elsewhere: Place) -> None:
    rollouts = Rollouts(elsewhere.client)
    name = rollouts.started(rollouts.serving(2))
    rollouts.update(name, rollouts.serving(5), canary(bake=3600))
    rollouts.until(name, "Baking")
    assert len(servers(elsewhere)) == 4
    running = lifecycle.process(elsewhere)
    assert running
    os.kill(running, signal.SIGKILL)
    assert eventually(lambda: not servers(elsewhere))
    with lifecycle.running(elsewhere):
        assert elsewhere.client("sagemaker").list_endpoints()["Endpoints"] == []
