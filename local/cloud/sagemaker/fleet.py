"""The processes that answer for one variant of an endpoint: started from a model's archive, scaled, drained, ended."""

from __future__ import annotations

import dataclasses
import math
import random
import tarfile
import tempfile
import threading
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from botocore.exceptions import ClientError

from local import endpoint
from local.cloud import logs, roles
from local.cloud.extensions import Cloud
from local.cloud.sagemaker.capture import Capture
from local.cloud.sagemaker.instance import SECONDS_TO_ANSWER, Instance
from local.cloud.sagemaker.models import Runnable
from local.runner import storage
from pipeline import archive

if TYPE_CHECKING:
    from local.cloud.sagemaker.shadow import Mirror


class FleetError(Exception):
    """A fleet that does not come up; the text is the endpoint's FailureReason."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One variant as it shall run: of which endpoint, by which configuration."""

    endpoint: str
    config: str
    name: str
    runnable: Runnable


class Fleet:
    """The model servers of one variant, one an instance; `weight` is the variant's in its endpoint's traffic."""

    on_demand: ClassVar[bool] = False  # without instances of its own (`serverless`)

    def __init__(self, cloud: Cloud, variant: Variant, weight: float) -> None:
        """Fetch the model; `scale` starts instances. `FleetError` if role or archive cannot be used."""
        self.variant, self.weight = variant, weight
        self.capture: Capture | None = None
        self.mirror: Mirror | None = None
        self.desired = 0
        try:
            self.session = roles.assume(variant.runnable.role, "sagemaker", "SageMaker")
        except roles.AccessDeniedError as error:
            raise FleetError(str(error)) from None
        self._cloud = cloud
        self._instances: list[Instance] = []
        self._outputs: dict[Instance, logs.Stream] = {}  # of all that is started and not yet ended
        self._active: int | None = None
        self._change = threading.Condition()
        self._scaling = threading.Lock()
        self._abandoned = threading.Event()
        self._work = tempfile.TemporaryDirectory(prefix="model-", dir=cloud.place.folder / "work")
        try:
            self._fetch(Path(self._work.name))
        except BaseException:
            self._work.cleanup()
            raise

    @property
    def capacity(self) -> int:
        """How many instances run."""
        return len(self._instances)

    @property
    def lost(self) -> str | None:
        """Why an instance could not be started again, if that is so."""
        return next((instance.lost for instance in list(self._instances) if instance.lost), None)

    @property
    def log_group(self) -> str:
        """Where the containers' output lands."""
        return f"/aws/sagemaker/Endpoints/{self.variant.endpoint}"

    def scale(self, instances: int) -> None:
        """Start or end instances until so many run, and return when they are healthy, or gone.

        `FleetError` if they do not start: then as many run as before. Who ends answers first what it was asked.
        """
        with self._scaling:
            self.desired = instances
            try:
                if self.mirror and instances:
                    self.mirror.start()
                if instances > self.capacity:
                    self._grow(instances - self.capacity)
                else:
                    self._shrink(instances)
            finally:
                self.desired = self.capacity

    def activate(self, instances: int | None) -> None:
        """Let only so many of the instances have traffic; None lets all."""
        self._active = instances

    def take(self, tried: Instance | None = None, below: float = math.inf) -> Instance | None:
        """A healthy instance with the fewest requests in flight, fewer than `below`; `leave` gives it back.

        Not the one already tried.
        """
        with self._change:
            ready = [it for it in self._instances[: self._active] if it.healthy and it is not tried]
            ready = [it for it in ready if it.in_flight < below]
            if not ready:
                return None
            chosen = min(ready, key=lambda it: (it.in_flight, random.random()))  # noqa: S311 - of equal ones any
            chosen.in_flight += 1
            return chosen

    def leave(self, instance: Instance) -> None:
        """The request of `take` is over."""
        with self._change:
            instance.in_flight -= 1
            self._change.notify_all()

    def close(self) -> None:
        """End every process; requests in flight are answered first, and what was captured is written."""
        self.scale(0)
        if self.mirror:
            self.mirror.close()
        self._work.cleanup()
        if self.capture:
            self.capture.flush()

    def abandon(self) -> None:
        """End every process when the cloud ends: nobody takes logs and captures any more."""
        self._abandoned.set()
        ending = list(self._outputs)
        for instance in ending:
            instance.end()
        for instance in ending:
            instance.join()
        self._work.cleanup()

    def _grow(self, number: int) -> None:
        started = self._healthy(number)
        with self._change:
            self._instances += started

    def _healthy(self, number: int) -> list[Instance]:
        """New ones, all at once: a server takes a second to start. `FleetError` if one of them does not."""
        started = [self._launch() for _ in range(number)]
        failed: list[Exception] = []
        for instance in started:
            try:
                instance.wait()
            except Exception as error:  # noqa: BLE001 - raised below, when all are ended
                self._outputs[instance].write(str(error))
                failed.append(error)
        if failed:
            self._end(started)
            if not isinstance(failed[0], endpoint.EndpointError):
                raise failed[0]
            raise FleetError(
                f"The primary container for production variant {self.variant.name} did not pass the ping health check. "
                "Please check CloudWatch logs for this endpoint."
            )
        return started

    def _shrink(self, instances: int) -> None:
        with self._change:
            ending, self._instances = self._instances[instances:], self._instances[:instances]
            deadline = time.monotonic() + SECONDS_TO_ANSWER
            while any(it.in_flight for it in ending) and (left := deadline - time.monotonic()) > 0:
                self._change.wait(left)
        self._end(ending)

    def _end(self, instances: list[Instance]) -> None:
        for instance in instances:
            instance.end()
        for instance in instances:
            instance.join()
            self._outputs.pop(instance).close()

    def _launch(self) -> Instance:
        runnable, name = self.variant.runnable, f"{self.variant.name}/i-{uuid.uuid4().hex[:17]}"
        output = logs.Stream(self.session, self._cloud.place, self.log_group, name)
        # An isolated container gets no credentials ("Network Isolation").
        credentials = (
            {} if runnable.isolated else self._cloud.place.environment() | self.session.environment()
        )

        def serve() -> AbstractContextManager[endpoint.Endpoint]:
            if self._abandoned.is_set():
                raise endpoint.EndpointError("The cloud ends.")
            return endpoint.start(
                Path(self._work.name),
                environment={**credentials, **runnable.environment},
                python=self._cloud.python,
                on_line=lambda line: None if self._abandoned.is_set() else output.write(line),
            )

        instance = Instance(serve)
        self._outputs[instance] = output
        return instance

    def _fetch(self, folder: Path) -> None:
        url = self.variant.runnable.data
        bucket, key = storage.split(url)
        with tempfile.TemporaryFile(dir=folder.parent) as file:
            try:
                self.session.client("s3", self._cloud.place).download_fileobj(bucket, key, file)
            except ClientError:
                raise FleetError(
                    f'Failed to download model data for container "container_1" from URL: "{url}". Please ensure that '
                    "there is an object located at the URL and that the role passed to CreateModel has permissions to "
                    "download the model data."
                ) from None
            file.seek(0)
            try:
                archive.unpack(file, folder)
            except (tarfile.TarError, EOFError, OSError):
                raise FleetError(
                    f'Failed to extract model data archive from URL "{url}". Please ensure that the object located at '
                    "the URL is a valid tar.gz archive."
                ) from None
