"""Endpoints: fleets of model servers behind a name, created, updated and deleted in the background as on AWS."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

from local.cloud import background, events
from local.cloud.extensions import Cloud
from local.cloud.protocol import Caller, Operation, arn
from local.cloud.rollout import Phase
from local.cloud.sagemaker import asynchronous_config, described, models, requested, variants
from local.cloud.sagemaker.asynchronous_queue import Queue
from local.cloud.sagemaker.deployment import Deployment, Service
from local.cloud.sagemaker.fleet import Fleet, FleetError
from local.cloud.sagemaker.provision import Provision
from local.cloud.sagemaker.router import Routing
from local.cloud.sagemaker.store import Record, Store, authorize_create, invalid, now, only, page

_CREATE = ("EndpointName", "EndpointConfigName", "DeploymentConfig", "Tags")
_UPDATE = (
    *("EndpointName", "EndpointConfigName", "DeploymentConfig", "RetainDeploymentConfig"),
    *("RetainAllVariantProperties", "ExcludeRetainedVariantProperties"),
)
_DEPLOYMENT = "SageMaker Endpoint Deployment State Change"
# What may be updated or deleted: all else is under way.
_SETTLED = {"InService", "UpdateRollbackFailed"}


def endpoint_arn(name: str) -> str:
    """The ARN of an endpoint."""
    return arn("sagemaker", f"endpoint/{name}")


class Endpoints:
    """The API's part for endpoints, and the services that answer for each."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store
        self._services: dict[str, Service] = {}
        self._provision = Provision(cloud, store)
        self._stopped = threading.Event()
        cloud.closing.callback(self._close)

    def operations(self) -> dict[str, Operation]:
        """The API's operations on endpoints."""
        return {
            "CreateEndpoint": self._create,
            "DescribeEndpoint": self._describe,
            "ListEndpoints": self._list,
            "UpdateEndpoint": self._update,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "DeleteEndpoint": self._delete,
        }

    def routing(self, name: str) -> Routing:
        """Who answers now, and with which share of the traffic. Empty if the endpoint is not in service."""
        service = self._services.get(name)
        return service.routing if service else ()

    def queue(self, name: str) -> Queue | None:
        """The queue of an asynchronous endpoint that is in service."""
        service = self._services.get(name)
        return service.queue if service else None

    def change(self, name: str, weights: Mapping[str, float], counts: Mapping[str, int]) -> None:
        """Give variants other weights and numbers of instances, in the background; `ApiError` if an update is under way."""
        with self._store.lock:
            self._settled(name, {"InService"})
            service = self._services[name]
            fleets = {fleet.variant.name: fleet for fleet in [*service.fleets, *service.shadows]}
            if unknown := (weights.keys() | counts.keys()) - fleets.keys():
                raise invalid(
                    f'The variant name(s) "{min(unknown)}" is/are not present within endpoint "{name}".'
                )
            if serverless := [key for key in counts if fleets[key].on_demand]:
                raise invalid(f'Variant "{serverless[0]}" is serverless: it has no instances to count.')
            variants.check_weights(weights.get(it.variant.name, it.weight) for it in service.fleets)
            self._store.change(endpoint_arn(name), {"EndpointStatus": "Updating", "FailureReason": None})
            for key, count in counts.items():
                fleets[key].desired = count
        self._tell(name)
        if counts:
            self._tell(name, _DEPLOYMENT)
        background.start(self._rescale, name, weights, {fleets[key]: count for key, count in counts.items()})

    def _create(self, caller: Caller, request: Record) -> Record:
        name = request["EndpointName"]
        resource, tags = endpoint_arn(name), request.get("Tags", [])
        authorize_create(caller, "CreateEndpoint", resource, tags)
        caller.authorize("sagemaker:CreateEndpoint", models.config_arn(request["EndpointConfigName"]))
        only(request, _CREATE)
        config = requested.config(self._store, caller, request["EndpointConfigName"])
        requested.plan(request.get("DeploymentConfig"), config, requested.counts(config))
        record = {
            "EndpointName": name,
            "EndpointArn": resource,
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "LastModifiedTime": now(),
            "PendingDeploymentSummary": described.pending(config, self._provision.images(config), now()),
        }
        if "DeploymentConfig" in request:
            record["LastDeploymentConfig"] = request["DeploymentConfig"]
        self._store.add(
            resource, record, tags, exists=f'Cannot create already existing endpoint "{resource}".'
        )
        self._tell(name)
        background.start(self._bring_up, name, config)
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
        found, token = page(records, request, order="Descending", supported=("StatusEquals",))
        return {"Endpoints": [{name: it[name] for name in names} for it in found], "NextToken": token}

    def _update(self, caller: Caller, request: Record) -> Record:
        name = request["EndpointName"]
        resource = endpoint_arn(name)
        caller.authorize("sagemaker:UpdateEndpoint", resource)
        caller.authorize("sagemaker:UpdateEndpoint", models.config_arn(request["EndpointConfigName"]))
        only(request, _UPDATE)
        config = requested.config(self._store, caller, request["EndpointConfigName"])
        with self._store.lock:
            record = self._settled(name, _SETTLED)
            service = self._services[name]
            if variants.serverless(config) and not service.fleets[0].on_demand:
                raise invalid(f'Cannot update the instance-based endpoint "{resource}" to a serverless one.')
            asynchronous_config.check_update(service.queue is not None, config)
            wanted = requested.retained(self._store, record, service, config, request)
            how = request.get("DeploymentConfig")
            if request.get("RetainDeploymentConfig"):
                how = record.get("LastDeploymentConfig")
            deployment = Deployment(
                service,
                requested.plan(how, wanted, service.running),
                make=functools.partial(self._provision.make, name, wanted),
                changed=functools.partial(self._progressed, name, wanted),
                stopped=self._stopped,
            )
            service.deployment = deployment
            self._store.change(
                resource,
                {"EndpointStatus": "Updating", "FailureReason": None, "LastDeploymentConfig": how},
            )
        self._tell(name)
        background.start(self._deploy, name, deployment, wanted)
        return {"EndpointArn": resource}

    def _update_weights(self, caller: Caller, request: Record) -> Record:
        name, desired = request["EndpointName"], request["DesiredWeightsAndCapacities"]
        caller.authorize("sagemaker:UpdateEndpointWeightsAndCapacities", endpoint_arn(name))
        for index, variant in enumerate(desired, 1):
            only(variant, ("VariantName", "DesiredWeight", "DesiredInstanceCount"), f"[{index}].")
        weights = {it["VariantName"]: it["DesiredWeight"] for it in desired if "DesiredWeight" in it}
        counts = {
            it["VariantName"]: it["DesiredInstanceCount"] for it in desired if "DesiredInstanceCount" in it
        }
        if len(counts) > 1:
            raise invalid("The capacity of one variant can be updated at a time.")
        for count in counts.values():
            if count < 1 and not self.queue(name):
                raise invalid(
                    "DesiredInstanceCount must be at least 1: only asynchronous endpoints have none."
                )
            models.check_instances(count, "DesiredInstanceCount")
        self.change(name, weights, counts)
        return {"EndpointArn": endpoint_arn(name)}

    def _delete(self, caller: Caller, request: Record) -> None:
        name = request["EndpointName"]
        caller.authorize("sagemaker:DeleteEndpoint", endpoint_arn(name))
        with self._store.lock:
            self._settled(name, {*_SETTLED, "Failed"})
            self._store.change(endpoint_arn(name), {"EndpointStatus": "Deleting"})
        self._tell(name)
        background.start(self._take_down, name)

    def _bring_up(self, name: str, config: Record) -> None:
        fleets: list[Fleet] = []
        try:
            fleets = self._provision.make(name, config)
            for fleet in fleets:
                fleet.scale(requested.counts(config)[fleet.variant.name])
        except FleetError as error:
            for fleet in fleets:
                fleet.close()
            self._became(name, "Failed", FailureReason=str(error), PendingDeploymentSummary=None)
            return
        service = Service(fleets)
        if asynchronous := config.get("AsyncInferenceConfig"):
            service.queue = Queue(
                name,
                asynchronous,
                routing=lambda: service.routing,
                place=self._cloud.place,
                stopped=self._stopped,
            )
        self._services[name] = service
        self._became(name, "InService", PendingDeploymentSummary=None)

    def _deploy(self, name: str, deployment: Deployment, config: Record) -> None:
        state = deployment.run()
        if state is None:
            return
        service = self._services[name]
        service.deployment = None
        told = self._cloud.place.rollback == "told" or state.phase is not Phase.ROLLED_BACK
        values: Record = {"FailureReason": state.reason or None if told else None}
        if state.phase is Phase.DONE:
            values["EndpointConfigName"] = config["EndpointConfigName"]
            if service.queue:
                service.queue.config = config["AsyncInferenceConfig"]
        status = "UpdateRollbackFailed" if state.phase is Phase.STUCK else "InService"
        self._became(name, status, PendingDeploymentSummary=None, **values)

    def _progressed(self, name: str, config: Record) -> None:
        """A deployment reached its next state: DescribeEndpoint shows it, and an event tells it."""
        service = self._services[name]
        if service.deployment:
            summary = described.pending(
                config, self._provision.images(config), service.deployment.started, service
            )
            self._store.change(endpoint_arn(name), {"PendingDeploymentSummary": summary})
            self._tell(name, _DEPLOYMENT)

    def _rescale(self, name: str, weights: Mapping[str, float], counts: Mapping[Fleet, int]) -> None:
        service, reason = self._services[name], None
        try:
            for fleet, count in counts.items():
                fleet.scale(count)
            for fleet in [*service.fleets, *service.shadows]:
                fleet.weight = weights.get(fleet.variant.name, fleet.weight)
            service.rebalance()
        except FleetError as error:
            reason = str(error)
            self._became(name, "RollingBack")
        self._became(name, "InService", FailureReason=reason)

    def _take_down(self, name: str) -> None:
        service = self._services.pop(name, None)
        if service and service.queue:
            service.queue.close()
        for fleet in service.fleets if service else []:
            fleet.close()
        self._store.remove(endpoint_arn(name))

    def _described(self, name: str) -> Record:
        record = self._store.get(endpoint_arn(name), missing=_missing(name))
        return described.endpoint(record, self._services.get(name))

    def _settled(self, name: str, allowed: set[str]) -> Record:
        record = self._store.get(endpoint_arn(name), missing=_missing(name))
        if record["EndpointStatus"] not in allowed:
            raise invalid(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
        return record

    def _became(self, name: str, status: str, **values: Any) -> None:
        self._store.change(endpoint_arn(name), {"EndpointStatus": status, **values})
        self._tell(name)

    def _tell(self, name: str, kind: str = "SageMaker Endpoint State Change") -> None:
        record = described.event(self._described(name), self._store.tags(endpoint_arn(name)))
        events.emit("aws.sagemaker", kind, record, [record["EndpointArn"]])

    def _close(self) -> None:
        self._stopped.set()
        self._provision.close()


def _missing(name: str) -> str:
    return f'Could not find endpoint "{endpoint_arn(name)}".'
