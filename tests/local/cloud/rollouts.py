"""Endpoints whose models answer with a number, how they are updated, and clients that ask all the time."""

import json
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.test_events import arn, queue, rule
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
        assert self.answers

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            began = time.monotonic()
            try:
                answer: float | str = json.loads(self._ask()["Body"].read())["predictions"][0]
            except ClientError as error:
                answer = error.response["Error"]["Code"]
            except Exception as error:  # noqa: BLE001 - a dropped connection is a failed request, too
                answer = type(error).__name__
            self.answers.append((began, answer))

    @property
    def failed(self) -> list[str]:
        return [answer for _, answer in self.answers if isinstance(answer, str)]

    def counted(self, since: float = 0.0, until: float = float("inf")) -> Counter[float | str]:
        return Counter(answer for at, answer in self.answers if since <= at < until)


class Rollouts(Hosting):
    """Endpoints of models that answer with a number, their updates, and alarms on them."""

    def __init__(self, client: Callable[..., Any]) -> None:
        super().__init__(client)
        self.cloudwatch = client("cloudwatch")
        self._runtime = client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))
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

    def ask(self, name: str, body: str | bytes = "[1]", **more: Any) -> Any:
        """One request, which nobody but the router repeats."""
        return self._runtime.invoke_endpoint(
            EndpointName=name, Body=body, ContentType="application/json", **more
        )

    def ring(self, alarm: str) -> None:
        self.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")

    def state(self, alarm: str) -> str:
        return str(self.cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"])

    def rings(self, endpoint: str, metric: str) -> bool:
        """Whether there is something to alarm about."""
        return self.total(endpoint, metric) > 0

    def total(self, endpoint: str, metric: str = "Invocations", **more: str) -> float:
        """The metric's sum so far, of the variant or with more dimensions."""
        dimensions = {"EndpointName": endpoint, "VariantName": "AllTraffic", **more}
        found = self.cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in found))

    def scale(self, name: str, instances: int) -> None:
        wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": instances}]
        self.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=wanted
        )

    def answers(self, name: str, times: int = 10) -> set[float]:
        """What so many requests are answered."""
        return {json.loads(self.ask(name, "[1]")["Body"].read())["predictions"][0] for _ in range(times)}

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


def kill(processes: set[int], place: int) -> None:
    os.kill(sorted(processes)[place], signal.SIGKILL)


def once(tmp_path: Path) -> tuple[Path, str]:
    """A file, and the program of a model that starts as long as the file does not exist."""
    file = tmp_path / "broken"
    return file, f"import pathlib\nassert not pathlib.Path({str(file)!r}).exists()\n{PROGRAM}"


def listen(client: Callable[[str], Any], pattern: Mapping[str, Any]) -> Callable[..., list[Any] | None]:
    """`told(until)`: all events of the pattern so far in their order, once one of them contains the text."""
    name = f"rollout-{uuid.uuid4().hex[:8]}"
    url, queue_arn = queue(client, name, [arn(name)])
    rule(client, name, {"Arn": queue_arn})
    client("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
    events: list[Any] = []

    def told(until: str) -> list[Any] | None:
        found = client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        for message in found.get("Messages", []):
            client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            events.append(json.loads(message["Body"]))
        return events if any(until in json.dumps(event) for event in events) else None

    return told
