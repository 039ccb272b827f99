"""Updates of an endpoint as they happen: two fleets of processes, traffic, alarms, the way forward and the way back."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import lifecycle
from local.cloud.place import Place
from tests.local.cloud.test_events import arn, queue, rule
from tests.local.cloud.test_sagemaker_endpoints import Hosting, servers
from tests.local.cloud.test_sagemaker_types import reasons, wait
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import ENVIRONMENT
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


STAGES = {
    "linear": (
        3,
        blue_green("LINEAR", bake=45, termination=45, LinearStepSize=size(1)),
        ["step capacity of 1", "step capacity of 2", "full capacity of 3"],
        6,
    ),
    "rolling": (
        3,
        {"RollingUpdatePolicy": {"MaximumBatchSize": size(1), "WaitIntervalInSeconds": 45}},
        ["batch capacity of 1", "batch capacity of 2", "full capacity of 3"],
        4,
    ),
    "all at once": (2, blue_green("ALL_AT_ONCE"), ["full capacity of 2"], 4),
}


@pytest.mark.parametrize("strategy", STAGES)
def test_each_strategy_shifts_in_its_steps_with_its_instances(
    rollouts: Rollouts, cloud: Place, strategy: str
) -> None:
    instances, how, steps, most = STAGES[strategy]
    others = servers(cloud)
    name, new = rollouts.started(rollouts.serving(2, instances)), rollouts.serving(5, instances)
    seen, ran = [], 0
    with rollouts.load(name) as load:
        rollouts.update(name, new, how)
        while (found := rollouts.described(name))["EndpointStatus"] == "Updating":
            (pending,) = found.get("PendingDeploymentSummary", {"ProductionVariants": [{}]})[
                "ProductionVariants"
            ]
            for status in pending.get("VariantStatus", []):
                if status["Status"] == "Baking" and status["StatusMessage"] not in seen:
                    seen.append(status["StatusMessage"])
            ran = max(ran, len(servers(cloud) - others))
    assert load.failed == []
    assert len(seen) == len(steps)
    assert all(step in message for step, message in zip(steps, seen, strict=True))
    assert ran == most
    assert found["EndpointConfigName"] == new
    assert len(servers(cloud) - others) == instances
    rollouts.delete(name)


def test_the_share_of_the_canary_is_that_of_its_instances(rollouts: Rollouts) -> None:
    """One of four: a quarter, within five standard deviations of what was sent."""
    name = rollouts.started(rollouts.serving(2, 4))
    with rollouts.load(name, clients=4, pause=0.0) as load:
        rollouts.update(name, rollouts.serving(5, 4), canary(bake=120, termination=30))
        shifted = rollouts.until(name, "Baking for 120 seconds (WaitIntervalInSeconds)")
        full = rollouts.until(name, "(TerminationWaitInSeconds)") - 0.3
        rollouts.settled(name)
    counted = load.counted(shifted, full)
    sent = counted.total()
    assert abs(counted[5.0] - sent / 4) < 5 * (sent * 3 / 16) ** 0.5
    rollouts.delete(name)


def test_a_fault_that_shows_only_in_the_last_bake_is_taken_back(rollouts: Rollouts, endpoint: str) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=0, termination=3600), alarm)
    rollouts.until(endpoint, "(TerminationWaitInSeconds) with traffic enabled on full capacity")
    assert rollouts.answers(endpoint) == {5.0}
    rollouts.ring(alarm)
    assert rollouts.settled(endpoint)["EndpointConfigName"] == old
    assert rollouts.answers(endpoint) == {2.0}


def test_an_alarm_that_rings_already_lets_no_request_reach_the_new_model(
    rollouts: Rollouts, endpoint: str
) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint, "breaching", "NeverPublished")
    assert eventually(lambda: rollouts.state(alarm) == "ALARM")
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, rollouts.serving(5), canary(), alarm)
        found = rollouts.settled(endpoint)
    assert (found["EndpointConfigName"], set(load.counted())) == (old, {2.0})
    assert alarm in found["FailureReason"]


def test_an_alarm_that_comes_and_goes_between_two_looks_is_not_missed(
    rollouts: Rollouts, endpoint: str
) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    assert eventually(lambda: rollouts.state(alarm) == "OK")
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(endpoint, "Baking")
    for state in ("ALARM", "OK"):
        rollouts.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue=state, StateReason="a test")
    assert rollouts.settled(endpoint)["EndpointConfigName"] == old


@pytest.mark.parametrize("how", ["denied", "deleted"])
def test_an_alarm_that_cannot_be_read_takes_the_update_back(
    rollouts: Rollouts, endpoint: str, how: str
) -> None:
    old, alarm = rollouts.described(endpoint)["EndpointConfigName"], rollouts.alarm(endpoint)
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(endpoint, "Baking")
    if how == "denied":
        rollouts.client("iam").delete_role_policy(RoleName=rollouts.bucket, PolicyName="alarms")
    else:
        rollouts.cloudwatch.delete_alarms(AlarmNames=[alarm])
    found = rollouts.settled(endpoint)
    rollouts.allow_alarms()
    reason = {
        "denied": f"{rollouts.bucket}/SageMaker is not authorized to perform: cloudwatch:DescribeAlarms on resource: "
        f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:{alarm}",
        "deleted": f"{alarm} does not exist any more",
    }
    assert found["EndpointConfigName"] == old
    assert reason[how] in found["FailureReason"]


def test_a_server_process_killed_in_any_phase_costs_no_request(rollouts: Rollouts, cloud: Place) -> None:
    """In each bake one of each fleet that has traffic; of each fleet, another one lives through it all."""
    before = fleets(cloud).keys()
    name = rollouts.started(rollouts.serving(2))
    (old,) = fleets(cloud).keys() - before
    with rollouts.load(name) as load:
        rollouts.update(name, new := rollouts.serving(5), canary(bake=180, termination=90))
        rollouts.until(name, "Launching 2 instance(s).")
        stays = kill_one(cloud, old)
        rollouts.until(name, "Baking")
        (green,) = fleets(cloud).keys() - before - {old}
        stays |= kill_one(cloud, green)
        kill_one(cloud, old, stays)
        rollouts.until(name, "full capacity")
        kill_one(cloud, green, stays)
        found = rollouts.settled(name)
    assert load.failed == []
    assert found["EndpointConfigName"] == new
    assert set(load.counted()) == {2.0, 5.0}
    rollouts.delete(name)


def fleets(cloud: Place) -> dict[str, set[int]]:
    """The process ids of this cloud's model servers, by the directory of the model: one a fleet."""
    listed = subprocess.run(["ps", "-axwwo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    found: dict[str, set[int]] = {}
    for process, model in re.findall(
        rf"^ *(\d+) .*--model ({re.escape(str(cloud.folder))}\S+)", listed, re.MULTILINE
    ):
        found.setdefault(model, set()).add(int(process))
    return found


def kill_one(cloud: Place, fleet: str, stays: Iterable[int] = ()) -> set[int]:
    """Kill a process of the fleet, but none that stays, and wait until another one starts; the rest of the fleet."""
    running = eventually(lambda: fleets(cloud)[fleet].difference(stays))
    kill(running, 0)
    assert eventually(
        lambda: fleets(cloud)[fleet] - running - set(stays)
    )  # one at a time: there is one retry
    return running - {min(running)}


def kill(processes: set[int], place: int) -> None:
    os.kill(sorted(processes)[place], signal.SIGKILL)


def once(tmp_path: Path) -> tuple[Path, str]:
    """A file, and the program of a model that starts as long as the file does not exist."""
    file = tmp_path / "broken"
    return file, f"import pathlib\nassert not pathlib.Path({str(file)!r}).exists()\n{PROGRAM}"


def test_a_new_instance_that_does_not_come_back_takes_the_update_back(
    rollouts: Rollouts, cloud: Place, endpoint: str, tmp_path: Path
) -> None:
    broken, program = once(tmp_path)
    old, config = servers(cloud), rollouts.described(endpoint)["EndpointConfigName"]
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, rollouts.serving(5, program=program), canary(bake=3600))
        rollouts.until(endpoint, "Baking")
        broken.touch()
        kill(servers(cloud) - old, 0)
        found = rollouts.settled(endpoint)
    assert load.failed == []
    assert found["EndpointConfigName"] == config
    assert "cannot be started again" in found["FailureReason"]


def test_a_rolling_update_that_cannot_go_back_serves_with_both_until_the_next_one(
    rollouts: Rollouts, tmp_path: Path
) -> None:
    broken, program = once(tmp_path)
    name = rollouts.started(rollouts.serving(2, program=program))
    alarm = rollouts.alarm(name)
    policy = {"MaximumBatchSize": size(1), "WaitIntervalInSeconds": 1800}
    with rollouts.load(name) as load:
        policy["WaitIntervalInSeconds"] = 30
        rollouts.update(name, rollouts.serving(5), {"RollingUpdatePolicy": policy}, alarm)
        rollouts.until(name, "full capacity")  # one of the old instances is gone
        broken.touch()
        rollouts.ring(alarm)
        found = rollouts.settled(name)
        assert found["EndpointStatus"] == "UpdateRollbackFailed", found
        assert "The rollback failed" in found["FailureReason"]
        counts = [variant["CurrentInstanceCount"] for variant in found["ProductionVariants"]]
        assert counts == [1, 2]
        mixed = time.monotonic()
        assert eventually(lambda: set(load.counted(mixed)) == {2.0, 5.0})
        rollouts.update(name, rollouts.serving(7))
        assert rollouts.settled(name)["EndpointStatus"] == "InService"
    assert load.failed == []
    assert rollouts.answers(name) == {7.0}
    rollouts.delete(name)


def slow(rollouts: Rollouts, seconds: float) -> str:
    """One instance in service that takes its time to answer."""
    return rollouts.started(rollouts.serving(2, 1, seconds=seconds))


def test_requests_in_flight_are_answered_before_the_old_fleet_ends(rollouts: Rollouts) -> None:
    with rollouts.load(name := slow(rollouts, 1), clients=4) as load:
        time.sleep(0.2)
        rollouts.update(name, rollouts.serving(5, 1))
        rollouts.settled(name)
    assert load.failed == []
    assert load.counted()[2.0] >= 4
    assert rollouts.answers(name) == {5.0}
    rollouts.delete(name)


@pytest.mark.parametrize("leaving", ["old", "new"])
def test_a_process_killed_while_it_drains_costs_no_request(
    rollouts: Rollouts, cloud: Place, leaving: str
) -> None:
    """What it had in flight is asked again of the fleet that stays: once there is no answer, once there is a retry."""
    others = servers(cloud)
    name = slow(rollouts, 2)
    old, alarm = servers(cloud) - others, rollouts.alarm(name)
    with rollouts.load(name, clients=4) as load:
        time.sleep(0.2)
        rollouts.update(
            name,
            rollouts.serving(5, 1, seconds=2),
            blue_green("ALL_AT_ONCE", termination=30 if leaving == "old" else 600),
            alarm,
        )
        rollouts.until(name, "Baking")
        if leaving == "new":
            time.sleep(2.2)  # until then the clients wait for the old fleet
            rollouts.ring(alarm)
        assert eventually(
            lambda: "Terminating 1 instance(s)." in json.dumps(rollouts.described(name), default=str)
        )
        kill(old if leaving == "old" else servers(cloud) - others - old, 0)
        rollouts.settled(name)
    assert load.failed == []
    assert rollouts.answers(name, times=1) == {5.0 if leaving == "old" else 2.0}
    rollouts.delete(name)


def test_scaling_starts_and_drains_instances_and_an_update_keeps_their_number(
    rollouts: Rollouts, cloud: Place, endpoint: str
) -> None:
    others = len(servers(cloud)) - 2
    told = listen(rollouts.client, {"source": ["aws.sagemaker"], "detail": {"EndpointName": [endpoint]}})
    with rollouts.load(endpoint) as load:
        rollouts.scale(endpoint, 3)
        (variant,) = rollouts.settled(endpoint)["ProductionVariants"]
        assert (variant["CurrentInstanceCount"], len(servers(cloud)) - others) == (3, 3)
        assert eventually(lambda: told(until="Scaling out desired instance count to 3."))
        rollouts.update(endpoint, rollouts.serving(5), canary(), RetainAllVariantProperties=True)
        rollouts.until(endpoint, "canary capacity of 1")
        pending = rollouts.described(endpoint)["PendingDeploymentSummary"]["ProductionVariants"][0]
        assert pending["DesiredInstanceCount"] == 3
        assert rollouts.settled(endpoint)["ProductionVariants"][0]["CurrentInstanceCount"] == 3
        rollouts.scale(endpoint, 1)
        assert rollouts.settled(endpoint)["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert load.failed == []


def test_scaling_that_fails_keeps_what_runs(rollouts: Rollouts, tmp_path: Path) -> None:
    broken, program = once(tmp_path)
    name = rollouts.started(rollouts.serving(2, 1, program=program))
    broken.touch()
    rollouts.scale(name, 2)
    found = rollouts.settled(name)
    assert "did not pass the ping health check" in found["FailureReason"]
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert rollouts.answers(name) == {2.0}
    rollouts.delete(name)


def test_weights_and_the_target_variant_decide_who_answers(rollouts: Rollouts) -> None:
    variants = [
        {
            "VariantName": name,
            "ModelName": rollouts.model(rollouts.store(factor)),
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "InitialVariantWeight": weight,
        }
        for name, factor, weight in (("a", 2, 1), ("b", 5, 0))
    ]
    config = f"config-{uuid.uuid4().hex[:8]}"
    rollouts.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)
    name = rollouts.started(config)
    assert rollouts.answers(name) == {2.0}
    assert json.loads(rollouts.ask(name, "[1]", TargetVariant="b")["Body"].read()) == {"predictions": [5.0]}
    rollouts.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0},
            {"VariantName": "b", "DesiredWeight": 3},
        ],
    )
    assert [it["CurrentWeight"] for it in rollouts.settled(name)["ProductionVariants"]] == [0, 3]
    assert rollouts.answers(name) == {5.0}
    with pytest.raises(ClientError, match=r"ValidationException.*weights that are all 0"):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 0}]
        )
    assert rollouts.answers(name) == {5.0}
    with pytest.raises(ClientError, match="capacity of one variant can be updated at a time"):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": it, "DesiredInstanceCount": 2} for it in ("a", "b")],
        )
    with pytest.raises(ClientError, match=r'variant name.* "c" is/are not present'):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "c", "DesiredWeight": 1}]
        )
    rollouts.delete(name)


def test_a_deployment_that_aws_refuses_changes_nothing(rollouts: Rollouts, endpoint: str) -> None:
    before = rollouts.described(endpoint)
    new = rollouts.serving(5)
    with pytest.raises(ClientError, match=r"ValidationException.*alarm.*nowhere.* do not exist"):
        rollouts.update(endpoint, new, canary(), "nowhere")
    with pytest.raises(ClientError, match=r"ValidationException.*CanarySize must be at most 50 %"):
        rollouts.update(endpoint, new, blue_green("CANARY", CanarySize=size(2)))
    with pytest.raises(ClientError, match=r"ValidationException.*only one update policy"):
        rollouts.update(endpoint, new, canary() | STAGES["rolling"][1])
    after = rollouts.described(endpoint)
    assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}


@pytest.fixture(scope="module")
def baking(rollouts: Rollouts) -> Iterator[tuple[str, str, str]]:
    """An endpoint in the long bake of its canary, its new configuration, and its alarm, which ends it at last."""
    name = rollouts.started(old := rollouts.serving(2))
    alarm = rollouts.alarm(name)
    rollouts.update(name, new := rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(name, "Baking")
    yield name, new, alarm
    rollouts.ring(alarm)
    assert rollouts.settled(name)["EndpointConfigName"] == old
    rollouts.delete(name)


def test_the_pending_deployment_is_described_as_documented(
    rollouts: Rollouts, baking: tuple[str, str, str]
) -> None:
    name, new, alarm = baking
    found = rollouts.described(name)
    assert (found["EndpointStatus"], found["ProductionVariants"][0]["CurrentInstanceCount"]) == (
        "Updating",
        2,
    )
    assert found["LastDeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"] == [{"AlarmName": alarm}]
    pending = found["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == new != found["EndpointConfigName"]
    (variant,) = pending["ProductionVariants"]
    (status,) = variant.pop("VariantStatus")
    assert status.pop("StartTime") > pending["StartTime"]
    assert status == {
        "Status": "Baking",
        "StatusMessage": "Baking for 3600 seconds (WaitIntervalInSeconds) with traffic enabled on canary "
        "capacity of 1 instance(s).",
    }
    assert variant == {
        "VariantName": "AllTraffic",
        "DeployedImages": [{"SpecifiedImage": "image:1", "ResolvedImage": "image:1"}],
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 2,
        "InstanceType": "ml.m5.large",
    }


def test_it_cannot_be_updated_scaled_or_deleted(rollouts: Rollouts, baking: tuple[str, str, str]) -> None:
    name, new, _ = baking
    refused = f"Cannot update in-progress endpoint .*{name}"
    with pytest.raises(ClientError, match=refused):
        rollouts.update(name, new)
    with pytest.raises(ClientError, match=refused):
        rollouts.scale(name, 3)
    with pytest.raises(ClientError, match=refused):
        rollouts.sagemaker.delete_endpoint(EndpointName=name)
    assert rollouts.status(name).startswith("Baking")


def test_bad_requests_and_missing_data_do_not_roll_back(
    rollouts: Rollouts, baking: tuple[str, str, str]
) -> None:
    name, _, _ = baking
    unknown = rollouts.alarm(name, "missing")
    with rollouts.load(name, "[") as load:
        assert eventually(lambda: rollouts.rings(name, "Invocation4XXErrors"))
        # Requests are data: none of them is an error of the server.
        assert eventually(lambda: rollouts.state(unknown) == "OK")
    assert set(load.failed) == {"ModelError"}
    assert eventually(lambda: rollouts.state(unknown) == "INSUFFICIENT_DATA", seconds=8)
    assert rollouts.status(name).startswith("Baking")


def test_metrics_are_the_variant_s_and_the_fleet_s(rollouts: Rollouts, baking: tuple[str, str, str]) -> None:
    name, new, _ = baking
    old = rollouts.described(name)["EndpointConfigName"]
    for _ in range(20):
        rollouts.ask(name, "[1]")
    fleets = [rollouts.total(name, EndpointConfigName=config) for config in (old, new)]
    assert min(fleets) > 0
    assert rollouts.total(name) == sum(fleets)


def test_each_state_of_a_deployment_is_an_event_as_documented(
    rollouts: Rollouts, client: Callable[[str], Any], endpoint: str
) -> None:
    told = listen(client, {"source": ["aws.sagemaker"], "detail": {"EndpointName": [endpoint]}})
    before = rollouts.described(endpoint)["EndpointConfigName"]
    rollouts.update(endpoint, new := rollouts.serving(5), canary(bake=30, termination=30))
    rollouts.settled(endpoint)
    found = eventually(lambda: told(until="IN_SERVICE"), seconds=10)
    deployment = [
        it["detail"] for it in found if it["detail-type"] == "SageMaker Endpoint Deployment State Change"
    ]
    assert [status(detail) for detail in deployment] == [
        ("Creating", "Launching 2 instance(s)."),
        ("ActivatingTraffic", "Activating traffic on canary capacity of 1 instance(s)."),
        (
            "Baking",
            "Baking for 30 seconds (WaitIntervalInSeconds) with traffic enabled on canary capacity of 1 instance(s).",
        ),
        ("ActivatingTraffic", "Activating traffic on full capacity of 2 instance(s)."),
        (
            "Baking",
            "Baking for 30 seconds (TerminationWaitInSeconds) with traffic enabled on full capacity of 2 instance(s).",
        ),
        None,
    ]
    assert {detail["EndpointStatus"] for detail in deployment} == {"UPDATING"}
    assert {detail["EndpointConfigName"] for detail in deployment} == {before}
    pending = deployment[2]["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], type(pending["StartTime"])) == (new, int)
    (retired,) = deployment[-1]["ProductionVariants"]
    assert retired["VariantStatus"][0]["StatusMessage"] == "Terminating 2 instance(s)."
    states = [it["detail"] for it in found if it["detail-type"] == "SageMaker Endpoint State Change"]
    assert [(it["EndpointStatus"], it["EndpointConfigName"]) for it in states] == [
        ("UPDATING", before),
        ("IN_SERVICE", new),
    ]


def status(detail: Mapping[str, Any]) -> tuple[str, str] | None:
    (variant,) = detail["PendingDeploymentSummary"]["ProductionVariants"]
    for found in variant.get("VariantStatus", []):
        return found["Status"], found["StatusMessage"]
    return None


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
    assert f"Rollback alarm(s) [{alarm}] went off" in reasons(rollouts, after)
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
