"""A shadow variant: asked what the production variant was asked, captured and measured, and never heard by the caller."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from stacks.option_config import CHALLENGER, CHAMPION
from tests.local.cloud.test_sagemaker_endpoints import CAPTURE, Hosting, servers
from tests.local.cloud.test_sagemaker_invoke import variant
from tests.local.cloud.test_stream import eventually
from tests.local.test_server import PROGRAM
from tools import compare
from tools.comparison import Settings

# It decides for class 1 from `factor` on.
CLASSIFIER = """
import json

def model_fn(directory):
    with open(directory + "/factor.json") as file:
        return json.load(file)["factor"]

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, threshold):
    return [{"score": min(1.0, x), "label": int(x >= threshold)} for x in data]

def output_fn(predictions, accept):
    return json.dumps({"predictions": predictions}), "application/json"
"""
WAITING = 64  # of `local.cloud.sagemaker.shadow`


class Shadowed(Hosting):
    """Short ways to endpoints with a shadow."""

    def pair(self, production: str, shadow: str, weight: float = 100, **more: Any) -> str:
        """A new endpoint configuration of two models, the shadow of this weight beside 100."""
        name = f"config-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[variant(CHAMPION, production, 100)],
            ShadowProductionVariants=[variant(CHALLENGER, shadow, weight)],
            DataCaptureConfig={**CAPTURE, "DestinationS3Uri": f"s3://{self.bucket}/captured"},
            **more,
        )
        return name

    def serve(self, *config: Any, **more: Any) -> str:
        """An endpoint in service with such a configuration."""
        name = self.endpoint(self.pair(*config, **more))
        found = self.settled(name)
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        return name

    def count(self, endpoint: str, metric: str, of: str = CHALLENGER) -> float:
        """The sum of a counting metric of a variant, until now."""
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": of}],
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))

    def mirrored(self, endpoint: str, requests: int, metric: str = "Invocations") -> bool:
        return eventually(lambda: self.count(endpoint, metric) == requests, seconds=20)

    def captured(self, endpoint: str, of: str) -> list[Any]:
        """What was captured of a variant."""
        prefix = f"captured/{endpoint}/{of}/"
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=it["Key"])["Body"].read() for it in listed]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def logged(self, endpoint: str) -> list[str]:
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        events = self.client("logs").filter_log_events(logGroupName=group)["events"]
        return [event["message"] for event in events]


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Shadowed:
    return Shadowed(client)


@pytest.fixture(scope="module")
def double(hosting: Shadowed) -> str:
    return hosting.model(hosting.store(2))


@pytest.fixture(scope="module")
def triple(hosting: Shadowed) -> str:
    return hosting.model(hosting.store(3))


@pytest.fixture
def served(hosting: Shadowed, double: str, triple: str) -> Iterator[str]:
    """An endpoint that mirrors everything."""
    name = hosting.serve(double, triple)
    yield name
    if hosting.sagemaker.list_endpoints(NameContains=name)["Endpoints"]:
        hosting.delete(name)


def answer(hosting: Shadowed, endpoint: str, body: str = "[1]", **more: Any) -> Any:
    return json.loads(hosting.ask(endpoint, body, **more)["Body"].read())


def test_it_is_asked_captured_and_measured_and_the_caller_hears_the_production_variant_only(
    hosting: Shadowed, served: str
) -> None:
    for number in range(5):
        found = hosting.ask(served, f"[{number}]", InferenceId=f"id-{number}")
        assert json.loads(found["Body"].read()) == {"predictions": [2 * number]}
        assert found["InvokedProductionVariant"] == CHAMPION
    assert hosting.mirrored(served, 5)
    assert hosting.count(served, "ModelLatency") > 0
    assert hosting.count(served, "Invocations", CHAMPION) == 5
    hosting.delete(served)  # a fleet that ends writes what it has captured
    for name, factor in ((CHAMPION, 2), (CHALLENGER, 3)):
        found = {
            it["eventMetadata"]["inferenceId"]: (
                it["captureData"]["endpointInput"]["data"],
                json.loads(it["captureData"]["endpointOutput"]["data"]),
            )
            for it in hosting.captured(served, name)
        }
        assert found == {f"id-{n}": (f"[{n}]", {"predictions": [factor * n]}) for n in range(5)}


def test_nobody_can_ask_it(hosting: Shadowed, served: str) -> None:
    with pytest.raises(ClientError, match=f"Variant {CHALLENGER} not found"):
        hosting.ask(served, TargetVariant=CHALLENGER)


def test_describe_endpoint_shows_it_apart(hosting: Shadowed, served: str) -> None:
    found = hosting.sagemaker.describe_endpoint(EndpointName=served)
    assert [it["VariantName"] for it in found["ProductionVariants"]] == [CHAMPION]
    (shadow,) = found["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentWeight"]) == (CHALLENGER, 100)
    assert shadow["CurrentInstanceCount"] == 1


def test_a_part_of_the_requests_is_mirrored_and_the_part_can_be_changed(
    hosting: Shadowed, double: str, triple: str
) -> None:
    name = hosting.serve(double, triple, 0)
    for _ in range(5):
        answer(hosting, name)
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": CHALLENGER, "DesiredWeight": 50}]
    )
    assert hosting.settled(name)["ShadowProductionVariants"][0]["CurrentWeight"] == 50
    for _ in range(100):
        answer(hosting, name)
    # With one half, fewer than 20 or more than 80 of 100 come once in a thousand million runs.
    assert eventually(lambda: 20 <= hosting.count(name, "Invocations") <= 80, seconds=20)
    hosting.delete(name)


def test_what_production_refuses_is_mirrored_too_and_counted_as_the_shadow_s_own(
    hosting: Shadowed, served: str
) -> None:
    with pytest.raises(ClientError):
        hosting.ask(served, "[")
    assert hosting.mirrored(served, 1, "Invocation4XXErrors")


def test_a_shadow_that_fails_fails_nobody(hosting: Shadowed, double: str) -> None:
    broken = hosting.model(hosting.store(program=PROGRAM.replace("data == [-1]", "data == [1]")))
    name = hosting.serve(double, broken)
    for _ in range(5):
        assert answer(hosting, name) == {"predictions": [2]}
    assert hosting.mirrored(name, 5, "Invocation5XXErrors")
    assert hosting.count(name, "Invocation5XXErrors", CHAMPION) == 0
    hosting.delete(name)


@pytest.mark.deep
def test_a_shadow_that_does_not_answer_keeps_nobody_waiting_and_what_it_misses_is_counted(
    hosting: Shadowed, double: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    name = hosting.serve(double, hosting.model(hosting.store(gate=str(gate))))  # type: ignore[arg-type]
    requests = WAITING + 50
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: answer(hosting, name, "[0]"), range(requests)))
    assert (
        answers == [{"predictions": [0]}] * requests
    )  # all are answered, and the shadow has not answered one
    assert hosting.count(name, "Invocations") == 0
    gate.touch()
    assert eventually(lambda: hosting.count(name, "Invocations") >= WAITING, seconds=20)
    hosting.delete(name)
    dropped = requests - hosting.count(name, "Invocations")
    assert dropped > 0
    said = [text for text in hosting.logged(name) if "dropped" in text]
    assert said[-1].startswith(f"{dropped:g} requests were dropped so far")


def test_a_shadow_that_does_not_start_fails_the_endpoint(
    hosting: Shadowed, double: str, cloud: Place
) -> None:
    others = servers(cloud)
    name = hosting.endpoint(
        hosting.pair(double, hosting.model(hosting.store(program="raise SystemExit('broken')")))
    )
    found = hosting.settled(name)
    assert found["EndpointStatus"] == "Failed"
    assert CHALLENGER in found["FailureReason"]
    hosting.delete(name)
    assert eventually(lambda: servers(cloud) == others, seconds=20)


def test_a_canary_brings_its_own_shadow_and_takes_the_old_one_away(
    hosting: Shadowed, double: str, triple: str, cloud: Place
) -> None:
    others = servers(cloud)
    name = hosting.serve(double, triple)
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": CHAMPION, "DesiredInstanceCount": 2}]
    )
    hosting.settled(name)
    five, seven = (hosting.model(hosting.store(factor)) for factor in (5, 7))
    new = hosting.pair(five, seven)
    hosting.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=new,
        RetainAllVariantProperties=True,
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 120,
                }
            }
        },
    )

    def pending() -> Any:
        return hosting.sagemaker.describe_endpoint(EndpointName=name).get("PendingDeploymentSummary", {})

    assert eventually(
        lambda: "VariantStatus" not in pending().get("ShadowProductionVariants", [{"VariantStatus": 1}])[0],
        seconds=30,
    )
    (shadow,) = pending()["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentInstanceCount"], shadow["DesiredInstanceCount"]) == (
        CHALLENGER,
        1,
        1,
    )
    seen = set()
    while hosting.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating":
        seen.add(answer(hosting, name)["predictions"][0])
    assert seen == {2, 5}
    found = hosting.settled(name)
    assert found["EndpointConfigName"] == new
    assert found["ShadowProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert len(servers(cloud) - others) == 3
    hosting.delete(name)
    assert {
        json.loads(it["captureData"]["endpointOutput"]["data"])["predictions"][0]
        for it in hosting.captured(name, CHALLENGER)
    } == {3, 7}
    assert not servers(cloud) - others


def test_an_update_whose_shadow_does_not_start_is_taken_back(
    hosting: Shadowed, served: str, double: str, cloud: Place
) -> None:
    others = servers(cloud)
    before = hosting.sagemaker.describe_endpoint(EndpointName=served)["EndpointConfigName"]
    broken = hosting.model(hosting.store(program="raise SystemExit('broken')"))
    hosting.sagemaker.update_endpoint(EndpointName=served, EndpointConfigName=hosting.pair(double, broken))
    found = hosting.settled(served)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", before)
    assert CHALLENGER in found["FailureReason"]
    assert servers(cloud) == others
    assert answer(hosting, served) == {"predictions": [2]}
    assert hosting.mirrored(served, 1)


def test_an_update_may_add_a_shadow_and_end_it(
    hosting: Shadowed, double: str, triple: str, cloud: Place
) -> None:
    others = servers(cloud)
    name = hosting.endpoint(hosting.config(double))
    hosting.settled(name)
    for config, shadows in ((hosting.pair(double, triple), 1), (hosting.config(double), 0)):
        hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
        found = hosting.settled(name)
        assert found["EndpointConfigName"] == config
        assert len(found.get("ShadowProductionVariants", [])) == shadows
        assert len(servers(cloud) - others) == 1 + shadows
    hosting.delete(name)


# What is refused.


def test_two_shadows_or_two_production_variants_beside_one_are_refused(
    hosting: Shadowed, double: str
) -> None:
    one, two, three = (variant(name, double, 1) for name in ("a", "b", "c"))
    for production, shadows in (([one, two], [three]), ([one], [two, three])):
        with pytest.raises(
            ClientError, match="one variant for ProductionVariants and one variant for Shadow"
        ):
            hosting.sagemaker.create_endpoint_config(
                EndpointConfigName="refused", ProductionVariants=production, ShadowProductionVariants=shadows
            )


def test_a_shadow_has_another_name_than_its_production_variant(hosting: Shadowed, double: str) -> None:
    both = [variant("a", double, 1)]
    with pytest.raises(ClientError, match="must be unique"):
        hosting.sagemaker.create_endpoint_config(
            EndpointConfigName="refused", ProductionVariants=both, ShadowProductionVariants=both
        )


# The report.


def test_its_captures_are_compared_in_pairs_by_the_tool(hosting: Shadowed) -> None:
    champion, challenger = (hosting.model(hosting.store(it, program=CLASSIFIER)) for it in (0.5, 0.7))
    name = hosting.serve(champion, challenger)
    truth = {}
    for number in range(20):
        score = number / 20
        answer(hosting, name, f"[{score}]", InferenceId=f"flight-{number}")
        truth[f"flight-{number}"] = int(score >= 0.7)
    assert hosting.mirrored(name, 20)
    assert eventually(
        lambda: all(len(hosting.captured(name, it)) == 20 for it in (CHAMPION, CHALLENGER)), seconds=20
    )
    settings = Settings("SHADOW", minimum_effect=0.3, confidence=0.95, power=0.8)
    found = compare.report(hosting.client, name, truth, settings)
    assert {key: arm["errors"] for key, arm in found["arms"].items()} == {CHAMPION: 4, CHALLENGER: 0}
    assert found["agreement"]["share"] == 0.8
    assert found["arms"][CHALLENGER]["service"]["invocations"] == 20
    hosting.delete(name)
