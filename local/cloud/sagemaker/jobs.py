"""Processing and training jobs: processes under SageMaker's container contract, each with the keys of its own role."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from local.cloud import clock, logs, protocol, roles
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
    """What differs between the two: the words of the API, and what runs the job."""

    name: str  # ProcessingJob …
    resource: str
    log_group: str
    run: Callable[[Job], dict[str, Any]]
    image: Callable[[Record], str]
    isolated: Callable[[Record], bool]
    # What a Describe answer has that the request has not, while the job runs.
    running: Record

    @property
    def status(self) -> str:
        """The member that holds the status."""
        return f"{self.name}Status"


PROCESSING = Kind(
    name="ProcessingJob",
    resource="processing-job",
    log_group="/aws/sagemaker/ProcessingJobs",
    run=processing,
    image=lambda request: str(request["AppSpecification"]["ImageUri"]),
    isolated=lambda request: bool(request.get("NetworkConfig", {}).get("EnableNetworkIsolation")),
    running={},
)
TRAINING = Kind(
    name="TrainingJob",
    resource="training-job",
    log_group="/aws/sagemaker/TrainingJobs",
    run=training,
    image=lambda request: str(request["AlgorithmSpecification"]["TrainingImage"]),
    isolated=lambda request: bool(request.get("EnableNetworkIsolation")),
    running={"SecondaryStatus": "Training"},
)


def operations(cloud: Cloud, store: Store) -> dict[str, Operation]:
    """Create, Describe and Stop of both kinds; a job that still runs ends with the cloud."""
    jobs = _Jobs(cloud, store)
    cloud.closing.callback(jobs.close)
    found: dict[str, Operation] = {}
    for kind in (PROCESSING, TRAINING):
        found[f"Create{kind.name}"] = jobs.creator(kind)
        found[f"Describe{kind.name}"] = jobs.describer(kind)
        found[f"Stop{kind.name}"] = jobs.stopper(kind)
    return found


class _Jobs:
    """The jobs that run, each on a thread, by ARN."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}

    def creator(self, kind: Kind) -> Operation:
        def create(caller: Caller, request: Record) -> Record:
            name, resource, tags = request[f"{kind.name}Name"], _arn(kind, request), request.pop("Tags", [])
            authorize_create(caller, f"Create{kind.name}", resource, tags)
            caller.pass_role(request["RoleArn"], "sagemaker.amazonaws.com")
            try:
                roles.check_trust(request["RoleArn"], "sagemaker")
            except roles.AccessDeniedError as denied:
                raise invalid(str(denied)) from None
            if lacking := check.uninterpreted(kind.name.removesuffix("Job"), request):
                raise invalid(lacking)
            record = {"StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_SECONDS}, **request}
            self._store.add(
                resource,
                {**record, f"{kind.name}Arn": resource, kind.status: "InProgress", **kind.running},
                tags,
                exists=f"{kind.name} name must be unique within an AWS account and region, and a {kind.name} with this "
                f"name already exists ({resource})",
            )
            stop = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(kind, name, record, stop), name=name, daemon=True
            )
            self._running[resource] = thread, stop
            thread.start()
            return {f"{kind.name}Arn": resource}

        return create

    def describer(self, kind: Kind) -> Operation:
        def describe(caller: Caller, request: Record) -> Record:
            caller.authorize(f"sagemaker:Describe{kind.name}", _arn(kind, request))
            return self._find(kind, request)

        return describe

    def stopper(self, kind: Kind) -> Operation:
        def stop(caller: Caller, request: Record) -> None:
            resource = _arn(kind, request)
            caller.authorize(f"sagemaker:Stop{kind.name}", resource)
            with self._store.lock:
                if (status := self._find(kind, request)[kind.status]) not in _RUNNING:
                    raise invalid(f"The request was rejected because the {kind.name} is in status {status}.")
                self._store.change(resource, {kind.status: "Stopping"})
                self._running[resource][1].set()

        return stop

    def close(self) -> None:
        """End every job's process."""
        running = list(self._running.values())
        for _, stop in running:
            stop.set()
        deadline = time.monotonic() + _SECONDS_TO_CLOSE
        for thread, _ in running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _find(self, kind: Kind, request: Record) -> Record:
        found = self._store.find(_arn(kind, request))
        if found is None:
            raise ApiError("ResourceNotFound", f"Requested resource not found: {_arn(kind, request)}")
        return found

    def _run(self, kind: Kind, name: str, request: Record, stop: threading.Event) -> None:
        resource = protocol.arn("sagemaker", f"{kind.resource}/{name.lower()}")
        self._store.change(resource, {f"{kind.name.removesuffix('Job')}StartTime": now()})
        try:
            ended = self._perform(kind, name, request, stop)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the job ends, and says why
            ended = {kind.status: "Failed", "FailureReason": f"InternalServerError: {error!r}"}
        self._store.change(resource, {name: value for name, value in ended.items() if name != "CreationTime"})
        del self._running[resource]

    def _perform(self, kind: Kind, name: str, request: Record, stop: threading.Event) -> Mapping[str, Any]:
        place = self._cloud.place
        session = roles.assume(request["RoleArn"], "sagemaker", "SageMaker")
        stream = logs.Stream(session, place, kind.log_group, f"{name}/algo-1-{int(time.time())}")
        s3 = session.client("s3", place)
        setting = Setting(
            s3=s3,
            sagemaker=SimpleNamespace(meta=SimpleNamespace(region_name=REGION)),  # a job calls no SageMaker
            images={kind.image(request): self._cloud.python},
            work_dir=place.folder / "work",
            # "EnableNetworkIsolation": no network, and no credentials in the container.
            environment={} if kind.isolated(request) else _environment(place, session),
            stop=stop.is_set,
            grace_seconds=clock.scaled(_GRACE_SECONDS),
        )
        folder = setting.work_dir / kind.resource / name
        try:
            return kind.run(Job(request, name, folder, setting, stream.write))
        finally:
            stream.close()
            s3.close()


def _arn(kind: Kind, request: Record) -> str:
    return protocol.arn("sagemaker", f"{kind.resource}/{request[f'{kind.name}Name'].lower()}")


def _environment(place: Place, session: roles.Session) -> dict[str, str]:
    """Where a job's own AWS clients find the cloud, and as whom."""
    shared = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}
    return {
        name: value for name, value in place.environment().items() if name in shared
    } | session.environment()
