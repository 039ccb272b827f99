"""Endpoints: fleets of model servers behind a name, created, updated and deleted in the background as on AWS."""

from __future__ import annotations

import contextvars
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.cloud import events
from local.cloud.extensions import Cloud
from local.cloud.place import REGION
from local.cloud.protocol import ApiError, Caller, Operation, arn
from local.cloud.sagemaker import models
from local.cloud.sagemaker.capture import Capture
from local.cloud.sagemaker.fleet import Fleet, FleetError, Variant
from local.cloud.sagemaker.store import Record, Store, authorize_create, invalid, now, page

_CREATE = ("EndpointName", "EndpointConfigName", "DeploymentConfig", "Tags")
_UPDATE = (
    *("EndpointName", "EndpointConfigName", "DeploymentConfig", "RetainDeploymentConfig"),
    *("RetainAllVariantProperties", "ExcludeRetainedVariantProperties"),
)
_EVENT_STATUS = {"InService": "IN_SERVICE"}


def endpoint_arn(name: str) -> str:
    """The ARN of an endpoint."""
    return arn("sagemaker", f"endpoint/{name}")


class Endpoints:
    """The API's part for endpoints, and the fleets that answer for each."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store
        self._fleets: dict[str, list[Fleet]] = {}
        cloud.closing.callback(self._close)

    def operations(self) -> dict[str, Operation]:
        """The API's operations on endpoints."""
        return {
            "CreateEndpoint": self._create,
            "DescribeEndpoint": self._describe,
            "ListEndpoints": self._list,
            "UpdateEndpoint": self._update,
            "DeleteEndpoint": self._delete,
        }

    def fleets(self, name: str) -> Sequence[Fleet]:
        """What answers now: the traffic is shared by their weights. Empty if the endpoint is not in service."""
        return self._fleets.get(name, ())

    def _create(self, caller: Caller, request: Record) -> Record:
        name = request["EndpointName"]
        resource, tags = endpoint_arn(name), request.get("Tags", [])
        authorize_create(caller, "CreateEndpoint", resource, tags)
        caller.authorize("sagemaker:CreateEndpoint", models.config_arn(request["EndpointConfigName"]))
        _only(request, _CREATE)
        config = self._config(caller, request)
        record = {
            "EndpointName": name,
            "EndpointArn": resource,
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "LastModifiedTime": now(),
        }
        if "DeploymentConfig" in request:
            record["LastDeploymentConfig"] = request["DeploymentConfig"]
        self._store.add(
            resource, record, tags, exists=f'Cannot create already existing endpoint "{resource}".'
        )
        self._tell(name)
        _in_background(self._bring_up, name, config)
        return {"EndpointArn": resource}

    def _describe(self, caller: Caller, request: Record) -> Record:
        name = request["EndpointName"]
        caller.authorize("sagemaker:DescribeEndpoint", endpoint_arn(name))
        return self._described(name)

    def _list(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListEndpoints", "*")
        named, status = request.get("NameContains", ""), request.get("StatusEquals")
        names = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        records = [
            it
            for it in self._store.all("endpoint").values()
            if named in it["EndpointName"] and status in {None, it["EndpointStatus"]}
        ]
        found, token = page(records, request, supported=("StatusEquals",))
        return {"Endpoints": [{name: it[name] for name in names} for it in found], "NextToken": token}

    def _update(self, caller: Caller, request: Record) -> Record:
        name = request["EndpointName"]
        resource = endpoint_arn(name)
        caller.authorize("sagemaker:UpdateEndpoint", resource)
        caller.authorize("sagemaker:UpdateEndpoint", models.config_arn(request["EndpointConfigName"]))
        _only(request, _UPDATE)
        config = self._config(caller, request)
        with self._store.lock:
            self._settled(name, {"InService"})
            wanted = self._retained(name, config, request)
            changes: Record = {"EndpointStatus": "Updating", "FailureReason": None}
            if not request.get("RetainDeploymentConfig"):
                changes["LastDeploymentConfig"] = request.get("DeploymentConfig")
            self._store.change(resource, changes)
        self._tell(name)
        _in_background(self._replace, name, wanted)
        return {"EndpointArn": resource}

    def _delete(self, caller: Caller, request: Record) -> None:
        name = request["EndpointName"]
        caller.authorize("sagemaker:DeleteEndpoint", endpoint_arn(name))
        with self._store.lock:
            self._settled(name, {"InService", "Failed"})
            self._store.change(endpoint_arn(name), {"EndpointStatus": "Deleting"})
        self._tell(name)
        _in_background(self._take_down, name)

    def _bring_up(self, name: str, config: Record) -> None:
        try:
            fleets = self._start(name, config)
        except FleetError as error:
            self._became(name, "Failed", FailureReason=str(error))
            return
        self._fleets[name] = fleets
        self._became(name, "InService")

    def _replace(self, name: str, config: Record) -> None:
        """Blue/green, all at once: the new fleets take the traffic only when they are healthy."""
        try:
            fleets = self._start(name, config)
        except FleetError as error:
            self._became(name, "InService", FailureReason=str(error))
            return
        old, self._fleets[name] = self._fleets[name], fleets
        for fleet in old:
            fleet.close()
        self._became(name, "InService", EndpointConfigName=config["EndpointConfigName"])

    def _take_down(self, name: str) -> None:
        for fleet in self._fleets.pop(name, []):
            fleet.close()
        self._store.remove(endpoint_arn(name))

    def _start(self, name: str, config: Record) -> list[Fleet]:
        started: list[Fleet] = []
        try:
            for variant in config["ProductionVariants"]:
                fleet = self._fleet(name, variant, config.get("DataCaptureConfig"))
                started.append(fleet)
        except BaseException as error:
            for fleet in started:
                fleet.close()
            if isinstance(error, FleetError | ApiError):
                raise FleetError(str(error)) from None
            traceback.print_exc()
            raise FleetError(
                "Request to service failed. If failure persists after retry, contact support."
            ) from error
        return started

    def _fleet(self, name: str, variant: Mapping[str, Any], capture: Record | None) -> Fleet:
        runnable = models.runnable(self._store, models.model(self._store, variant["ModelName"]))
        wanted = Variant(name, variant["VariantName"], variant["InitialInstanceCount"], runnable)
        fleet = Fleet(self._cloud, wanted, variant.get("InitialVariantWeight", 1.0))
        if capture and capture.get("EnableCapture", True):
            s3 = fleet.session.client("s3", self._cloud.place)
            fleet.capture = Capture(capture, s3, name, wanted.name)
        return fleet

    def _retained(self, name: str, config: Record, request: Record) -> Record:
        """The configuration as an update applies it: what is to be retained comes from what runs."""
        if not request.get("RetainAllVariantProperties"):
            return config
        excluded = {it["VariantPropertyType"] for it in request.get("ExcludeRetainedVariantProperties", [])}
        running = {fleet.variant.name: fleet for fleet in self._fleets[name]}
        for variant in config["ProductionVariants"]:
            if (fleet := running.get(variant["VariantName"])) is None:
                continue
            if "DesiredInstanceCount" not in excluded:
                variant["InitialInstanceCount"] = fleet.variant.instances
            if "DesiredWeight" not in excluded:
                variant["InitialVariantWeight"] = fleet.weight
        if "DataCaptureConfig" not in excluded:
            old = models.config(self._store, self._store.get(endpoint_arn(name))["EndpointConfigName"])
            config["DataCaptureConfig"] = old.get("DataCaptureConfig")
        return config

    def _config(self, caller: Caller, request: Record) -> Record:
        """The named configuration, which the caller may use: its key encrypts volumes by a grant of the caller's."""
        config = models.config(self._store, request["EndpointConfigName"])
        key = config.get("KmsKeyId", "")
        if key.startswith("arn:"):
            for action in ("kms:DescribeKey", "kms:CreateGrant"):
                caller.authorize(action, key, {"kms:ViaService": f"sagemaker.{REGION}.amazonaws.com"})
        return config

    def _described(self, name: str) -> Record:
        record = self._store.get(endpoint_arn(name), missing=_missing(name))
        if fleets := self.fleets(name):
            record["ProductionVariants"] = [_summary(fleet) for fleet in fleets]
            capture = next((fleet.capture for fleet in fleets if fleet.capture), None)
            if capture:
                record["DataCaptureConfig"] = capture.described
        return record

    def _settled(self, name: str, allowed: set[str]) -> None:
        record = self._store.get(endpoint_arn(name), missing=_missing(name))
        if record["EndpointStatus"] not in allowed:
            raise invalid(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')

    def _became(self, name: str, status: str, **values: Any) -> None:
        self._store.change(endpoint_arn(name), {"EndpointStatus": status, **values})
        self._tell(name)

    def _tell(self, name: str) -> None:
        """The event "SageMaker Endpoint State Change", in the shape of the SageMaker Developer Guide."""
        record = self._described(name)
        record["EndpointStatus"] = _EVENT_STATUS.get(
            record["EndpointStatus"], record["EndpointStatus"].upper()
        )
        for time in ("CreationTime", "LastModifiedTime"):
            record[time] = int(record[time].timestamp() * 1000)
        record["Tags"] = self._store.tags(endpoint_arn(name))
        record.pop("DataCaptureConfig", None)
        events.emit("aws.sagemaker", "SageMaker Endpoint State Change", record, [record["EndpointArn"]])

    def _close(self) -> None:
        while self._fleets:
            for fleet in self._fleets.popitem()[1]:
                fleet.abandon()


def _missing(name: str) -> str:
    return f'Could not find endpoint "{endpoint_arn(name)}".'


def _summary(fleet: Fleet) -> Record:
    variant = fleet.variant
    image = {"SpecifiedImage": variant.runnable.image, "ResolvedImage": variant.runnable.image}
    return {
        "VariantName": variant.name,
        "DeployedImages": [image],
        "CurrentWeight": fleet.weight,
        "DesiredWeight": fleet.weight,
        "CurrentInstanceCount": variant.instances,
        "DesiredInstanceCount": variant.instances,
    }


def _only(request: Record, known: Sequence[str]) -> None:
    if unknown := set(request) - set(known):
        raise invalid(f"{min(unknown)} is unsupported in the embedded cloud.")


def _in_background(work: Callable[..., None], *arguments: object) -> None:
    """Run on a thread that knows account and region of the request."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work, *arguments), daemon=True, name=work.__name__).start()
