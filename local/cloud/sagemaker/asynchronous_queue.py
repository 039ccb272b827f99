"""The queue of an asynchronous endpoint: it outlives its fleets, and every instance takes only so many at once.

It lies in memory: with the endpoint, or the cloud, what still waits is gone.
"""

from __future__ import annotations

import collections
import threading
import time
import traceback
from collections.abc import Callable

from local.cloud import background, clock
from local.cloud.place import Place
from local.cloud.sagemaker import asynchronous_request, measure, router
from local.cloud.sagemaker.asynchronous_request import Clients, Request
from local.cloud.sagemaker.fleet import Fleet
from local.cloud.sagemaker.instance import BrokenError, Instance
from local.cloud.sagemaker.store import Record

PUBLISH_SECONDS = 20.0  # of AWS: no alarm's period of a minute is without a data point
_POLL_SECONDS = 0.05  # an instance that has started tells nobody
_AT_ONCE = 4  # "If no value is provided, SageMaker chooses an optimal value"


class Queue:
    """Requests that wait, and a thread that gives them to instances with a free place, the oldest first.

    `config` is the endpoint's AsyncInferenceConfig; an update changes it.
    """

    def __init__(
        self,
        endpoint: str,
        config: Record,
        *,
        routing: Callable[[], router.Routing],
        place: Place,
        stopped: threading.Event,
    ) -> None:
        self.config = config
        self._endpoint, self._routing, self._stopped = endpoint, routing, stopped
        self._clients = Clients(place)
        self._waiting: collections.deque[Request] = collections.deque()
        self._working = 0
        self._closed = False
        self._change = threading.Condition()
        background.start(self._run, name="asynchronous")

    def put(self, request: Request) -> None:
        """Accept a request."""
        with self._change:
            self._waiting.append(request)
            self._change.notify_all()

    def close(self) -> None:
        """Take up nothing more, and publish no metric any more; what an instance has taken up is finished."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _run(self) -> None:
        published = -float("inf")
        while not (self._closed or self._stopped.is_set()):
            if time.monotonic() - published >= clock.scaled(PUBLISH_SECONDS):
                published = time.monotonic()
                self._publish()
            try:
                self._expire()
                busy = self._take_up()
            except Exception:  # noqa: BLE001 - one request's failure is not the queue's
                traceback.print_exc()
                busy = False
            if not busy:
                with self._change:
                    self._change.wait(_POLL_SECONDS)

    def _take_up(self) -> bool:
        """Give the oldest request to an instance; False if there is none of one or the other."""
        with self._change:
            if not self._waiting or self._closed:
                return False
            limit = self.config.get("ClientConfig", {}).get("MaxConcurrentInvocationsPerInstance", _AT_ONCE)
            try:
                fleet, instance = router.choose(self._routing(), None, None, below=limit)
            except router.NobodyError:
                return False
            request = self._waiting.popleft()
            self._working += 1
        background.start(self._work, request, fleet, instance, name="asynchronous")
        return True

    def _work(self, request: Request, fleet: Fleet, instance: Instance) -> None:
        again = False
        try:
            asynchronous_request.process(request, fleet, instance, self._clients)
        except BrokenError:
            again = request.tried = True
        except Exception:  # noqa: BLE001 - one request's failure is not the queue's
            traceback.print_exc()
        finally:
            fleet.leave(instance)
            with self._change:
                self._working -= 1
                if again:
                    self._waiting.appendleft(request)
                self._change.notify_all()

    def _expire(self) -> None:
        with self._change:
            late = [request for request in self._waiting if request.age > request.ttl]
            for request in late:
                self._waiting.remove(request)
        for request in late:
            asynchronous_request.expire(request, self._routing()[0].fleet, self._clients)

    def _publish(self) -> None:
        """The metrics that scaling looks at.

        Without an instance the backlog counts as that of one: "won't scale up again until the number of requests in the
        queue exceeds the target" ("Autoscale an asynchronous endpoint").
        """
        with self._change:
            waiting, oldest = len(self._waiting), self._waiting[0].age if self._waiting else 0.0
            backlog = waiting + self._working
        instances = sum(share.fleet.capacity for share in self._routing())
        measure.of_endpoint(
            self._endpoint,
            {
                "ApproximateBacklogSize": (float(backlog), "Count"),
                "ApproximateBacklogSizePerInstance": (backlog / max(1, instances), "Count"),
                "HasBacklogWithoutCapacity": (float(waiting > 0 and not instances), "Count"),
                "ApproximateAgeOfOldestRequest": (oldest, "Seconds"),
            },
        )
