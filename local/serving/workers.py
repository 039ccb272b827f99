"""The threads that predict, and the requests that wait for them: bounded, in order, each with a time-out.

Python cannot end a thread. A worker whose request was given up is *stuck*: it takes up its place until the model
returns, and when every worker is stuck nothing is admitted and the server is unhealthy.
"""

from __future__ import annotations

import math
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from local.serving.limits import Limits
from local.serving.messages import Answer, refusal

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
    """`limits.workers` threads that give each job to `predict` and its answer to `answer`, in the job's order.

    A job is *open* until it is answered or given up. One thread admits and gives up; `answer` runs on the workers.
    """

    def __init__(
        self, predict: Callable[[Job], Answer], answer: Callable[[Job, Answer], None], limits: Limits
    ) -> None:
        self._predict, self._answer, self._limits = predict, answer, limits
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[Job, None] = {}  # the oldest first
        self._running: set[Job] = set()
        self._stuck = 0
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        for _ in range(limits.workers):
            threading.Thread(target=self._work, daemon=True, name="worker").start()

    @property
    def running(self) -> int:
        """How many workers are in the model's code now."""
        return len(self._running)

    @property
    def all_stuck(self) -> bool:
        """Whether no worker can take another request."""
        return self._stuck == self._limits.workers

    def admit(self, job: Job) -> Answer | None:
        """Take a job, or say why not: 503 with the seconds after which a place should be free."""
        limits = self._limits
        with self._lock:
            if not self.all_stuck and len(self._open) + self._stuck < limits.workers + limits.queue:
                self._open[job] = None
                self._jobs.put(job)
                return None
            seconds = statistics.median(self._seconds) if self._seconds else 1.0
        if self.all_stuck:
            return refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self.stuck_reason} Try another instance.", retry_after=1
            )
        return refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"{limits.workers} requests are predicted and {limits.queue} wait, which is the limit. Try again later.",
            retry_after=max(1, math.ceil(limits.queue * seconds / limits.workers)),
        )

    @property
    def stuck_reason(self) -> str:
        """What `all_stuck` means, as a sentence."""
        return f"all {self._limits.workers} workers are stuck in requests of more than {self._limits.answer:g} s."

    def late(self, now: float) -> list[Job]:
        """Give up the jobs that are open for longer than `limits.answer`, and return them."""
        with self._lock:
            given_up = []
            for job in self._open:
                if now - job.since < self._limits.answer:
                    break
                given_up.append(job)
            for job in given_up:
                del self._open[job]
                self._stuck += job in self._running
        return given_up

    def dismiss(self) -> list[Job]:
        """Give up the jobs that no worker has begun, and return them."""
        with self._lock:
            waiting = [job for job in self._open if job not in self._running]
            for job in waiting:
                del self._open[job]
        return waiting

    def cancel(self, job: Job) -> None:
        """Forget a job whose client is gone, if no worker has begun it."""
        with self._lock:
            if job not in self._running:
                self._open.pop(job, None)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                if job not in self._open:
                    continue
                self._running.add(job)
            began = time.monotonic()
            answer = self._predict(job)
            with self._lock:
                self._running.remove(job)
                self._seconds.append(time.monotonic() - began)
                if job in self._open:
                    del self._open[job]
                else:
                    self._stuck -= 1
            self._answer(job, answer)
