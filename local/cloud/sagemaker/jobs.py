"""SageMaker's jobs: what they share, and processing and training, which are processes under the container contract."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

from local.cloud import background, clock, logs, protocol, roles
from local.cloud.extensions import Cloud
from local.cloud.place import REGION, Place
from local.cloud.protocol import ApiError, Caller, Operation
from local.cloud.sagemaker.store import Record, Store, authorize_create, invalid, now
from local.runner import Setting, check
from local.runner.jobs import DEFAULT_SECONDS, Job
from local.runner.processing import processing
from local.runner.training import training

_GRACE_SECONDS = 120  # between SIGTERM and SIGKILL ("StoppingCondition", API Reference)
_SECONDS_TO_CLOSE = 1.0  # for a polite end; what still runs then is killed when the server ends
_RUNNING = ("InProgress", "Stopping")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What differs between kinds of jobs: the words of the API."""

    name: str  # ProcessingJob …
    resource: str

    @property
    def status(self) -> str:
        """The member that holds the status."""
        return f"{self.name}Status"

    @property
    def began(self) -> str:
        """The member that holds the time at which it began to run."""
        return f"{self.name.removesuffix('Job')}StartTime"


class Performer(Protocol):
    """What a kind of jobs does."""

    @property
    def kind(self) -> Kind:
        """Its words."""

    def admit(self, caller: Caller, request: Record) -> Record:
        """What Describe answers while the job runs; `ApiError` if it can not be created."""

    def perform(self, name: str, record: Record, stop: Callable[[], bool]) -> Record:
        """Run the job to its end, or until `stop()`: what Describe answers then."""

    def changed(self, resource: str) -> None:
        """The job's status is another one."""


@dataclasses.dataclass(frozen=True)
class ContainerKind(Kind):
    """A job that is one process under the container contract."""

    log_group: str
    run: Callable[[Job], dict[str, Any]]
    image: Callable[[Record], str]
    isolated: Callable[[Record], bool]
    # What a Describe answer has that the request has not, while the job runs.
    running: Record


PROCESSING = ContainerKind(
    name="ProcessingJob",
    resource="processing-job",
    log_group="/aws/sagemaker/ProcessingJobs",
    run=processing,
    image=lambda request: str(request["AppSpecification"]["ImageUri"]),
    isolated=lambda request: bool(request.get("NetworkConfig", {}).get("EnableNetworkIsolation")),
    running={},
)
TRAINING = ContainerKind(
    name="TrainingJob",
    resource="training-job",
    log_group="/aws/sagemaker/TrainingJobs",
    run=training,
    image=lambda request: str(request["AlgorithmSpecification"]["TrainingImage"]),
    isolated=lambda request: bool(request.get("EnableNetworkIsolation")),
    running={"SecondaryStatus": "Training"},
)


def operations(cloud: Cloud, store: Store) -> dict[str, Operation]:
    """Create, Describe and Stop of processing and training jobs."""
    processing_jobs, training_jobs = (
        Jobs(cloud, store, _Containers(cloud, kind)).operations() for kind in (PROCESSING, TRAINING)
    )
    return processing_jobs | training_jobs


class Jobs:
    """The jobs of one kind that run, each on a thread, by ARN; one that still runs ends with the cloud."""

    def __init__(self, cloud: Cloud, store: Store, performer: Performer) -> None:
        self._store, self._performer, self._kind = store, performer, performer.kind
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}
        cloud.closing.callback(self.close)

    def operations(self) -> dict[str, Operation]:
        """Create, Describe and Stop."""
        name = self._kind.name
        return {f"Create{name}": self.create, f"Describe{name}": self.describe, f"Stop{name}": self.stop}

    def create(self, caller: Caller, request: Record) -> Record:
        """Check everything that AWS checks at once, then start."""
        kind, resource, tags = self._kind, self._arn(request), request.pop("Tags", [])
        authorize_create(caller, f"Create{kind.name}", resource, tags)
        record = {**self._performer.admit(caller, request), f"{kind.name}Arn": resource}
        name, stop = request[f"{kind.name}Name"], threading.Event()
        with self._store.lock:  # nobody stops it, and it does not end, before it can be found
            self._store.add(
                resource,
                {**record, kind.status: "InProgress"},
                tags,
                exists=f"{kind.name} name must be unique within an AWS account and region, and a {kind.name} with this "
                f"name already exists ({resource})",
            )
            thread = background.start(self._run, resource, name, record, stop, name=name)
            self._running[resource] = thread, stop
        return {f"{kind.name}Arn": resource}

    def describe(self, caller: Caller, request: Record) -> Record:
        """The job as it is now."""
        caller.authorize(f"sagemaker:Describe{self._kind.name}", self._arn(request))
        return self._find(request)

    def stop(self, caller: Caller, request: Record) -> None:
        """Ask it to end."""
        kind, resource = self._kind, self._arn(request)
        caller.authorize(f"sagemaker:Stop{kind.name}", resource)
        with self._store.lock:
            if (status := self._find(request)[kind.status]) not in _RUNNING:
                raise invalid(f"The request was rejected because the {kind.name} is in status {status}.")
            self._store.change(resource, {kind.status: "Stopping"})
            self._running[resource][1].set()
        self._performer.changed(resource)

    def close(self) -> None:
        """End every job's process."""
        running = list(self._running.values())
        for _, stop in running:
            stop.set()
        deadline = time.monotonic() + _SECONDS_TO_CLOSE
        for thread, _ in running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _arn(self, request: Record) -> str:
        kind = self._kind
        return protocol.arn("sagemaker", f"{kind.resource}/{request[f'{kind.name}Name'].lower()}")

    def _find(self, request: Record) -> Record:
        found = self._store.find(self._arn(request))
        if found is None:
            raise ApiError("ResourceNotFound", f"Requested resource not found: {self._arn(request)}")
        return found

    def _run(self, resource: str, name: str, record: Record, stop: threading.Event) -> None:
        kind = self._kind
        self._store.change(resource, {kind.began: now()})
        self._performer.changed(resource)
        try:
            ended = self._performer.perform(name, record, stop.is_set)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the job ends, and says why
            ended = {kind.status: "Failed", "FailureReason": f"InternalServerError: {error!r}"}
        self._store.change(resource, {name: value for name, value in ended.items() if name != "CreationTime"})
        del self._running[resource]
        self._performer.changed(resource)


class _Containers:
    """Processing or training: one process on this machine, with the keys of the job's role."""

    def __init__(self, cloud: Cloud, kind: ContainerKind) -> None:
        self._cloud, self.kind = cloud, kind

    def admit(self, caller: Caller, request: Record) -> Record:
        caller.pass_role(request["RoleArn"], "sagemaker.amazonaws.com")
        try:
            roles.check_trust(request["RoleArn"], "sagemaker")
        except roles.AccessDeniedError as denied:
            raise invalid(str(denied)) from None
        if lacking := check.uninterpreted(self.kind.name.removesuffix("Job"), request):
            raise invalid(lacking)
        return {
            "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_SECONDS},
            **request,
            **self.kind.running,
        }

    def perform(self, name: str, record: Record, stop: Callable[[], bool]) -> Record:
        kind, place = self.kind, self._cloud.place
        session = roles.assume(record["RoleArn"], "sagemaker", "SageMaker")
        stream = logs.Stream(session, place, kind.log_group, f"{name}/algo-1-{int(time.time())}")
        s3 = session.client("s3", place)
        setting = Setting(
            s3=s3,
            sagemaker=SimpleNamespace(meta=SimpleNamespace(region_name=REGION)),  # a job calls no SageMaker
            images={kind.image(record): self._cloud.python},
            work_dir=place.folder / "work",
            # "EnableNetworkIsolation": no network, and no credentials in the container.
            environment={} if kind.isolated(record) else _environment(place, session),
            stop=stop,
            grace_seconds=clock.scaled(_GRACE_SECONDS),
        )
        folder = setting.work_dir / kind.resource / name
        try:
            return kind.run(Job(record, name, folder, setting, stream.write))
        finally:
            stream.close()
            s3.close()

    def changed(self, resource: str) -> None:
        """No rule here listens to these jobs."""


def _environment(place: Place, session: roles.Session) -> dict[str, str]:
    """Where a job's own AWS clients find the cloud, and as whom."""
    shared = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}
    return {
        name: value for name, value in place.environment().items() if name in shared
    } | session.environment()
