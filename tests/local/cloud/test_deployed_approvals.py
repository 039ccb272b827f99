"""Approvals that come while a rollout runs, and a CloudFormation that is asked too often: the last wins, nothing is lost."""

import contextlib
import http.client
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from local.cloud.place import Place
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.rollouts import Load
from tests.local.cloud.test_sagemaker_release import Release, Trained, release
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import archive
from tests.local.test_server import PROGRAM
from tests.support.deployed import Deployment

__all__ = ["release"]

pytestmark = pytest.mark.deep

THROTTLED = (
    b'<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><Error><Type>Sender</Type>'
    b"<Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>"
)


class Throttle:
    """CloudFormation behind a door that refuses the next `refusing` calls of UpdateStack."""

    def __init__(self, place: Place) -> None:
        self.refusing, self.passed, self._lock = 0, 0, threading.Lock()
        throttle = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if throttle.refuses(body):
                    self._answer(400, "text/xml", THROTTLED)
                    return
                context = ssl.create_default_context(cafile=str(place.certificate))
                inside = http.client.HTTPSConnection("127.0.0.1", place.port, context=context)
                inside.request("POST", self.path, body, dict(self.headers))  # signed for this host
                answer = inside.getresponse()
                self._answer(answer.status, answer.headers.get_content_type(), answer.read())
                inside.close()

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def refuses(self, body: bytes) -> bool:
        if b"Action=UpdateStack" not in body:
            return False
        with self._lock:
            refused = self.refusing > 0
            self.refusing -= refused
            self.passed += not refused
        return refused

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def throttle(deployed: Cdk, release: Release) -> Iterator[Throttle]:
    """What the releasing function asks of CloudFormation goes through it."""
    door, function = Throttle(deployed.place), release.client("lambda")
    [it] = [
        it
        for it in Deployment(deployed.assembly, release.client("cloudformation")).resources()
        if it.type == "AWS::Lambda::Function" and it.logical_id.startswith("ApprovalsRelease")
    ]
    before = function.get_function_configuration(FunctionName=it.physical_id)["Environment"]["Variables"]
    with contextlib.ExitStack() as after:
        after.callback(door.close)
        after.callback(
            function.update_function_configuration,
            FunctionName=it.physical_id,
            Environment={"Variables": before},
        )
        function.update_function_configuration(
            FunctionName=it.physical_id,
            Environment={"Variables": before | {"AWS_ENDPOINT_URL_CLOUDFORMATION": door.url}},
        )
        yield door


def answering(folder: Path, factor: int) -> Trained:
    """A model that answers 1 with `factor`."""
    path = folder / f"{factor}.tar.gz"
    path.write_bytes(archive({"code/inference.py": PROGRAM, "factor.json": json.dumps({"factor": factor})}))
    return Trained(path, {})


def test_of_two_approvals_during_a_rollout_the_last_one_is_served_though_cloudformation_throttles(
    release: Release,
    client: Callable[..., Any],
    tmp_path: Path,
    throttle: Throttle,
) -> None:
    first, second, third, fourth = [
        release.register(answering(tmp_path, factor), f"answers-{factor}") for factor in (2, 3, 4, 5)
    ]
    assert release.approve(first)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    release.became(first, "in service")
    runtime = client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))

    def ask() -> Any:
        return runtime.invoke_endpoint(
            EndpointName=release.endpoint, Body="[1]", ContentType="application/json"
        )

    def rolls_out() -> bool:
        described = release.client("sagemaker").describe_endpoint(EndpointName=release.endpoint)
        return bool(described["EndpointStatus"] == "Updating")

    with Load(ask, clients=2, pause=0.05) as load:
        release.decide(second, "Approved")
        assert eventually(rolls_out, seconds=30)
        throttle.refusing = 2  # all of one invocation: the SDK tries once more by itself
        release.decide(third, "Approved")
        release.decide(fourth, "Approved")
        assert release.serves(fourth)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
        release.became(fourth, "in service")
    assert load.failed == []
    assert set(load.counted()) == {2.0, 3.0, 5.0}
    assert (throttle.refusing, throttle.passed) == (0, 3)
    first_number, second_number, third_number, fourth_number = [
        it.rpartition("/")[2] for it in (first, second, third, fourth)
    ]
    released = [
        found[1]
        for it in reversed(release.events())
        if it["LogicalResourceId"] == release.serving and it["ResourceStatus"] == "UPDATE_COMPLETE"
        if (found := re.match(r"release-(\d+)-", it.get("ClientRequestToken", "")))
    ]
    # Other tests may have released before: their versions are others.
    assert third_number not in released
    assert released[-3:] == [first_number, second_number, fourth_number]
    assert eventually(lambda: not waiting(release), seconds=30), waiting(release)
    statuses = [
        release.client("sagemaker").describe_model_package(ModelPackageName=it)["ModelApprovalStatus"]
        for it in (first, second, third, fourth)
    ]
    assert statuses == ["Approved"] * 4


def failing(folder: Path) -> Trained:
    """A model that passes its ping and fails each request."""
    path = folder / "failing.tar.gz"
    program = f"{PROGRAM}\ndef predict_fn(data, model):\n    raise RuntimeError('it always fails')\n"
    path.write_bytes(archive({"code/inference.py": program, "factor.json": json.dumps({"factor": 0})}))
    return Trained(path, {})


def test_a_bad_version_that_makes_its_alarm_ring_is_replaced_when_a_person_rejects_it(
    release: Release, client: Callable[..., Any], tmp_path: Path
) -> None:
    good, bad, fix = [
        release.register(trained, f"replaced-{number}")
        for number, trained in enumerate((answering(tmp_path, 2), failing(tmp_path), answering(tmp_path, 7)))
    ]
    release.approve(good)
    release.became(good, "in service")
    release.approve(bad)  # it bakes on silence: nobody asks
    release.became(bad, "in service")
    runtime = client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))

    def ask() -> Any:
        return runtime.invoke_endpoint(
            EndpointName=release.endpoint, Body="[1]", ContentType="application/json"
        )

    with Load(ask, clients=2, pause=0.05) as load:
        assert eventually(lambda: ringing(release), seconds=60)
        release.decide(fix, "Approved")
        assert release.became(fix, "waiting")["rollout-reason"].startswith(
            "flights-sandbox-serving-AlarmsErrors"
        )
        release.decide(bad, "Rejected")
        assert release.serves(fix)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
        release.became(fix, "in service")
        recovered = len(load.answers)
        assert eventually(lambda: len(load.answers) > recovered + 10, seconds=30)
    assert {answer for _, answer in load.answers[recovered + 5 :]} == {7.0}
    assert {"ParameterKey": "RollbackAlarms", "ParameterValue": "off"} in release.parameters()
    assert release.became(bad, "withdrawn")["rollout-reason"].endswith("rings already")


def ringing(release: Release) -> list[str]:
    found = release.client("cloudwatch").describe_alarms(
        AlarmNamePrefix="flights-sandbox-serving-", StateValue="ALARM"
    )
    return [alarm["AlarmName"] for alarm in found["MetricAlarms"]]


def waiting(release: Release) -> dict[str, int]:
    """How many messages wait in each queue of the approval loop, the dead letters' too."""
    sqs = release.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = {}
    for url in sqs.list_queues(QueueNamePrefix="flights-sandbox-release")["QueueUrls"]:
        counted = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        if total := sum(map(int, counted.values())):
            found[url.rpartition("/")[2]] = total
    return found
