"""Serverless endpoints: copies start when asked, up to the limit, and end when idle; what AWS refuses is refused."""

import dataclasses
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud.place import Place
from stacks.serving_rules import Feature, Option, refusal
from tests.local.cloud.test_sagemaker_endpoints import CAPTURE, Hosting, servers
from tests.local.cloud.test_stream import eventually

MOST = 2
CONFIG = {"MemorySizeInMB": 2048, "MaxConcurrency": MOST}


def on_demand(model: str, name: str = "AllTraffic", **config: int) -> dict[str, Any]:
    return {"VariantName": name, "ModelName": model, "ServerlessConfig": {**CONFIG, **config}}


class Serverless(Hosting):
    """Short ways to serverless endpoints."""

    def create(self, *variants: dict[str, Any], **more: Any) -> str:
        """The name of a new endpoint configuration."""
        name = f"config-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=list(variants), **more
        )
        return name

    def ask_once(self, name: str, body: str | bytes = "[1]") -> Any:
        """Without boto3's own retries."""
        runtime = self.client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))  # type: ignore[call-arg]
        return runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="application/json")

    def total(
        self, endpoint: str, metric: str, variant: str = "AllTraffic", statistic: str = "SampleCount"
    ) -> float:
        """Of all values of a metric of a variant, until now."""
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": variant},
            ],
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=7200,
            Statistics=[statistic],
        )["Datapoints"]
        return float(sum(point[statistic] for point in points))


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Serverless:
    return Serverless(client)


@dataclasses.dataclass
class Gated:
    """A serverless endpoint whose model answers [0] only when the gate is open."""

    name: str
    config: str
    gate: Path

    def busy(self) -> bool:
        return Path(f"{self.gate} is closed").exists()


@pytest.fixture
def gated(hosting: Serverless, tmp_path: Path) -> Iterator[Gated]:
    gate = tmp_path / "gate"
    config = hosting.create(on_demand(hosting.model(hosting.store(gate=str(gate)))))  # type: ignore[arg-type]
    found = Gated(hosting.endpoint(config), config, gate)
    assert hosting.settled(found.name)["EndpointStatus"] == "InService"
    yield found
    gate.touch()
    hosting.delete(found.name)


# What runs.


def test_a_copy_starts_when_it_is_asked_answers_the_next_one_too_and_ends_when_idle(
    hosting: Serverless, gated: Gated, cloud: Place
) -> None:
    others = servers(cloud)
    answer = hosting.ask_once(gated.name)
    assert json.loads(answer["Body"].read()) == {"predictions": [2]}
    assert hosting.total(gated.name, "ModelSetupTime") == 1
    (copy,) = servers(cloud) - others
    hosting.ask_once(gated.name)
    assert servers(cloud) - others == {copy}
    assert hosting.total(gated.name, "ModelSetupTime") == 1
    assert eventually(lambda: not servers(cloud) - others, seconds=30)
    hosting.ask_once(gated.name)
    assert hosting.total(gated.name, "ModelSetupTime") == 2


def test_more_requests_at_once_than_the_limit_are_throttled_and_all_others_answered(
    hosting: Serverless, gated: Gated, cloud: Place
) -> None:
    others = servers(cloud)
    with ThreadPoolExecutor(MOST) as pool:
        asked = [pool.submit(hosting.ask_once, gated.name, "[0]") for _ in range(MOST)]
        assert eventually(lambda: len(servers(cloud) - others) == MOST and gated.busy(), seconds=30)
        with pytest.raises(ClientError) as raised:
            hosting.ask_once(gated.name)
        gated.gate.touch()
        assert [json.loads(it.result()["Body"].read()) for it in asked] == [{"predictions": [0]}] * MOST
    response = raised.value.response
    assert response["Error"]["Code"] == "ThrottlingException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert hosting.total(gated.name, "Invocations") == MOST
    hosting.ask_once(gated.name)


def test_a_copy_that_was_killed_is_replaced_by_the_next_request(
    hosting: Serverless, gated: Gated, cloud: Place
) -> None:
    others = servers(cloud)
    hosting.ask_once(gated.name)
    (copy,) = servers(cloud) - others
    os.kill(copy, signal.SIGKILL)
    assert json.loads(hosting.ask_once(gated.name)["Body"].read()) == {"predictions": [2]}


def test_provisioned_copies_are_there_before_anybody_asks_and_stay(hosting: Serverless, cloud: Place) -> None:
    others = servers(cloud)
    name = hosting.endpoint(
        hosting.create(on_demand(hosting.model(hosting.store()), ProvisionedConcurrency=1))
    )
    found = hosting.settled(name)
    kept = servers(cloud) - others
    assert len(kept) == 1
    (variant,) = found["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {**CONFIG, "ProvisionedConcurrency": 1}
    assert "CurrentInstanceCount" not in variant
    hosting.ask_once(name)
    assert servers(cloud) - others == kept
    assert hosting.total(name, "ModelSetupTime") == 0
    hosting.delete(name)
    assert not servers(cloud) - others


def test_it_counts_what_its_page_names_and_nothing_of_instances(hosting: Serverless, gated: Gated) -> None:
    hosting.ask_once(gated.name)
    listed = hosting.client("cloudwatch").list_metrics(
        Namespace="AWS/SageMaker", Dimensions=[{"Name": "EndpointName", "Value": gated.name}]
    )["Metrics"]
    assert {it["MetricName"] for it in listed} == {
        *("Invocations", "Invocation4XXErrors", "Invocation5XXErrors"),
        *("ModelLatency", "OverheadLatency", "ModelSetupTime"),
    }
    assert all(len(it["Dimensions"]) == 2 for it in listed)


def test_a_body_of_more_than_4_mb_is_refused(hosting: Serverless, gated: Gated) -> None:
    with pytest.raises(ClientError) as raised:
        hosting.ask_once(gated.name, b" " * (4 * 1024 * 1024 + 1))
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_model_that_does_not_start_fails_the_endpoint(hosting: Serverless) -> None:
    model = hosting.model(hosting.store(program="raise SystemExit('broken')"))
    name = hosting.endpoint(hosting.create(on_demand(model)))
    found = hosting.settled(name)
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    hosting.delete(name)


# Updates.


def test_an_update_replaces_the_model_at_once_while_requests_are_answered(
    hosting: Serverless, gated: Gated
) -> None:
    failed: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                hosting.ask_once(gated.name)
            except ClientError as error:
                failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    new = hosting.create(on_demand(hosting.model(hosting.store(3))))
    hosting.sagemaker.update_endpoint(EndpointName=gated.name, EndpointConfigName=new)
    assert hosting.settled(gated.name)["EndpointConfigName"] == new
    ended.set()
    thread.join()
    assert failed == []
    assert json.loads(hosting.ask_once(gated.name)["Body"].read()) == {"predictions": [3]}


@pytest.mark.parametrize(
    ("feature", "policy"),
    [
        (
            Feature.BLUE_GREEN,
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
                }
            },
        ),
        (
            Feature.ROLLING,
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
                    "WaitIntervalInSeconds": 0,
                }
            },
        ),
    ],
)
def test_it_has_no_guardrails(
    hosting: Serverless, gated: Gated, feature: Feature, policy: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as raised:
        hosting.sagemaker.update_endpoint(
            EndpointName=gated.name, EndpointConfigName=gated.config, DeploymentConfig=policy
        )
    assert raised.value.response["Error"]["Message"] == refusal(Option.SERVERLESS, feature)


def test_it_may_get_instances_and_does_not_come_back(hosting: Serverless, gated: Gated) -> None:
    instances = hosting.config(hosting.model(hosting.store(5)))
    hosting.sagemaker.update_endpoint(EndpointName=gated.name, EndpointConfigName=instances)
    found = hosting.settled(gated.name)
    assert (found["EndpointConfigName"], found["ProductionVariants"][0]["CurrentInstanceCount"]) == (
        instances,
        1,
    )
    with pytest.raises(ClientError, match="Cannot update the instance-based endpoint"):
        hosting.sagemaker.update_endpoint(EndpointName=gated.name, EndpointConfigName=gated.config)


def test_it_has_no_instances_to_count(hosting: Serverless, gated: Gated) -> None:
    with pytest.raises(ClientError, match="is serverless: it has no instances"):
        hosting.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=gated.name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}],
        )


# What is refused when the configuration is created.


@pytest.fixture(scope="module")
def model(hosting: Serverless) -> str:
    return hosting.model(hosting.store())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"MemorySizeInMB": 1536}, "MemorySizeInMB must be one of 1024, 2048"),
        ({"ProvisionedConcurrency": 3}, "at most the MaxConcurrency of 2"),
    ],
)
def test_sizes_that_aws_does_not_have_are_refused(
    hosting: Serverless, model: str, config: dict[str, int], said: str
) -> None:
    with pytest.raises(ClientError, match=said):
        hosting.create(on_demand(model, **config))


def test_instances_and_serverless_exclude_each_other(hosting: Serverless, model: str) -> None:
    with pytest.raises(ClientError, match="ServerlessConfig and InstanceType exclude each other"):
        hosting.create(on_demand(model) | {"InstanceType": "ml.m5.large"})


def asked_for(feature: Feature, hosting: Serverless, model: str) -> Any:
    """The rest of a request for a serverless endpoint configuration with this feature."""
    instances = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    match feature:
        case Feature.VARIANTS:
            return {"ProductionVariants": [on_demand(model, "a"), on_demand(model, "b")]}
        case Feature.DATA_CAPTURE:
            capture = {**CAPTURE, "DestinationS3Uri": f"s3://{hosting.bucket}/captured"}
            return {"ProductionVariants": [on_demand(model)], "DataCaptureConfig": capture}
        case Feature.SHADOW_VARIANT:
            shadow = {"VariantName": "shadow", "ModelName": model, **instances}
            return {"ProductionVariants": [on_demand(model)], "ShadowProductionVariants": [shadow]}
    more: dict[str, Any] = {"EnableNetworkIsolation": True}
    if feature is Feature.VPC:
        more = {"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}}
    name = f"model-{uuid.uuid4().hex[:8]}"
    hosting.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=hosting.role,
        PrimaryContainer={"Image": "image:1", "ModelDataUrl": hosting.store()},
        **more,
    )
    return {"ProductionVariants": [on_demand(name)]}


@pytest.mark.parametrize(
    "feature",
    [
        *(Feature.VARIANTS, Feature.DATA_CAPTURE, Feature.SHADOW_VARIANT),
        *(Feature.VPC, Feature.NETWORK_ISOLATION),
    ],
)
def test_what_does_not_combine_is_refused_in_the_words_of_the_table(
    hosting: Serverless, model: str, feature: Feature
) -> None:
    with pytest.raises(ClientError) as raised:
        hosting.sagemaker.create_endpoint_config(
            EndpointConfigName="refused", **asked_for(feature, hosting, model)
        )
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert raised.value.response["Error"]["Message"] == refusal(Option.SERVERLESS, feature)
