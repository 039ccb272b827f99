"""How much one server takes on at once, and how long it waits for what: every bound in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

# A connection costs a few kilobytes and no thread.
CONNECTIONS = 256
# Predictions at once: as AWS's server, one worker for each core.
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Requests that wait for a worker, first come, first served.
QUEUE = 64
# The names AWS's server reads too (sagemaker-containers, `_params.py`).
WORKERS_VARIABLE = "SAGEMAKER_MODEL_SERVER_WORKERS"
ANSWER_VARIABLE = "SAGEMAKER_MODEL_SERVER_TIMEOUT"


class LimitError(ValueError):
    """A limit in the environment that is none: the message names the variable, the value and what it must be."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of one server; all times are seconds."""

    connections: int = CONNECTIONS
    workers: int = WORKERS
    queue: int = QUEUE
    # Between two requests of one connection.
    idle: float = 60.0
    # From a request's first byte to its last: a slow client holds no place for longer.
    request: float = 30.0
    # From a request's last byte to its answer ("How containers should respond to inference requests": 60 seconds).
    answer: float = 60.0
    # For a client to take its answer, and to close when it was told to.
    closing: float = 2.0
    # "How your container should respond to health check (ping) requests": within 2 seconds.
    ping: float = 2.0
    # How long a probe's prediction speaks for the model, so that a storm of pings predicts no more than this often.
    probe_kept: float = 1.0
    # From SIGTERM to the end; AWS sends SIGKILL after 30 seconds.
    drain: float = 25.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Limits:
        """The limits, with what the environment says of them; `LimitError` if it is no whole number above 0."""
        workers = _number(environ, WORKERS_VARIABLE, default=WORKERS)
        answer = _number(environ, ANSWER_VARIABLE, default=60)
        return cls(workers=workers, answer=float(answer))


def _number(environ: Mapping[str, str], name: str, *, default: int) -> int:
    text = environ.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise LimitError(f"environment variable {name} = {text[:20]}: must be a whole number of at least 1.")
    return int(text)
