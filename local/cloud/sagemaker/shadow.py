"""A shadow variant: it is asked what the production variant was asked, after the caller has the answer, and answers nobody.

Sources: "Shadow variants" and "Shadow tests" (SageMaker AI Developer Guide). They do not say how requests wait, nor what
becomes of those that a slow shadow has no time for: here a bounded queue drops them, and the endpoint's log counts them.
"""

from __future__ import annotations

import contextvars
import dataclasses
import http
import queue
import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping

from local.cloud import clock, logs
from local.cloud.sagemaker import measure, router
from local.cloud.sagemaker.fleet import Fleet

WAITING = 64  # requests
_THREADS = 8
_TELL_SECONDS = 60.0  # of AWS, between two lines of the log


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A request; `context` knows its account and region."""

    body: bytes
    headers: Mapping[str, str]
    passed: Mapping[str, str]
    context: contextvars.Context


class Mirror:
    """A production fleet's shadow: the fleet that is asked `weight / production weight` of the requests, at most all.

    It starts and ends with the production fleet, so during an update each fleet has its own.
    """

    def __init__(self, fleet: Fleet, instances: int, log: Callable[[str], logs.Stream]) -> None:
        """`log` opens a stream of the endpoint's log by its name."""
        self.fleet = fleet
        self.dropped = 0
        self._instances, self._log = instances, log
        self._told, self._told_at = 0, 0.0
        self._routing = (router.Share(fleet, 1.0, 1.0),)
        self._waiting: queue.Queue[_Copy | None] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the shadow's instances; `FleetError` if they do not come up."""
        if self._threads:
            return
        self.fleet.scale(self._instances)
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name="shadow") for _ in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def offer(
        self, weight: float, body: bytes, headers: Mapping[str, str], passed: Mapping[str, str]
    ) -> None:
        """Ask the shadow the same, some time later, if this request is one of its sample. Never waits, never fails.

        `weight` is the production variant's, `passed` are the headers that the container gets.
        """
        if random.random() * weight >= self.fleet.weight:  # noqa: S311 - a sample
            return
        try:
            self._waiting.put_nowait(_Copy(body, headers, passed, contextvars.copy_context()))
        except queue.Full:
            with self._lock:
                self.dropped += 1

    def close(self) -> None:
        """End the shadow: what still waits is dropped, what it was asked is answered first."""
        while self._threads:
            try:
                self._waiting.get_nowait()
                self.dropped += 1
            except queue.Empty:
                break
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._tell(0)
        self.fleet.close()

    def _work(self) -> None:
        while copy := self._waiting.get():
            try:
                copy.context.run(self._ask, copy)
                self._tell(_TELL_SECONDS)
            except Exception:  # noqa: BLE001 - a shadow's failure is nobody's error
                traceback.print_exc()

    def _tell(self, seconds: float) -> None:
        """How many were dropped, if more than the log says, and the last line is so old."""
        with self._lock:
            if self.dropped == self._told or time.monotonic() - self._told_at < clock.scaled(seconds):
                return
            dropped = self._told = self.dropped
            self._told_at = time.monotonic()
        # Without the lock, which a caller's `offer` may want.
        stream = self._log(f"{self.fleet.variant.name}/mirror")
        stream.write(f"{dropped} requests were dropped so far: at most {WAITING} wait for the shadow.")
        stream.close()

    def _ask(self, copy: _Copy) -> None:
        began = time.perf_counter()
        try:
            reply = router.ask(lambda: self._routing, copy.body, copy.passed)
        except router.NobodyError:
            measure.unanswered(self.fleet)
            return
        if self.fleet.capture and reply.answer and reply.answer.status < http.HTTPStatus.BAD_REQUEST:
            self.fleet.capture.keep(copy.headers, copy.body, reply.answer)
        measure.measure(reply, time.perf_counter() - began - reply.seconds)
