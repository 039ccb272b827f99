"""The processes that predict, and the requests that wait for them: bounded, in order, each with a time-out."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from local.serving.forks import Forks
from local.serving.limits import Limits
from local.serving.messages import Answer, refusal
from local.serving.worker import Worker

_REMEMBERED = 50


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One request to predict for `client`, admitted at `since` (seconds of `time.monotonic`)."""

    client: Any
    body: bytes
    content_type: str
    accept: str
    since: float


class Workers:
    """At most `limits.workers` processes that predict one job each, and at most `limits.queue` jobs that wait for them.

    The first is forked here, another when a job finds none free: so an idle server keeps no more than it needed, and
    one that ended is replaced when there is work for it. `answer` gets each job's answer, unless it was given up.

    `failure` is why the latest prediction failed, unless the fault was the request's; None if it did not.
    """

    def __init__(self, forks: Forks, answer: Callable[[Job, Answer], None], limits: Limits) -> None:
        self.failure: str | None = None
        self._forks, self._answer, self._limits = forks, answer, limits
        self._waiting: dict[Job, None] = {}  # the oldest first
        self._running: dict[Worker, tuple[Job, float]] = {}  # the oldest first, with the time when it began
        self._free: list[Worker] = []  # the one whose memory is likeliest in the caches last
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._free += self._forked()

    def admit(self, job: Job) -> Answer | None:
        """Take a job, or say why not: 503 with the seconds after which a place should be free."""
        limits = self._limits
        if len(self._running) + len(self._waiting) < limits.workers + limits.queue:
            self._waiting[job] = None
            self._hand_over()
            return None
        seconds = statistics.median(self._seconds) if self._seconds else 1.0
        return refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"{limits.workers} requests are predicted and {limits.queue} wait, which is the limit. Try again later.",
            retry_after=max(1, math.ceil(limits.queue * seconds / limits.workers)),
        )

    def late(self, now: float) -> list[Job]:
        """Give up the jobs that are open for longer than `limits.answer`, and return them; ends who predicts them."""
        begun = [(worker, job) for worker, (job, _) in self._running.items() if self._is_late(job, now)]
        for worker, _ in begun:
            del self._running[worker]
            worker.end()
        waiting = [job for job in self._waiting if self._is_late(job, now)]
        for job in waiting:
            del self._waiting[job]
        self._hand_over()
        return [*(job for _, job in begun), *waiting]

    def dismiss(self) -> list[Job]:
        """Give up the jobs that no worker has begun, and return them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def cancel(self, job: Job) -> None:
        """Forget a job whose client is gone, if no worker has begun it."""
        self._waiting.pop(job, None)

    def close(self) -> None:
        """End all workers."""
        for worker in [*self._free, *self._running]:
            worker.end()
        self._free.clear()
        self._running.clear()

    def _is_late(self, job: Job, now: float) -> bool:
        return now - job.since >= self._limits.answer

    def _hand_over(self) -> None:
        while self._waiting:
            if not self._free and len(self._running) < self._limits.workers:
                self._free += self._forked()
            if not self._free:
                return
            worker, job = self._free.pop(), next(iter(self._waiting))
            del self._waiting[job]
            self._running[worker] = job, time.monotonic()
            worker.ask(job.body, job.content_type, job.accept)

    def _forked(self) -> list[Worker]:
        try:
            return [self._forks.fork(answered=self._answered, ended=self._ended)]
        except OSError as error:
            # Too many processes, or too little memory: the next look at late jobs tries again.
            self.failure = f"no process can be forked for a prediction: {error.strerror}."
            return []

    def _answered(self, worker: Worker, answer: Answer) -> None:
        job, began = self._running.pop(worker)
        self._seconds.append(time.monotonic() - began)
        self._free.append(worker)
        self._hand_over()
        if answer.status is HTTPStatus.OK:
            self.failure = None
        elif answer.status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.failure = json.loads(answer.body)["error"]
        self._answer(job, answer)

    def _ended(self, worker: Worker, how: str) -> None:
        if worker not in self._running:
            self._free.remove(worker)
            return
        job, _ = self._running.pop(worker)
        self.failure = f"the process that predicted this request ended {how}."
        self._hand_over()
        self._answer(job, refusal(HTTPStatus.INTERNAL_SERVER_ERROR, self.failure))
