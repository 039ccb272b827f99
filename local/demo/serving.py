"""Approval, rollout, and the held-out flights asked of the endpoint through InvokeEndpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from local.demo import predictions
from local.demo.account import Account
from local.demo.progress import Progress
from local.demo.training import Trained
from pipeline import schema as schemas

SECONDS_TO_SERVE = 120


class ServingError(Exception):
    """The approved version did not get into service; the message has the reason."""


@dataclass(frozen=True)
class Endpoint:
    """What `predictions.ask` asks: one endpoint by its name."""

    account: Account
    name: str

    def invoke(self, body: bytes, *, content_type: str, accept: str) -> bytes:
        """The prediction for one request body, as `accept`."""
        answer = self.account.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.name, Body=body, ContentType=content_type, Accept=accept
        )
        text: bytes = answer["Body"].read()
        return text


def approve(account: Account, trained: Trained, prefix: str, progress: Progress) -> Endpoint:
    """Approve the version, as a person would, and wait until the flow has brought it into service by itself."""
    sagemaker = account.client("sagemaker")
    sagemaker.update_model_package(ModelPackageArn=trained.package.arn, ModelApprovalStatus="Approved")
    stack = f"{prefix}-serving"
    cloudformation = account.client("cloudformation")
    deadline = time.monotonic() + SECONDS_TO_SERVE
    status = ""
    while time.monotonic() < deadline:
        (described,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        given = {p["ParameterKey"]: p["ParameterValue"] for p in described.get("Parameters", [])}
        if described["StackStatus"] != status:
            status = described["StackStatus"]
            progress.detail(f"{stack}: {status}")
        if status.endswith(("ROLLBACK_COMPLETE", "FAILED")):
            raise ServingError(f"{stack}: {status}: {_reason(cloudformation, stack)}")
        if status == "UPDATE_COMPLETE" and trained.package.arn in given.values():
            arn = account.resource(stack, "AWS::SageMaker::Endpoint")
            return Endpoint(account, arn.rpartition("/")[2])
        time.sleep(0.2)
    raise ServingError(
        f"{stack}: the approved version is not in service after {SECONDS_TO_SERVE} s ({status})."
    )


def _reason(cloudformation: Any, stack: str) -> str:
    """What the newest failed resource says of itself."""
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    told = [f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}" for event in failed]
    return told[-1] if told else "no resource failed"


def ask(endpoint: Endpoint, trained: Trained, work: Path) -> dict[str, Any]:
    """Send the test split, as JSON and as CSV; the report's part on serving."""
    schema = schemas.load("flights")
    (path,) = endpoint.account.download_folder(trained.output("Prepare", "test"), work / "test")
    flights = pq.read_table(path).to_pylist()
    return predictions.summarize(flights, predictions.ask(endpoint, flights, schema), schema)
