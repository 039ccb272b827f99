"""An account in memory for the runner's tests: two clients, one bucket, one model package group."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.runner import Event, ExecutionResult, Setting, run
from tests.local.runner.written import BUCKET, GROUP, IMAGE

REGION = "us-east-1"


@dataclasses.dataclass
class Cloud:
    """The clients, and what a test asks of them."""

    setting: Setting
    events: list[Event] = dataclasses.field(default_factory=list)

    @property
    def s3(self) -> Any:
        return self.setting.s3

    def put(self, key: str, content: str | bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def keys(self, prefix: str = "") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in found]

    def text(self, uri: str) -> str:
        key = uri.removeprefix(f"s3://{BUCKET}/")
        return str(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())

    def run(self, definition: dict[str, Any], **arguments: Any) -> ExecutionResult:
        # Through JSON, as every definition comes: no test shares a nested object with the runner.
        raw = json.loads(json.dumps(definition))
        arguments = {"setting": self.setting, "on_event": self.events.append, **arguments}
        return run(raw, **arguments)

    def lines(self, step: str) -> list[str]:
        return [event.text for event in self.events if event.step == step and event.kind == "line"]

    def packages(self) -> list[Any]:
        found = self.setting.sagemaker.list_model_packages(ModelPackageGroupName=GROUP)
        return list(found["ModelPackageSummaryList"])

    def models(self) -> list[Any]:
        return list(self.setting.sagemaker.list_models()["Models"])


@pytest.fixture(scope="session")
def clients() -> dict[str, Any]:
    """Made once, because reading SageMaker's model takes half a second; moto answers them inside `mock_aws` only."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": REGION}
    return {service: boto3.client(service, **keys) for service in ("s3", "sagemaker")}


@pytest.fixture
def cloud(clients: dict[str, Any], tmp_path: Path) -> Iterator[Cloud]:
    with mock_aws():
        clients["s3"].create_bucket(Bucket=BUCKET)
        clients["sagemaker"].create_model_package_group(ModelPackageGroupName=GROUP)
        images = {IMAGE: Path(sys.executable)}
        yield Cloud(Setting(**clients, images=images, work_dir=tmp_path, grace_seconds=1))


@pytest.fixture(scope="session")
def service(clients: dict[str, Any]) -> Any:
    """SageMaker's own description of its operations, as every client carries it."""
    return clients["sagemaker"].meta.service_model
