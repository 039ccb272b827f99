"""What `/ping` is told: whether this server can predict."""

from __future__ import annotations

import json
import time
from http import HTTPStatus

from local.serving.forks import Forks
from local.serving.limits import Limits
from local.serving.messages import JSON, Answer
from local.serving.worker import Worker
from local.serving.workers import Workers

HEALTHY = Answer(HTTPStatus.OK, b"")


def unhealthy(cause: str, reason: str) -> Answer:
    """503 with a reason, and its `cause` in one word: model or stopping."""
    body = json.dumps({"error": reason, "cause": cause}).encode()
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body, JSON, retry_after=1)


class Health:
    """Unhealthy while the model does not predict.

    With a `probe`, a JSON request, a process of its own predicts it, so that a ping waits neither in the queue nor for
    longer than `limits.ping`: one that is late is ended, and the next probe gets another. What a probe said is kept for
    `limits.probe_kept`. Without a probe, the latest request's prediction tells.
    """

    def __init__(self, forks: Forks, workers: Workers, limits: Limits, *, probe: bytes | None) -> None:
        self._forks, self._workers, self._limits, self._probe = forks, workers, limits, probe
        self._latest = HEALTHY
        self._ended = -limits.probe_kept
        self._began: float | None = None
        self._prober = None if probe is None else self._forked()

    def verdict(self, now: float) -> Answer | None:
        """The answer to a ping that came at `now`; None if it has to wait for a probe's `result`."""
        if self._probe is None:
            failure = self._workers.failure
            return HEALTHY if failure is None else unhealthy("model", failure)
        if self._began is None and now - self._ended >= self._limits.probe_kept:
            self._prober = self._prober or self._forked()
            if self._prober:
                self._began = now
                self._prober.ask(self._probe, JSON, JSON)
        return self.result(now)

    def result(self, now: float) -> Answer | None:
        """What the latest probe says at `now`; None if it is still under way and may be."""
        if self._began is not None and self._prober:
            if now - self._began < self._limits.ping:
                return None
            self._prober.end()
            self._prober = None
            self._tell(unhealthy("model", f"the probe is not answered after {self._limits.ping:g} s."))
        return self._latest

    def close(self) -> None:
        """End the probe's process."""
        if self._prober:
            self._prober.end()

    def _forked(self) -> Worker | None:
        try:
            return self._forks.fork(answered=self._answered, ended=self._died)
        except OSError as error:
            self._tell(unhealthy("model", f"no process can be forked for the probe: {error.strerror}."))
            return None

    def _answered(self, _: Worker, answer: Answer) -> None:
        predicts = answer.status is HTTPStatus.OK
        self._tell(HEALTHY if predicts else unhealthy("model", json.loads(answer.body)["error"]))

    def _died(self, _: Worker, how: str) -> None:
        self._prober = None
        if self._began is not None:
            self._tell(unhealthy("model", f"the process that predicted the probe ended {how}."))

    def _tell(self, verdict: Answer) -> None:
        self._latest, self._began, self._ended = verdict, None, time.monotonic()
