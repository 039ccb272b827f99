"""A serverless variant: copies of the container start when they are asked, take one request at a time, end when idle.

Source: "Serverless Inference" (SageMaker AI Developer Guide). It does not say when an idle copy ends, nor whether the
copy that proves a new endpoint answers its first request: here it ends, so the first request sees a cold start.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time

from local.cloud import clock
from local.cloud.extensions import Cloud
from local.cloud.sagemaker import measure
from local.cloud.sagemaker.fleet import Fleet, FleetError, Variant
from local.cloud.sagemaker.instance import SECONDS_TO_ANSWER, Instance
from local.cloud.sagemaker.store import Record

BODY_BYTES = 4 * 1024 * 1024  # of a request ("Amazon SageMaker endpoints and quotas", AWS General Reference)
IDLE_SECONDS = 300.0  # of AWS
# "We recommend creating only one worker in the container" (Container support).
_ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


class ThrottledError(Exception):
    """More requests at once than MaxConcurrency."""


class Serverless(Fleet):
    """0 to `MaxConcurrency` copies, each a server process; `ProvisionedConcurrency` of them are kept.

    Memory has no effect. To a deployment it is one instance, which is up or not: traffic is not shared by copies.
    """

    on_demand = True

    def __init__(self, cloud: Cloud, variant: Variant, weight: float, config: Record) -> None:
        """Fetch the model; `config` is the variant's ServerlessConfig. `FleetError` as of any fleet."""
        runnable = variant.runnable
        alone = dataclasses.replace(runnable, environment={**_ONE_WORKER, **runnable.environment})
        super().__init__(cloud, dataclasses.replace(variant, runnable=alone), weight)
        self.config = config
        self._kept: int = config.get("ProvisionedConcurrency", 0)
        self._up = False
        self._busy = 0  # requests in flight, those that wait for their copy among them
        self._since: dict[Instance, float] = {}  # when it became idle
        self._timer: threading.Timer | None = None

    @property
    def capacity(self) -> int:
        """One if it is up, however many copies run."""
        return int(self._up)

    def scale(self, instances: int) -> None:
        """Up: a copy proves that the model starts, `FleetError` if not. 0: what is asked is answered, and copies end."""
        with self._scaling:
            if instances and not self._up:
                self._grow(max(1, self._kept))
                self._shrink(self._kept)
                self._up = True
            elif not instances:
                self._drain()
            self.desired = self.capacity

    def take(self, tried: Instance | None = None, below: float = math.inf) -> Instance | None:  # noqa: ARG002 - a copy takes one at a time
        """An idle copy, else a new one, whose start the request waits for. `ThrottledError` over MaxConcurrency."""
        with self._change:
            if not self._up:
                return None
            if self._busy >= self.config["MaxConcurrency"]:
                raise ThrottledError
            self._busy += 1
            idle = [it for it in self._instances if not it.in_flight]
            if ready := [it for it in idle if it.healthy and it is not tried]:
                # The one that was last used: the others may end.
                chosen = max(ready, key=lambda it: self._since.get(it, 0))
                chosen.in_flight = 1
                return chosen
            self._instances = [it for it in self._instances if it.in_flight]
        try:
            self._end(idle)  # it broke, and has no second life: a new one takes its place
            return self._cold_start()
        except FleetError:
            self._over()
            return None  # the endpoint's log has the reason
        except BaseException:
            self._over()
            raise

    def leave(self, instance: Instance) -> None:
        """The request of `take` is over."""
        with self._change:
            self._since[instance] = time.monotonic()
            super().leave(instance)
            self._over()
            self._watch()

    def _cold_start(self) -> Instance:
        began = time.perf_counter()
        (started,) = self._healthy(1)
        measure.setup(self, time.perf_counter() - began)
        with self._change:
            started.in_flight = 1
            self._instances.append(started)
        return started

    def _over(self) -> None:
        with self._change:
            self._busy -= 1
            self._change.notify_all()

    def _watch(self) -> None:
        """Look for idle copies after a while, as long as there are more than are kept."""
        if self._timer is None and len(self._instances) > self._kept:
            self._timer = threading.Timer(clock.scaled(IDLE_SECONDS / 10), self._reap)
            self._timer.daemon = True
            self._timer.start()

    def _reap(self) -> None:
        limit = time.monotonic() - clock.scaled(IDLE_SECONDS)
        with self._change:
            self._timer = None
            idle = [it for it in self._instances if not it.in_flight and self._since.get(it, 0) <= limit]
            ending = sorted(idle, key=lambda it: self._since.get(it, 0))
            ending = ending[: max(0, len(self._instances) - self._kept)]
            self._instances = [it for it in self._instances if it not in ending]
            self._watch()
        self._end(ending)
        for instance in ending:
            self._since.pop(instance, None)

    def _drain(self) -> None:
        with self._change:
            self._up = False
            deadline = time.monotonic() + SECONDS_TO_ANSWER
            while self._busy and (left := deadline - time.monotonic()) > 0:
                self._change.wait(left)
        self._shrink(0)
