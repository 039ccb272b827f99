"""What `/ping` is told: whether this server can predict."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from local.serving.limits import Limits
from local.serving.messages import JSON, Answer
from local.serving.model import Model
from local.serving.workers import Workers

HEALTHY = Answer(HTTPStatus.OK, b"")


def unhealthy(cause: str, reason: str) -> Answer:
    """503 with a reason, and its `cause` in one word: model, workers or stopping."""
    body = json.dumps({"error": reason, "cause": cause}).encode()
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body, JSON, retry_after=1)


class Health:
    """Unhealthy while every worker is stuck, or while the model does not predict.

    With a `probe`, a JSON request, a thread of its own predicts it, so that a ping waits neither in the queue nor for
    longer than `limits.ping`; its result is kept for `limits.probe_kept`. Without one, the latest request's
    prediction tells. `notify` is called on that thread when a probe has ended.
    """

    def __init__(
        self,
        model: Model,
        workers: Workers,
        limits: Limits,
        *,
        probe: bytes | None,
        notify: Callable[[], None],
    ) -> None:
        self._model, self._workers, self._limits, self._notify = model, workers, limits, notify
        self._probing = probe is not None
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._latest = HEALTHY
        self._ended = -limits.probe_kept
        self._began: float | None = None
        if probe is not None:
            threading.Thread(target=self._probe, args=(probe,), daemon=True, name="probe").start()

    def verdict(self, now: float) -> Answer | None:
        """The answer to a ping that came at `now`; None if it has to wait for a probe's `result`."""
        if self._workers.all_stuck:
            return unhealthy("workers", self._workers.stuck_reason)
        if not self._probing:
            failure = self._model.failure
            return HEALTHY if failure is None else unhealthy("model", failure)
        if self._began is None:
            if now - self._ended < self._limits.probe_kept:
                return self._latest
            self._began = now
            self._asked.put(None)
        return self.result(now)

    def result(self, now: float) -> Answer | None:
        """What the latest probe says at `now`; None if it is still under way and may be."""
        began = self._began
        if began is None:
            return self._latest
        if now - began < self._limits.ping:
            return None
        return unhealthy("model", f"the probe is not answered after {self._limits.ping:g} s.")

    def _probe(self, probe: bytes) -> None:
        while True:
            self._asked.get()
            answer = self._model.predict(probe, JSON, JSON)
            predicts = answer.status is HTTPStatus.OK
            self._latest = HEALTHY if predicts else unhealthy("model", json.loads(answer.body)["error"])
            self._ended = time.monotonic()
            self._began = None
            self._notify()
