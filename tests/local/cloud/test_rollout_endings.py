"""Both endings of an alarm's rollback, through the deployed approval loop, under a small load.

The version passes its ping and errors on every prediction. CloudFormation is told, or takes it for a success; either way
the version before it serves at the end, the stack says so, and a person hears why.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from local.cloud import lifecycle
from local.cloud.place import Place
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.rollouts import FAILING, Load
from tests.local.cloud.test_sagemaker_release import Inbox, Release, Trained, inbox, release
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import archive
from tests.local.test_server import PROGRAM
from tests.support.deployed import Deployment
from tools.assembly import Assembly

__all__ = ["inbox", "release"]

CLIENTS, PAUSE = 3, 0.05
SERVICE = [{"Name": "service", "Value": "stream-consumer"}]  # whose predictions the quality alarm looks at


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Answers a number with twice it."""
    return packed(tmp_path_factory.mktemp("good"), PROGRAM)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Loads, passes its ping, and fails at every prediction."""
    return packed(tmp_path_factory.mktemp("bad"), FAILING)


def packed(folder: Path, program: str) -> Trained:
    path = folder / "model.tar.gz"
    path.write_bytes(archive({"code/inference.py": program, "factor.json": json.dumps({"factor": 2})}))
    return Trained(path, {})


class Watch:
    """What the rollback alarms and the running endpoint of a release say."""

    def __init__(self, release: Release, cdk: Cdk) -> None:
        self.release, self.cloudwatch = release, release.client("cloudwatch")
        found = list(Deployment(cdk.assembly, release.client("cloudformation")).resources())
        self.alarms = {
            kind: next(
                it.physical_id
                for it in found
                if it.type == "AWS::CloudWatch::Alarm" and f"Alarms{kind}" in it.logical_id
            )
            for kind in ("Errors", "Latency", "Quality")
        }
        self.log_group = next(
            it.properties["LoggingConfig"]["LogGroup"]
            for it in found
            if it.type == "AWS::Lambda::Function" and it.logical_id.startswith("RolloutsCheck")
        )

    def load(self) -> Load:
        """Clients that nobody but the router helps with a retry."""
        runtime = self.release.client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))  # type: ignore[call-arg]
        return Load(
            lambda: runtime.invoke_endpoint(
                EndpointName=self.release.endpoint, Body="[1]", ContentType="application/json"
            ),
            clients=CLIENTS,
            pause=PAUSE,
        )

    def runs(self) -> str:
        found = self.release.client("sagemaker").describe_endpoint(EndpointName=self.release.endpoint)
        assert found["EndpointStatus"] == "InService"
        return str(found["EndpointConfigName"])

    def states(self, kind: str) -> list[str]:
        """Every state the alarm has been in, the newest first."""
        history = self.cloudwatch.describe_alarm_history(
            AlarmName=self.alarms[kind], HistoryItemType="StateUpdate"
        )["AlarmHistoryItems"]
        return [json.loads(it["HistoryData"])["newState"]["stateValue"] for it in history]

    def logged(self, text: str) -> bool:
        """Whether the check has logged a line with this text."""
        pages = (
            self.release.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=self.log_group)
        )
        return any(text in event["message"] for page in pages for event in page["events"])


def test_cloudformation_is_told_of_the_rollback_and_goes_back_too(
    release: Release, inbox: Inbox, deployed: Cdk, good: Trained, bad: Trained
) -> None:
    watch = Watch(release, deployed)
    first, second = release.register(good, "good"), release.register(bad, "bad")
    assert release.approve(first)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    release.became(first, "in service")
    before = release.outputs()["EndpointConfigName"]
    with watch.load() as load:
        release.decide(second, "Approved")
        written = release.became(second, "rolled back")
        ended = time.monotonic()
        time.sleep(0.5)
    assert set(load.failed) == {"ModelError"}
    assert set(load.counted(ended)) == {2.0}
    assert "went off: the endpoint was rolled back" in written["rollout-reason"]
    assert watch.alarms["Errors"] in written["rollout-reason"]
    stack = release.serves(first)
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert watch.runs() == release.outputs()["EndpointConfigName"] == before
    assert eventually(
        lambda: inbox.has("what served before serves on", second, watch.alarms["Errors"]), seconds=20
    ), inbox.texts


@contextlib.contextmanager
def repeated(act: Callable[[], Any], seconds: float) -> Iterator[None]:
    """Do it again and again as long as the block lasts."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Silent:
    """The deployed sandbox in a cloud that tells CloudFormation of no rollback."""

    def __init__(self, place: Place, assembly: Assembly) -> None:
        cdk = Cdk(place, assembly)
        cdk("bootstrap")
        cdk.deploy()
        self.client, self.release = place.client, Release(cdk, place.client)
        self.inbox, self.watch = Inbox(place.client, self.release.topic), Watch(self.release, cdk)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory, assembly: Callable[[str], Assembly]) -> Iterator[Silent]:
    place = Place.on_free_port(tmp_path_factory.mktemp("silent"), rollback="silent")
    with lifecycle.running(place):
        yield Silent(place, assembly("sandbox"))


@pytest.mark.deep
def test_a_rollback_that_cloudformation_took_for_a_success_is_found_and_put_right_once_no_alarm_rings(
    silent: Silent, good: Trained, bad: Trained
) -> None:
    release, inbox, watch = silent.release, silent.inbox, silent.watch
    first, second = release.register(good, "good"), release.register(bad, "bad")
    assert release.approve(first)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    release.became(first, "in service")
    before = release.outputs()["EndpointConfigName"]

    def nonsense() -> None:
        """A consumer that was told "no" by all predictions: the quality alarm outlasts the errors."""
        silent.client("cloudwatch").put_metric_data(
            Namespace="flights-sandbox",
            MetricData=[
                {"MetricName": name, "Value": value, "Dimensions": SERVICE}
                for name, value in (("RecordsPredicted", 100), ("SumOfScores", 0))
            ],
        )

    with watch.load() as load:
        release.decide(second, "Approved")
        assert eventually(lambda: load.failed, seconds=30)
        with repeated(nonsense, 0.3):
            assert eventually(lambda: watch.logged("alarms that roll back are in ALARM"), seconds=60)
            # Found and told, and not put right yet.
            assert release.became(second, "rolled back")
            stack = release.serves(second)
            assert (stack["StackStatus"], watch.runs()) == ("UPDATE_COMPLETE", before)
            assert release.outputs()["EndpointConfigName"] != before
            ended = time.monotonic()
        stack = release.serves(first)
        settled = eventually(lambda: watch.runs() == release.outputs()["EndpointConfigName"], seconds=30)
    assert set(load.failed) == {"ModelError"}
    assert set(load.counted(ended)) == {2.0}
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert settled
    assert "ALARM" in watch.states("Errors")
    written = release.became(second, "rolled back")
    assert "CloudFormation took it for a success" in written["rollout-reason"]
    assert eventually(lambda: inbox.has("what served before serves on", second), seconds=20), inbox.texts
    assert eventually(lambda: inbox.has("An alarm went off", "RolloutsDifference"), seconds=20), inbox.texts


@pytest.mark.deep
def test_a_change_of_the_stack_that_was_rolled_back_unseen_is_told_and_what_is_told_mends_it(
    silent: Silent, good: Trained
) -> None:
    release, watch, cloudformation = silent.release, silent.watch, silent.client("cloudformation")
    package = release.register(good, "again")
    assert release.approve(package)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    release.became(package, "in service")
    before, parameters = watch.runs(), release.parameters()
    template = cloudformation.get_template(StackName=release.serving)["TemplateBody"]
    template = json.loads(template) if isinstance(template, str) else template
    (config,) = [
        it for it in template["Resources"].values() if it["Type"] == "AWS::SageMaker::EndpointConfig"
    ]
    config["Properties"]["DataCaptureConfig"]["InitialSamplingPercentage"] = 7

    def ring() -> None:
        silent.client("cloudwatch").set_alarm_state(
            AlarmName=watch.alarms["Errors"], StateValue="ALARM", StateReason="test"
        )

    def ended() -> bool:
        (stack,) = cloudformation.describe_stacks(StackName=release.serving)["Stacks"]
        believed = release.outputs()["EndpointConfigName"]
        return stack["StackStatus"] == "UPDATE_COMPLETE" and believed != before

    with repeated(ring, 0.2):
        cloudformation.update_stack(
            StackName=release.serving,
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": it["ParameterKey"], "UsePreviousValue": True} for it in parameters],
        )
        assert eventually(ended, seconds=90), release.reasons()
    believed = release.outputs()["EndpointConfigName"]
    assert watch.runs() == before
    command = f"--endpoint-config-name {believed} --retain-deployment-config"
    assert eventually(lambda: silent.inbox.has("nobody puts it right", package, command), seconds=60), (
        silent.inbox.texts
    )
    assert release.parameters() == parameters, "there is no other version to put back"

    assert eventually(lambda: watch.states("Errors")[:1] != ["ALARM"], seconds=60)
    silent.client("sagemaker").update_endpoint(
        EndpointName=release.endpoint,
        EndpointConfigName=believed,
        RetainDeploymentConfig=True,
        RetainAllVariantProperties=True,
    )
    silent.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=release.endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 90}
    )
    assert watch.runs() == believed
