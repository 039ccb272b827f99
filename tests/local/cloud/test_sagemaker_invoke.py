"""One invocation: which variant answers it, what reaches the container, what is counted; and who may set it up."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.test_sagemaker_endpoints import Hosting

# A container of its own: it answers with the custom attributes that it was sent.
ECHO = """
import http.server

NAME = "X-Amzn-SageMaker-Custom-Attributes"

class Container(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header(NAME, f"seen {self.headers.get(NAME)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Container)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Hosting:
    return Hosting(client)


@pytest.fixture(scope="module")
def model(hosting: Hosting) -> str:
    """It multiplies by 2."""
    return hosting.model(hosting.store())


def variant(name: str, model: str, weight: float, instances: int = 1) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": instances,
        "InitialVariantWeight": weight,
    }


@pytest.fixture(scope="module")
def served(hosting: Hosting, model: str) -> Iterator[str]:
    """An endpoint: its variant "all" has all the traffic and two instances; "echo" has none of it."""
    name = f"config-{uuid.uuid4().hex[:8]}"
    variants = [variant("all", model, 1, 2), variant("echo", hosting.model(hosting.store(program=ECHO)), 0)]
    hosting.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    endpoint = hosting.endpoint(name)
    assert hosting.settled(endpoint)["EndpointStatus"] == "InService"
    yield endpoint
    hosting.delete(endpoint)


def limited(client: Callable[[str], Any], cloud: Place, *actions: str, **more: Any) -> Any:
    """SageMaker's client of somebody who may do only this, on everything."""
    iam, name = client("iam"), f"user-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return cloud.client("sagemaker", (key["AccessKeyId"], key["SecretAccessKey"], None))


# Which variant answers.


def test_a_variant_without_traffic_answers_who_asks_for_it(hosting: Hosting, served: str) -> None:
    assert hosting.ask(served, TargetVariant="echo")["InvokedProductionVariant"] == "echo"
    assert {hosting.ask(served)["InvokedProductionVariant"] for _ in range(5)} == {"all"}


def test_variants_of_which_none_has_traffic_are_refused(hosting: Hosting, model: str) -> None:
    variants = [variant("a", model, 0), variant("b", model, 0)]
    with pytest.raises(ClientError, match=r"ValidationException.*weights that are all 0"):
        hosting.sagemaker.create_endpoint_config(EndpointConfigName="none", ProductionVariants=variants)


# Custom attributes.


@pytest.mark.parametrize("given", ["trace=1", "x" * 1024], ids=len)
def test_custom_attributes_reach_the_container_and_the_containers_the_client(
    hosting: Hosting, served: str, given: str
) -> None:
    answer = hosting.ask(served, TargetVariant="echo", CustomAttributes=given)
    assert answer["CustomAttributes"] == f"seen {given}"


@pytest.mark.parametrize(
    ("given", "constraint"),
    [
        ("x" * 1025, "Member must have length less than or equal to 1024"),
        ("é", r"Member must satisfy regular expression pattern: \p{ASCII}*"),
    ],
    ids=["long", "not ASCII"],
)
def test_custom_attributes_that_the_api_refuses_reach_nobody(
    hosting: Hosting, served: str, given: str, constraint: str
) -> None:
    with pytest.raises(ClientError) as raised:
        hosting.ask(served, CustomAttributes=given)
    error = raised.value.response["Error"]
    assert error["Code"] == "ValidationError"
    assert error["Message"].endswith(
        f"Value at 'customAttributes' failed to satisfy constraint: {constraint}"
    )


# What is counted.


def counted(hosting: Hosting, endpoint: str) -> dict[str, float]:
    """The sums of the counting metrics of the variant that has the traffic, until now."""
    cloudwatch, now = hosting.client("cloudwatch"), time.time()
    given = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "all"}]
    sums = {}
    for name in (
        *("Invocations", "InvocationsPerInstance"),
        *("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors"),
    ):
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            Dimensions=given,
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]
        sums[name] = sum(point["Sum"] for point in found)
    return sums


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ("[1]", {}),
        ("[", {"Invocation4XXErrors": 1, "InvocationModelErrors": 1}),
        ('["x"]', {"Invocation5XXErrors": 1, "InvocationModelErrors": 1}),
    ],
    ids=["answered", "refused", "failed"],
)
def test_an_invocation_counts_as_what_it_was_and_once_for_all_instances(
    hosting: Hosting, served: str, body: str, errors: dict[str, float]
) -> None:
    before = counted(hosting, served)
    with contextlib.suppress(ClientError):
        hosting.ask(served, body)
    after = counted(hosting, served)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown == {"Invocations": 1, "InvocationsPerInstance": 0.5, **errors}


# What nobody here needs.


def test_another_operation_of_the_runtime_says_that_it_is_unsupported(hosting: Hosting) -> None:
    runtime = hosting.client("sagemaker-runtime")
    with pytest.raises(ClientError) as raised:
        runtime.invoke_endpoint_with_response_stream(EndpointName="any", Body=b"[1]")
    response, named = raised.value.response, "InvokeEndpointWithResponseStream"
    assert response["Error"]["Code"] == "UnsupportedOperation"
    assert response["Error"]["Message"] == f"{named} is unsupported in the embedded cloud."
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 501


# Who may set it up.


def test_who_may_not_pass_the_role_creates_no_model(hosting: Hosting, cloud: Place) -> None:
    container = {"Image": "image:1", "ModelDataUrl": hosting.store()}
    sagemaker = limited(hosting.client, cloud, "sagemaker:CreateModel")
    with pytest.raises(ClientError, match=rf"AccessDenied.*iam:PassRole.*{hosting.role}"):
        sagemaker.create_model(ModelName="refused", ExecutionRoleArn=hosting.role, PrimaryContainer=container)


@pytest.mark.parametrize(
    ("allowed", "lacking"),
    [("kms:CreateGrant", "kms:DescribeKey"), ("kms:DescribeKey", "kms:CreateGrant")],
)
def test_who_may_not_use_the_volumes_key_creates_no_endpoint(
    hosting: Hosting, cloud: Place, model: str, allowed: str, lacking: str
) -> None:
    key = hosting.client("kms").create_key()["KeyMetadata"]["Arn"]
    config = hosting.config(model, KmsKeyId=key)
    sagemaker = limited(hosting.client, cloud, "sagemaker:CreateEndpoint", allowed)
    with pytest.raises(ClientError, match=f"AccessDenied.*{lacking}.*{key}"):
        sagemaker.create_endpoint(EndpointName="refused", EndpointConfigName=config)


def test_an_update_that_retains_what_runs_keeps_its_number_of_instances(hosting: Hosting, model: str) -> None:
    name = hosting.endpoint(hosting.config(model, instances=1))
    hosting.settled(name)
    more = hosting.config(model, instances=2)
    hosting.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=more, RetainAllVariantProperties=True
    )
    (found,) = hosting.settled(name)["ProductionVariants"]
    hosting.delete(name)
    assert (found["CurrentInstanceCount"], found["DesiredInstanceCount"]) == (1, 1)
