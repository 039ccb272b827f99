"""What Processing and Training jobs share: where they run, how they end, and what counts as their failure.

What differs from the service: one machine, no network rules, no volume limits; outputs are stored only when the job
succeeds (SageMaker also keeps what a stopped or failed training left). See docs/decisions/0062.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.runner import storage
from local.runner.container import Container, container
from local.runner.process import Limits

# "ProcessingStoppingCondition" and "StoppingCondition" (API Reference): one day unless stated.
DEFAULT_SECONDS = 86_400
TIME_LIMIT = "MaxRuntimeExceeded"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an execution runs in. Nothing is looked up: the clients, too, are the caller's.

    `images` maps an image URI to the interpreter that stands for it; `environment` is added to every job's own;
    `stop` is asked often, and once it is true everything ends; `grace_seconds` lie between SIGTERM and SIGKILL;
    `pause` waits before a step is tried again.
    """

    s3: Any
    sagemaker: Any
    images: Mapping[str, Path]
    work_dir: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    account: str = "000000000000"
    stop: Callable[[], bool] = lambda: False
    grace_seconds: float = 10.0
    pause: Callable[[float], object] = time.sleep

    def arn(self, resource: str) -> str:
        """The ARN of a SageMaker resource of this account and the client's region."""
        return f"arn:aws:sagemaker:{self.sagemaker.meta.region_name}:{self.account}:{resource}"


@dataclasses.dataclass(frozen=True)
class Job:
    """One job to run: the request, the name it gets, its folder, where its output lines go."""

    arguments: Mapping[str, Any]
    name: str
    folder: Path
    setting: Setting
    on_line: Callable[[str], None]


class JobEndedError(Exception):
    """A job that did not complete: `status` is Failed or Stopped, the text is its FailureReason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended, in the service's words (Completed, Failed, Stopped), and what is left of its container."""

    status: str
    reason: str
    container: Container

    @property
    def described(self) -> dict[str, str]:
        """The part of a Describe answer that is there only if something went wrong."""
        return {"FailureReason": self.reason} if self.reason else {}


def perform(job: Job, work: Callable[[Container], None]) -> Outcome:
    """Do `work` in a fresh container; what S3 refuses or lacks is the job's failure, not the runner's."""
    with container(job.folder) as inside:
        try:
            work(inside)
        except JobEndedError as ended:
            return Outcome(ended.status, str(ended), inside)
        except (storage.StorageError, job.setting.s3.exceptions.ClientError) as error:
            return Outcome("Failed", f"ClientError: {error}", inside)
        return Outcome("Completed", "", inside)


def execute(
    job: Job,
    inside: Container,
    command: Sequence[str],
    *,
    image: str,
    environment: Mapping[str, str],
    reason_file: str,
    folder: str = "/",
) -> None:
    """Run the container's process to its end; raises `JobEndedError` unless it succeeds.

    `reason_file` is where the job may leave the reason of its failure.
    """
    setting = job.setting
    seconds = job.arguments.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS)
    ended = inside.run(
        command,
        python=setting.images[image],
        environment={**environment, **job.arguments.get("Environment", {}), **setting.environment},
        limits=Limits(seconds, setting.stop, setting.grace_seconds),
        on_line=job.on_line,
        folder=folder,
    )
    if ended.ended_by == "stop request":
        raise JobEndedError("Stopped", "Stopped on request.")
    if ended.ended_by == "time limit":
        raise JobEndedError("Stopped", f"{TIME_LIMIT}: the job was stopped after {seconds} seconds.")
    if ended.code == -signal.SIGKILL:  # nobody here sent it: what remains of a job whose instance is lost
        raise JobEndedError("Failed", "InternalServerError: the job's process was killed.")
    if ended.code:
        raise JobEndedError(
            "Failed", f"AlgorithmError: {inside.reason(reason_file)}, exit code: {ended.code}"
        )


def now() -> dt.datetime:
    """The present, as the service's clients return times."""
    return dt.datetime.now(dt.UTC)
