"""A registered package becomes a model directory behind an endpoint, or is refused with a reason."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local import endpoint, registry
from pipeline import schema as schemas
from tests.local.test_server import PROGRAM

GROUP = "flights"
ENVIRONMENT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
FILES = {"code/inference.py": PROGRAM, "factor.json": '{"factor": 3}'}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="artifacts")
        sagemaker = boto3.client("sagemaker", region_name="us-east-1")
        sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)
        yield s3, sagemaker


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def register(
    clients: tuple[Any, Any], body: bytes, *, environment: dict[str, str] = ENVIRONMENT, containers: int = 1
) -> str:
    s3, sagemaker = clients
    s3.put_object(Bucket="artifacts", Key="job/model.tar.gz", Body=body)
    container = {
        "Image": "image:3.2-0",
        "ModelDataUrl": "s3://artifacts/job/model.tar.gz",
        "Environment": environment,
    }
    arn: str = sagemaker.create_model_package(
        ModelPackageGroupName=GROUP,
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container] * containers,
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]
    return arn


def test_a_registered_package_is_served_as_its_archive_says(clients, tmp_path: Path) -> None:
    s3, sagemaker = clients
    arn = register(clients, archive(FILES))
    assert registry.latest(sagemaker, GROUP) == arn
    package = registry.describe(sagemaker, arn)
    assert (package.version, package.approval) == (1, "PendingManualApproval")
    registry.download(s3, package, tmp_path)
    with endpoint.start(tmp_path, environment=package.environment) as served:
        answer = served.invoke(b"[1, 2]", content_type="application/json", accept="application/json")
        assert json.loads(answer) == {"predictions": [3, 6]}
        with pytest.raises(endpoint.EndpointError, match=r"400.*not JSON"):
            served.invoke(b"[", content_type="application/json", accept="application/json")
        port = int(served.url.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        endpoint.Endpoint(port).ping()


def test_an_endpoint_whose_model_cannot_predict_does_not_start(clients, tmp_path: Path) -> None:
    s3, sagemaker = clients
    package = registry.describe(
        sagemaker, register(clients, archive({**FILES, "factor.json": '{"factor": null}'}))
    )
    registry.download(s3, package, tmp_path)
    probe = tmp_path / "probe.json"
    probe.write_text("[1]")
    with (
        pytest.raises(endpoint.EndpointError, match=r"503.*TypeError"),
        endpoint.start(tmp_path, environment=package.environment, probe=probe),
    ):
        pytest.fail("it started")


def test_an_endpoint_whose_program_is_missing_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(endpoint.EndpointError, match=r"code/inference\.py: no such file"),
        endpoint.start(tmp_path, environment=ENVIRONMENT),
    ):
        pytest.fail("it started")


def test_a_group_without_a_version_is_an_error(clients) -> None:
    with pytest.raises(registry.PackageError, match="no model package is registered"):
        registry.latest(clients[1], GROUP)


def test_a_package_whose_program_aws_would_ignore_is_refused(clients) -> None:
    arn = register(clients, b"", environment={"SAGEMAKER_PROGRAM": "inference.py"})
    with pytest.raises(registry.PackageError, match="lacks SAGEMAKER_SUBMIT_DIRECTORY"):
        registry.describe(clients[1], arn)


def test_a_package_of_several_containers_is_refused(clients) -> None:
    with pytest.raises(registry.PackageError, match="has 2 containers"):
        registry.describe(clients[1], register(clients, b"", containers=2))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (archive({"../outside.txt": "x"}), "not a plain file inside"),
        (archive({"/outside.txt": "x"}), "not a plain file inside"),
        (b"not an archive", "cannot be unpacked"),
        (archive(FILES)[:-20], "cannot be unpacked"),
    ],
)
def test_a_bad_archive_is_refused(clients, tmp_path: Path, body: bytes, message: str) -> None:
    package = registry.describe(clients[1], register(clients, body))
    with pytest.raises(registry.PackageError, match=message):
        registry.download(clients[0], package, tmp_path / "model")
    assert not (tmp_path / "outside.txt").exists()


def test_a_missing_archive_is_named(clients, tmp_path: Path) -> None:
    package = registry.describe(clients[1], register(clients, b""))
    clients[0].delete_object(Bucket="artifacts", Key="job/model.tar.gz")
    with pytest.raises(registry.PackageError, match=r"s3://artifacts/job/model\.tar\.gz: .*Not Found"):
        registry.download(clients[0], package, tmp_path)


def test_the_probe_is_a_valid_record_of_the_model_s_own_schema(tmp_path: Path) -> None:
    schema = schemas.load("flights")
    (tmp_path / "schema.json").write_text(schemas.to_json(schema))
    [record] = json.loads(registry.probe(tmp_path))["instances"]
    assert list(record) == [column.name for column in schema.request_columns]
    assert record["origin"] in schema.column("origin").allowed
    assert record["distance"] == 1
