"""What an endpoint configuration becomes: fleets, with their capture, before any instance runs."""

from __future__ import annotations

import functools
import traceback
import weakref
from collections.abc import Mapping
from typing import Any

from local.cloud import logs
from local.cloud.extensions import Cloud
from local.cloud.protocol import ApiError
from local.cloud.sagemaker import models, variants
from local.cloud.sagemaker.capture import Capture
from local.cloud.sagemaker.fleet import Fleet, FleetError, Variant
from local.cloud.sagemaker.serverless import Serverless
from local.cloud.sagemaker.shadow import Mirror
from local.cloud.sagemaker.store import Record, Store

FAILED = "Request to service failed. If failure persists after retry, contact support."


class Provision:
    """Makes fleets, and ends with the cloud whatever still runs of them."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store
        # A fleet that runs is held by its instances' threads.
        self._made: weakref.WeakSet[Fleet] = weakref.WeakSet()

    def make(self, endpoint: str, config: Record) -> list[Fleet]:
        """A fleet for each variant; `FleetError` leaves none."""
        made: list[Fleet] = []
        try:
            made.extend(self._fleet(endpoint, config, variant) for variant in config["ProductionVariants"])
            for variant in config.get("ShadowProductionVariants", []):
                made[0].mirror = self._mirror(endpoint, config, variant)
        except BaseException as error:
            for fleet in made:
                fleet.close()
            if isinstance(error, FleetError | ApiError):
                raise FleetError(str(error)) from None
            traceback.print_exc()
            raise FleetError(FAILED) from error
        return made

    def images(self, config: Record) -> dict[str, str]:
        """The image of each variant, empty if its model is gone."""
        found = {}
        for _, variant in variants.numbered(config):
            model = self._store.find(models.model_arn(variant["ModelName"]))
            found[variant["VariantName"]] = models.runnable(self._store, model).image if model else ""
        return found

    def close(self) -> None:
        """End every process."""
        for fleet in list(self._made):
            fleet.abandon()

    def _fleet(self, endpoint: str, config: Record, variant: Mapping[str, Any]) -> Fleet:
        runnable = models.runnable(self._store, models.model(self._store, variant["ModelName"]))
        wanted = Variant(endpoint, config["EndpointConfigName"], variant["VariantName"], runnable)
        weight = variant.get("InitialVariantWeight", 1.0)
        if on_demand := variant.get("ServerlessConfig"):
            fleet: Fleet = Serverless(self._cloud, wanted, weight, on_demand)
        else:
            fleet = Fleet(self._cloud, wanted, weight)
        self._made.add(fleet)
        capture = config.get("DataCaptureConfig")
        if capture and capture.get("EnableCapture", True):
            s3 = fleet.session.client("s3", self._cloud.place)
            fleet.capture = Capture(capture, s3, endpoint, wanted.name)
        return fleet

    def _mirror(self, endpoint: str, config: Record, variant: Mapping[str, Any]) -> Mirror:
        fleet = self._fleet(endpoint, config, variant)
        log = functools.partial(logs.Stream, fleet.session, self._cloud.place, fleet.log_group)
        return Mirror(fleet, variant["InitialInstanceCount"], log)
