"""Models and endpoints over the API: real processes answer, and what goes wrong is AWS's own error."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import lifecycle
from local.cloud.place import REGION, Place
from tests.local.cloud.test_stream import eventually
from tests.local.test_registry import ENVIRONMENT, archive
from tests.local.test_server import PROGRAM

PING_SECONDS = 1.0  # of `local.cloud.sagemaker.fleet`
ROLE = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
    },
}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
}


class Hosting:
    """A bucket, a role that may read it and write captures, and short ways to models and endpoints."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.client, self.sagemaker, self.s3 = client, client("sagemaker"), client("s3")
        self.bucket = f"models-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        iam = client("iam")
        role = iam.create_role(RoleName=self.bucket, AssumeRolePolicyDocument=json.dumps(ROLE))["Role"]
        self.role: str = role["Arn"]
        allowed = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{self.bucket}/{prefix}/*"}
                for action, prefix in (("s3:GetObject", "model"), ("s3:PutObject", "captured"))
            ]
            + [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}],
        }
        iam.put_role_policy(RoleName=self.bucket, PolicyName="own", PolicyDocument=json.dumps(allowed))

    def store(self, factor: float = 2, program: str = PROGRAM, **model: float) -> str:
        body = archive({"code/inference.py": program, "factor.json": json.dumps({"factor": factor, **model})})
        key = f"model/{uuid.uuid4().hex}.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def model(self, data: str, role: str | None = None) -> str:
        name = f"model-{uuid.uuid4().hex[:8]}"
        container = {"Image": "image:1", "ModelDataUrl": data, "Environment": ENVIRONMENT}
        self.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=role or self.role, PrimaryContainer=container
        )
        return name

    def config(self, model: str, instances: int = 1, **more: Any) -> str:
        name = f"config-{uuid.uuid4().hex[:8]}"
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": model,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": instances,
        }
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)
        return name

    def endpoint(self, config: str) -> str:
        name = f"endpoint-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        return name

    def settled(self, name: str) -> Any:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.sagemaker.describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] not in {"Creating", "Updating", "RollingBack"}:
                return found
            time.sleep(0.1)
        raise AssertionError(found)

    def delete(self, name: str) -> None:
        self.settled(name)
        self.sagemaker.delete_endpoint(EndpointName=name)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            listed = self.sagemaker.list_endpoints(NameContains=name)["Endpoints"]
            if not listed:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} is still there")

    def ask(self, name: str, body: str | bytes = "[1, 2]", **more: Any) -> Any:
        more = {"ContentType": "application/json", **more}
        return self.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=body, **more)


def root_client(place: Place, service: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(
        service, region_name=REGION, endpoint_url=place.url, verify=str(place.certificate), **keys
    )


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Hosting:
    return Hosting(client)


@pytest.fixture(scope="module")
def served(hosting: Hosting) -> Iterator[str]:
    """An endpoint in service that captures everything; its model multiplies by 2."""
    capture = {**CAPTURE, "DestinationS3Uri": f"s3://{hosting.bucket}/captured"}
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store()), DataCaptureConfig=capture))
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    yield name
    hosting.delete(name)


def servers(cloud: Place) -> set[int]:
    """The process ids of this cloud's model servers."""
    return set(commands(cloud))


def commands(cloud: Place) -> dict[int, str]:
    """The command lines of this cloud's model servers, without their workers; those of both if the cloud is gone."""
    listed = subprocess.run(
        ["ps", "-axwwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    parent = lifecycle.process(cloud)
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return {
        int(pid): command
        for pid, of, command in rows
        if "local/server.py" in command and str(cloud.folder) in command and parent in {None, int(of)}
    }


def test_json_and_csv_are_answered_by_the_model(hosting: Hosting, served: str) -> None:
    answer = hosting.ask(served)
    assert json.loads(answer["Body"].read()) == {"predictions": [2, 4]}
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")
    answer = hosting.ask(served, "1\n3", ContentType="text/csv", Accept="text/csv")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"2.0\n6.0", "text/csv")


def test_what_the_model_refuses_is_a_model_error_with_its_own_status(hosting: Hosting, served: str) -> None:
    with pytest.raises(ClientError) as raised:
        hosting.ask(served, "[")
    response = raised.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert "not JSON" in response["OriginalMessage"]
    assert response["Error"]["Message"].startswith("Received client error (400) from primary with message")
    with pytest.raises(ClientError) as raised:
        hosting.ask(served, '["x"]')
    assert raised.value.response["OriginalStatusCode"] == 500


def test_a_body_above_the_api_s_limit_never_reaches_the_model(hosting: Hosting, served: str) -> None:
    with pytest.raises(ClientError, match="HTTP content length exceeded 6291456 bytes") as raised:
        hosting.ask(served, b"[" + b" " * 6_291_456)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_an_unknown_endpoint_is_the_validation_error_of_the_runtime(hosting: Hosting) -> None:
    with pytest.raises(
        ClientError, match=r"ValidationError.*Endpoint nobody of account 000000000000 not found\."
    ):
        hosting.ask("nobody")


def test_requests_land_in_s3_as_json_lines(hosting: Hosting, served: str) -> None:
    mark = uuid.uuid4().hex
    hosting.ask(served, "1\n2", ContentType="text/csv", CustomAttributes=mark, InferenceId=mark)
    prefix = f"captured/{served}/AllTraffic/"
    deadline = time.monotonic() + 10
    found: list[tuple[str, Any]] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.3)
        for item in hosting.s3.list_objects_v2(Bucket=hosting.bucket, Prefix=prefix).get("Contents", []):
            body = hosting.s3.get_object(Bucket=hosting.bucket, Key=item["Key"])["Body"].read().decode()
            found += [(item["Key"], json.loads(line)) for line in body.splitlines() if mark in line]
    ((key, record),) = found
    assert key.removeprefix(prefix).startswith(time.strftime("%Y/%m/%d/", time.gmtime()))
    assert key.endswith(".jsonl")
    assert record["captureData"]["endpointInput"] == {
        "observedContentType": "text/csv",
        "mode": "INPUT",
        "data": "1\n2",
        "encoding": "CSV",
    }
    assert record["captureData"]["endpointOutput"]["encoding"] == "JSON"
    assert record["eventMetadata"]["customAttributes"] == [mark]
    assert record["eventMetadata"]["inferenceId"] == mark
    assert record["eventVersion"] == "0"


def test_invocations_are_metrics_with_the_documented_names(hosting: Hosting, served: str) -> None:
    hosting.ask(served)
    with pytest.raises(ClientError):
        hosting.ask(served, "[")
    dimensions = [{"Name": "EndpointName", "Value": served}, {"Name": "VariantName", "Value": "AllTraffic"}]

    def total(name: str) -> Any:
        found = hosting.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            Dimensions=dimensions,
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in found)

    assert total("Invocations") == total("InvocationsPerInstance") >= 2
    assert total("Invocation4XXErrors") >= 1
    assert total("ModelLatency") > 100  # microseconds
    assert total("OverheadLatency") > 0


def test_a_described_endpoint_says_what_runs(hosting: Hosting, served: str) -> None:
    found = hosting.sagemaker.describe_endpoint(EndpointName=served)
    (variant,) = found["ProductionVariants"]
    assert (variant["VariantName"], variant["CurrentInstanceCount"]) == ("AllTraffic", 1)
    assert variant["CurrentWeight"] == 1.0
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "image:1"
    assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"


def test_the_aws_cli_invokes_an_endpoint(served: str, cloud: Place, tmp_path: Path) -> None:
    flags = {"endpoint-name": served, "content-type": "text/csv", "accept": "text/csv", "body": "3"}
    given = [text for name, value in flags.items() for text in (f"--{name}", value)]
    command = [str(lifecycle.PYTHON.with_name("aws")), "sagemaker-runtime", "invoke-endpoint", *given]
    told = subprocess.run(
        [*command, str(tmp_path / "answer")],
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["InvokedProductionVariant"] == "AllTraffic"
    assert (tmp_path / "answer").read_text() == "6.0"


SDK = """
import json, sys
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, ModelPackage
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

package, role, name = sys.argv[1:]
version = ModelPackage.get(model_package_name=package)
container = ContainerDefinition(model_package_name=version.model_package_arn)
model = Model.create(model_name=name, primary_container=container, execution_role_arn=role)
variant = ProductionVariant(
    variant_name="only", model_name=name, initial_instance_count=1, instance_type="ml.m5.large"
)
config = EndpointConfig.create(endpoint_config_name=name, production_variants=[variant])
Endpoint.create(endpoint_name=name, endpoint_config_name=name)
endpoint = Endpoint.get(endpoint_name=name)
endpoint.wait_for_status("InService", poll=1, timeout=30)
answer = endpoint.invoke(body="[1, 2]", content_type="application/json", accept="application/json")
told = [version.model_approval_status, endpoint.endpoint_status, answer.body.read().decode()]
endpoint.delete()
endpoint.wait_for_delete(poll=1, timeout=30)
config.delete()
model.delete()
print("\\n" + json.dumps(told))  # the wait ends without a new line
"""


@pytest.mark.deep  # importing the SDK takes ten seconds
def test_the_sdk_s_own_classes_put_a_registered_version_in_service_and_invoke_it(
    hosting: Hosting, cloud: Place
) -> None:
    name = f"sdk-{uuid.uuid4().hex[:8]}"
    hosting.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    container = {"Image": "image:1", "ModelDataUrl": hosting.store(), "Environment": ENVIRONMENT}
    specification = {"Containers": [container], "SupportedContentTypes": ["application/json"]}
    package = hosting.sagemaker.create_model_package(
        ModelPackageGroupName=name,
        ModelApprovalStatus="Approved",
        InferenceSpecification={**specification, "SupportedResponseMIMETypes": ["application/json"]},
    )["ModelPackageArn"]
    told = subprocess.run(
        [sys.executable, "-c", SDK, package, hosting.role, name],
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    approval, status, body = json.loads(told.stdout.splitlines()[-1])
    assert (approval, status, json.loads(body)) == ("Approved", "InService", {"predictions": [2, 4]})
    assert hosting.sagemaker.list_endpoints(NameContains=name)["Endpoints"] == []
    assert hosting.sagemaker.list_models(NameContains=name)["Models"] == []


def test_models_and_configurations_are_listed_newest_first_unless_asked_otherwise(hosting: Hosting) -> None:
    models = [hosting.model(hosting.store()) for _ in range(2)]
    configs = [hosting.config(models[0]) for _ in range(2)]
    listed = [it["ModelName"] for it in hosting.sagemaker.list_models()["Models"]]
    assert [name for name in listed if name in models] == models[::-1]
    listed = [
        it["EndpointConfigName"]
        for it in hosting.sagemaker.list_endpoint_configs(SortOrder="Ascending")["EndpointConfigs"]
    ]
    assert [name for name in listed if name in configs] == configs


def test_an_update_replaces_the_fleet_and_keeps_answering(hosting: Hosting) -> None:
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store(2))))
    hosting.settled(name)
    config = hosting.config(hosting.model(hosting.store(5)))
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    seen = set()
    while hosting.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating":
        seen.add(hosting.ask(name, "[1]")["Body"].read())
    assert seen <= {b'{"predictions": [2.0]}', b'{"predictions": [5.0]}'}
    assert hosting.ask(name, "[1]")["Body"].read() == b'{"predictions": [5.0]}'
    assert hosting.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == config
    hosting.delete(name)


def test_a_new_model_that_does_not_load_leaves_the_old_one_in_service(hosting: Hosting) -> None:
    config = hosting.config(hosting.model(hosting.store(2)))
    name = hosting.endpoint(config)
    hosting.settled(name)
    broken = hosting.config(hosting.model(hosting.store(program="raise ValueError('no')")))
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
    found = hosting.settled(name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", config)
    assert "did not pass the ping health check" in found["FailureReason"]
    assert hosting.ask(name, "[1]")["Body"].read() == b'{"predictions": [2.0]}'
    hosting.delete(name)


def test_an_update_that_is_refused_leaves_the_endpoint_in_service(hosting: Hosting) -> None:
    old = hosting.config(hosting.model(hosting.store(2)))
    name = hosting.endpoint(old)
    hosting.settled(name)
    hosting.sagemaker.delete_endpoint_config(EndpointConfigName=old)
    new = hosting.config(hosting.model(hosting.store(5)))
    with pytest.raises(ClientError, match=f"Could not find endpoint configuration .*{old}"):
        hosting.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=new, RetainAllVariantProperties=True
        )
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    hosting.delete(name)


def test_a_model_whose_archive_is_missing_cannot_be_created(hosting: Hosting) -> None:
    with pytest.raises(ClientError, match=r"ValidationException.*Could not find model data at s3://"):
        hosting.model(f"s3://{hosting.bucket}/model/none.tar.gz")


def test_a_role_that_may_not_read_the_archive_is_named(hosting: Hosting) -> None:
    hosting.s3.put_object(Bucket=hosting.bucket, Key="elsewhere/model.tar.gz", Body=b"x")
    with pytest.raises(ClientError, match=f"Could not access model data at .*{hosting.role}"):
        hosting.model(f"s3://{hosting.bucket}/elsewhere/model.tar.gz")


def test_an_archive_that_went_meanwhile_fails_the_endpoint_with_aws_s_reason(hosting: Hosting) -> None:
    data = hosting.store()
    config = hosting.config(hosting.model(data))
    hosting.s3.delete_object(Bucket=hosting.bucket, Key=data.split("/", 3)[3])
    found = hosting.settled(name := hosting.endpoint(config))
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"].startswith("Failed to download model data for container")
    hosting.delete(name)


def test_an_unknown_instance_type_is_refused_when_the_configuration_is_created(hosting: Hosting) -> None:
    model = hosting.model(hosting.store())
    variant = {"VariantName": "a", "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.no"}
    with pytest.raises(ClientError) as refused:
        hosting.sagemaker.create_endpoint_config(EndpointConfigName="bad", ProductionVariants=[variant])
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert refused.value.response["Error"]["Message"].startswith(
        "1 validation error detected: Value 'ml.no' at 'productionVariants.1.member.instanceType' "
        "failed to satisfy constraint: Member must satisfy enum value set: [ml."
    )


@pytest.mark.parametrize(
    ("names", "instances", "reason"),
    [
        (("main", "main"), 1, "must be unique"),
        (("main",), 11, "more than 10 instances are unsupported in the embedded cloud"),
    ],
)
def test_variants_that_no_endpoint_could_have_are_refused(
    hosting: Hosting, names: tuple[str, ...], instances: int, reason: str
) -> None:
    model = hosting.model(hosting.store())
    variants = [
        {
            "VariantName": name,
            "ModelName": model,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": instances,
        }
        for name in names
    ]
    with pytest.raises(ClientError, match=f"ValidationException.*{reason}"):
        hosting.sagemaker.create_endpoint_config(EndpointConfigName="bad", ProductionVariants=variants)


def test_a_caller_without_permission_is_refused(hosting: Hosting, served: str, cloud: Place) -> None:
    sts = hosting.client("sts").assume_role(RoleArn=hosting.role, RoleSessionName="test")["Credentials"]
    runtime = boto3.client(
        "sagemaker-runtime",
        region_name=REGION,
        endpoint_url=cloud.url,
        verify=str(cloud.certificate),
        aws_access_key_id=sts["AccessKeyId"],
        aws_secret_access_key=sts["SecretAccessKey"],
        aws_session_token=sts["SessionToken"],
    )
    with pytest.raises(
        ClientError, match=r"AccessDeniedException.*sagemaker:InvokeEndpoint.*endpoint"
    ) as raised:
        runtime.invoke_endpoint(EndpointName=served, Body=b"[]", ContentType="application/json")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_containers_output_is_in_cloudwatch_logs(hosting: Hosting) -> None:
    program = f"import sys\nprint('hello from the model', file=sys.stderr)\n{PROGRAM}"
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store(program=program))))
    hosting.settled(name)
    hosting.delete(name)
    found = hosting.client("logs").filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
    assert "hello from the model" in [event["message"] for event in found["events"]]


def test_a_deleted_endpoint_leaves_no_process(hosting: Hosting, cloud: Place) -> None:
    before = servers(cloud)
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store())))
    hosting.settled(name)
    assert len(servers(cloud) - before) == 1
    hosting.delete(name)
    assert servers(cloud) == before
    with pytest.raises(ClientError, match="not found"):
        hosting.ask(name)


def test_a_killed_model_server_is_an_error_until_another_one_runs(hosting: Hosting, cloud: Place) -> None:
    before = servers(cloud)
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store())))
    hosting.settled(name)
    (started,) = servers(cloud) - before
    runtime = cloud.client("sagemaker-runtime", config=Config(retries={"max_attempts": 0}))
    os.kill(started, signal.SIGKILL)
    # 503 if the endpoint has noticed already.
    with pytest.raises(ClientError, match=r"ModelError|ServiceUnavailable"):
        runtime.invoke_endpoint(EndpointName=name, Body="[1, 2]", ContentType="application/json")
    assert eventually(lambda: len(servers(cloud) - before - {started}) == 1)
    assert eventually(lambda: answered(hosting, name)) == {"predictions": [2, 4]}
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    hosting.delete(name)
    assert servers(cloud) == before


def test_what_cannot_start_again_gets_no_traffic(hosting: Hosting, cloud: Place, tmp_path: Path) -> None:
    program = f"import pathlib\nassert not pathlib.Path({str(tmp_path / 'broken')!r}).exists()\n{PROGRAM}"
    before = servers(cloud)
    model = hosting.model(hosting.store(program=program))
    name = hosting.endpoint(hosting.config(model, instances=2))
    hosting.settled(name)
    (tmp_path / "broken").touch()
    os.kill(min(servers(cloud) - before), signal.SIGKILL)
    time.sleep(2 * PING_SECONDS)
    assert all(answered(hosting, name) for _ in range(10))
    (tmp_path / "broken").unlink()
    assert eventually(lambda: len(servers(cloud) - before) == 2)
    hosting.delete(name)


def answered(hosting: Hosting, name: str) -> Any:
    """The model's answer, or None."""
    with contextlib.suppress(ClientError):
        return json.loads(hosting.ask(name)["Body"].read())
    return None


def test_no_model_server_survives_the_cloud(tmp_path: Path) -> None:
    place = Place.on_free_port(tmp_path)
    with lifecycle.running(place):
        hosting = Hosting(functools.partial(root_client, place))
        name = hosting.endpoint(hosting.config(hosting.model(hosting.store())))
        hosting.settled(name)
        assert len(servers(place)) == 1
    assert not servers(place)
