"""An endpoint as DescribeEndpoint and its events show it: what serves, and the deployment under way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from local.cloud import rollout_status
from local.cloud.rollout import Phase
from local.cloud.rollout_status import Status
from local.cloud.sagemaker import variants
from local.cloud.sagemaker.deployment import Service
from local.cloud.sagemaker.fleet import Fleet
from local.cloud.sagemaker.serverless import Serverless
from local.cloud.sagemaker.store import Record

_EVENT_STATUS = {"InService": "IN_SERVICE", "RollingBack": "ROLLING_BACK"}
_EVENT_STATUS |= {"UpdateRollbackFailed": "UPDATE_ROLLBACK_FAILED"}


def endpoint(record: Record, service: Service | None) -> Record:
    """The answer of DescribeEndpoint."""
    if service is None:
        return record
    record["ProductionVariants"] = [_variant(fleet, service) for fleet in service.fleets]
    if shadows := service.shadows:
        record["ShadowProductionVariants"] = [_variant(fleet, service) for fleet in shadows]
    if capture := next((fleet.capture for fleet in service.fleets if fleet.capture), None):
        record["DataCaptureConfig"] = capture.described
    if service.queue:
        record["AsyncInferenceConfig"] = service.queue.config
    return record


def pending(
    config: Record, images: Mapping[str, str], started: dt.datetime, service: Service | None = None
) -> Record:
    """The `PendingDeploymentSummary` of a configuration, from the images by variant; without a service of a new endpoint.

    As in the examples of the Developer Guide, a variant's weight stays what it is, and its count is what has traffic.
    """
    deployment = service.deployment if service else None
    summary: Record = {"EndpointConfigName": config["EndpointConfigName"], "StartTime": started}
    for where, variant in variants.numbered(config):
        name, count = variant["VariantName"], variant.get("InitialInstanceCount", 1)
        status: Status | None = ("Creating", f"Launching {count} instance(s).")
        current, since = 0, started
        if deployment and name not in deployment.plan.new:
            running = [fleet.mirror.fleet.capacity for fleet in deployment.fleets if fleet.mirror]
            current = sum(running)
            status = status if deployment.state.phase is Phase.PROVISIONING else None
        elif deployment:
            state, since = deployment.state, deployment.since
            status = rollout_status.of_new(deployment.plan, state, name)
            current = rollout_status.active(deployment.plan, state, name)
        weight = variant.get("InitialVariantWeight", 1.0)
        counted = {
            "CurrentInstanceCount": current,
            "DesiredInstanceCount": count,
            "InstanceType": variant.get("InstanceType"),
        }
        if on_demand := variant.get("ServerlessConfig"):
            counted = {"DesiredServerlessConfig": on_demand}
        summary.setdefault(where.partition(".")[0], []).append(
            {
                "VariantName": name,
                "DeployedImages": [_image(images[name])],
                "CurrentWeight": weight,
                "DesiredWeight": weight,
                **counted,
                **_status(status, since),
            }
        )
    return summary


def event(record: Record, tags: Mapping[str, str]) -> Record:
    """The detail of an endpoint's event, in the shape of "Events that Amazon SageMaker AI sends to Amazon EventBridge"."""
    status = record["EndpointStatus"]
    shown = {name: _milliseconds(value) for name, value in record.items() if name != "DataCaptureConfig"}
    return shown | {"EndpointStatus": _EVENT_STATUS.get(status, status.upper()), "Tags": dict(tags)}


def _variant(fleet: Fleet, service: Service) -> Record:
    name, deployment = fleet.variant.name, service.deployment
    shifted = deployment is not None and name in deployment.plan.old  # a shadow only starts and ends
    status = (
        rollout_status.of_old(deployment.plan, deployment.state, name) if deployment and shifted else None
    )
    since = deployment.since if deployment else None
    if not deployment and fleet.desired != fleet.capacity:
        direction = "out" if fleet.desired > fleet.capacity else "in"
        status, since = ("Updating", f"Scaling {direction} desired instance count to {fleet.desired}."), None
    counted: Record = {
        "CurrentInstanceCount": fleet.capacity,
        "DesiredInstanceCount": fleet.capacity if deployment else fleet.desired,
    }
    return {
        "VariantName": name,
        "DeployedImages": [_image(fleet.variant.runnable.image)],
        "CurrentWeight": fleet.weight,
        "DesiredWeight": fleet.weight,
        **({"CurrentServerlessConfig": fleet.config} if isinstance(fleet, Serverless) else counted),
        **_status(status, since),
    }


def _status(status: Status | None, since: dt.datetime | None) -> Record:
    if status is None:
        return {}
    return {
        "VariantStatus": [
            {"Status": status[0], "StatusMessage": status[1], **({"StartTime": since} if since else {})}
        ]
    }


def _image(image: str) -> Record:
    return {"SpecifiedImage": image, "ResolvedImage": image}


def _milliseconds(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, Mapping):
        return {name: _milliseconds(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_milliseconds(item) for item in value]
    return value
