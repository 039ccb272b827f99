"""What an update of an endpoint asks for: the configuration, what it keeps of what runs, and the way there."""

from __future__ import annotations

from collections.abc import Mapping

from local.cloud import alarms, guardrails
from local.cloud.protocol import Caller
from local.cloud.sagemaker import models, variants
from local.cloud.sagemaker.deployment import Service
from local.cloud.sagemaker.store import Record, Store, authorize_volume_key, invalid


def config(store: Store, caller: Caller, name: str) -> Record:
    """The named configuration, which the caller may use."""
    found = models.config(store, name)
    authorize_volume_key(caller, found.get("KmsKeyId", ""))
    return found


def counts(config: Record) -> dict[str, int]:
    """The instances of each production variant; a serverless one is one that is up."""
    return {it["VariantName"]: it.get("InitialInstanceCount", 1) for it in config["ProductionVariants"]}


def plan(how: Record | None, config: Record, running: Mapping[str, int]) -> guardrails.Plan:
    """The update that a DeploymentConfig asks for; `ApiError` if AWS would refuse it."""
    variants.check_deployment(how, config)
    try:
        found = guardrails.plan(how, counts(config), running)
    except guardrails.RefusedError as refused:
        raise invalid(str(refused)) from None
    if missing := [name for name in found.alarms if alarms.state(name) is None]:
        raise invalid(f"AutoRollbackConfiguration: the alarm(s) {missing} do not exist.")
    return found


def retained(store: Store, endpoint: Record, service: Service, config: Record, request: Record) -> Record:
    """The configuration as an update applies it: what is to be retained comes from what runs."""
    if not request.get("RetainAllVariantProperties"):
        return config
    excluded = {it["VariantPropertyType"] for it in request.get("ExcludeRetainedVariantProperties", [])}
    weights = {fleet.variant.name: fleet.weight for fleet in [*service.fleets, *service.shadows]}
    running = {fleet.variant.name: fleet.capacity for fleet in service.shadows} | service.running
    for _, variant in variants.numbered(config):
        if (name := variant["VariantName"]) not in weights:
            continue
        if "DesiredInstanceCount" not in excluded and "ServerlessConfig" not in variant:
            variant["InitialInstanceCount"] = running[name]
        if "DesiredWeight" not in excluded:
            variant["InitialVariantWeight"] = weights[name]
    if "DataCaptureConfig" not in excluded:
        old = models.config(store, endpoint["EndpointConfigName"])
        config["DataCaptureConfig"] = old.get("DataCaptureConfig")
    return config
