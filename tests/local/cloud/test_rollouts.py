"""Updates of an endpoint as they happen: two fleets of processes, traffic, alarms, the way forward and the way back."""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.test_sagemaker_endpoints import Hosting, servers
from tests.local.cloud.test_stream import eventually
from tests.local.test_server import PROGRAM

BAKE, TERMINATION = 90, 60  # seconds of AWS: 1.5 and 1 here
FAILING = PROGRAM.replace("    time.sleep(", "    raise RuntimeError('no')\n    time.sleep(")


def size(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def blue_green(
    kind: str, *, bake: int = BAKE, termination: int = TERMINATION, **sizes: Any
) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": bake, **sizes}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": termination,
        }
    }


def canary(**more: int) -> dict[str, Any]:
    return blue_green("CANARY", CanarySize=size(1), **more)


class Load:
    """A few clients that ask all the time; what each request got, and when (seconds of `time.monotonic`)."""

    def __init__(self, ask: Callable[[], Any], clients: int = 2, pause: float = 0.03) -> None:
        self._ask, self._pause = ask, pause
        self._stop = threading.Event()
        self.answers: list[tuple[float, float | str]] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            began = time.monotonic()
            try:
                answer: float | str = json.loads(self._ask()["Body"].read())["predictions"][0]
            except ClientError as error:
                answer = error.response["Error"]["Code"]
            self.answers.append((began, answer))

    @property
    def failed(self) -> list[str]:
        return [answer for _, answer in self.answers if isinstance(answer, str)]

    def counted(self, since: float = 0.0, until: float = float("inf")) -> Counter[float | str]:
        return Counter(answer for at, answer in self.answers if since <= at < until)


class Rollouts(Hosting):
    """Endpoints of models that answer with a number, their updates, and alarms on them."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        super().__init__(client)
        self.cloudwatch = client("cloudwatch")
        self.allow_alarms()

    def allow_alarms(self) -> None:
        statement = {"Effect": "Allow", "Action": "cloudwatch:DescribeAlarms", "Resource": "*"}
        self.client("iam").put_role_policy(
            RoleName=self.bucket,
            PolicyName="alarms",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statement}),
        )

    def serving(self, factor: float, instances: int = 2, **model: Any) -> str:
        """A configuration whose model multiplies by `factor`."""
        return self.config(self.model(self.store(factor, **model)), instances)

    def started(self, config: str) -> str:
        name = self.endpoint(config)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def update(
        self, name: str, config: str, how: Mapping[str, Any] | None = None, *alarms: str, **more: Any
    ) -> None:
        wanted = dict(how or {})
        if alarms:
            wanted["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
        given = {"DeploymentConfig": wanted} if wanted else {}
        self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **given, **more)

    def described(self, name: str) -> Any:
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def status(self, name: str) -> str:
        """What the new variant's status says now."""
        (variant,) = self.described(name).get("PendingDeploymentSummary", {"ProductionVariants": [{}]})[
            "ProductionVariants"
        ]
        return str((variant.get("VariantStatus") or [{"StatusMessage": ""}])[0]["StatusMessage"])

    def until(self, name: str, text: str) -> float:
        """Wait for a status message with this text; when it was seen."""
        assert eventually(lambda: text in self.status(name), seconds=20), self.described(name)
        return time.monotonic()

    def alarm(self, endpoint: str, missing: str = "notBreaching", metric: str = "Invocation5XXErrors") -> str:
        name = f"alarm-{uuid.uuid4().hex[:8]}"
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": "AllTraffic"},
            ],
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData=missing,
        )
        return name

    def load(self, name: str, body: str = "[1]", **more: Any) -> Load:
        return Load(lambda: self.ask(name, body), **more)


@pytest.fixture(scope="module")
def rollouts(client: Callable[[str], Any]) -> Rollouts:
    return Rollouts(client)


@pytest.fixture
def endpoint(rollouts: Rollouts, cloud: Place) -> Iterator[str]:
    """Two instances that answer 2; no process is left of it afterwards."""
    before = servers(cloud)
    name = rollouts.started(rollouts.serving(2))
    yield name
    rollouts.delete(name)
    assert servers(cloud) == before


def test_a_good_model_takes_over_by_canary_without_a_failed_request(
    rollouts: Rollouts, endpoint: str, cloud: Place
) -> None:
    new = rollouts.serving(5)
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, new, canary(), rollouts.alarm(endpoint))
        shifted = rollouts.until(endpoint, "canary capacity of 1 instance(s)")
        full = rollouts.until(endpoint, "full capacity of 2 instance(s)")
        found = rollouts.settled(endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", new)
    assert "PendingDeploymentSummary" not in found
    assert "FailureReason" not in found
    assert load.failed == []
    assert set(load.counted(shifted + 0.1, full - 0.3)) == {2.0, 5.0}
    assert set(load.counted(full + 0.1)) == {5.0}


def test_a_model_that_errors_is_taken_back_by_an_alarm(rollouts: Rollouts, endpoint: str) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, rollouts.serving(5, program=FAILING), canary(bake=600), alarm)
        rollouts.until(endpoint, "canary capacity of 1 instance(s)")
        found = rollouts.settled(endpoint)
        ended = time.monotonic()
        time.sleep(0.3)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", old)
    assert alarm in found["FailureReason"]
    assert set(load.failed) == {"ModelError"}
    assert set(load.counted(ended)) == {2.0}
