"""The processes that answer for one variant of an endpoint: started from a model's archive, kept, ended with the fleet."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path

from botocore.exceptions import ClientError

from local import endpoint
from local.cloud import logs, roles
from local.cloud.extensions import Cloud
from local.cloud.sagemaker.capture import Capture
from local.cloud.sagemaker.models import Runnable
from local.runner import storage
from pipeline import archive

# "How containers should respond to inference requests": a container answers within 60 seconds.
SECONDS_TO_ANSWER = 60.0
PING_SECONDS = 1.0  # AWS does not say how often it asks
_CONNECTIONS = 24  # to one instance; the model server takes 32


class FleetError(Exception):
    """A fleet that does not come up; the text is the endpoint's FailureReason."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the container answered: anything but 2xx is a model error."""

    status: int
    content_type: str
    attributes: str | None
    body: bytes


@dataclasses.dataclass(frozen=True)
class Variant:
    """One variant as it shall run."""

    endpoint: str
    name: str
    instances: int
    runnable: Runnable


class Fleet:
    """As many model servers as the variant has instances, and its share of the traffic: `weight`."""

    def __init__(self, cloud: Cloud, variant: Variant, weight: float) -> None:
        """Start every instance and wait until it passes its health check; `FleetError` leaves none running."""
        self.variant, self.weight = variant, weight
        self.capture: Capture | None = None
        try:
            self.session = roles.assume(variant.runnable.role, "sagemaker", "SageMaker")
        except roles.AccessDeniedError as error:
            raise FleetError(str(error)) from None
        self._cloud = cloud
        self._outputs: list[logs.Stream] = []
        self._abandoned = threading.Event()
        with contextlib.ExitStack() as started:
            work = cloud.place.folder / "work"
            folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="model-", dir=work)))
            self._fetch(folder)
            self._instances = [self._start(started, folder) for _ in range(variant.instances)]
            self._turns = itertools.count()
            self._ending = started.pop_all()

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer of the next healthy instance; `TimeoutError` or another `OSError` if there is none."""
        healthy = [instance for instance in self._instances if instance.healthy] or self._instances
        return healthy[next(self._turns) % len(healthy)].post(body, headers)

    def close(self) -> None:
        """End every process; requests in flight are answered first, and what was captured is written."""
        self._ending.close()
        for output in self._outputs:
            output.close()
        if self.capture:
            self.capture.flush()

    def abandon(self) -> None:
        """End every process when the cloud ends: nobody takes logs and captures any more."""
        self._abandoned.set()
        self._ending.close()

    @property
    def log_group(self) -> str:
        """Where the containers' output lands."""
        return f"/aws/sagemaker/Endpoints/{self.variant.endpoint}"

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

    def _start(self, started: contextlib.ExitStack, folder: Path) -> _Instance:
        runnable, name = self.variant.runnable, f"{self.variant.name}/i-{uuid.uuid4().hex[:17]}"
        output = logs.Stream(self.session, self._cloud.place, self.log_group, name)
        self._outputs.append(output)
        # An isolated container gets no credentials ("Network Isolation").
        credentials = (
            {} if runnable.isolated else self._cloud.place.environment() | self.session.environment()
        )

        def serve() -> AbstractContextManager[endpoint.Endpoint]:
            return endpoint.start(
                folder,
                environment={**credentials, **runnable.environment},
                python=self._cloud.python,
                on_line=lambda line: None if self._abandoned.is_set() else output.write(line),
            )

        try:
            instance = _Instance(serve)
        except endpoint.EndpointError as error:
            output.write(str(error))
            output.close()
            raise FleetError(
                f"The primary container for production variant {self.variant.name} did not pass the ping health check. "
                "Please check CloudWatch logs for this endpoint."
            ) from None
        started.callback(instance.close)
        return instance


class _Instance:
    """One model server, and a client of it for many threads: a connection is used by one at a time, and kept.

    A server that does not answer its ping any more is ended, and another one started in its place.
    """

    def __init__(self, serve: Callable[[], AbstractContextManager[endpoint.Endpoint]]) -> None:
        self.healthy = False
        self._port = 0
        self._idle: list[http.client.HTTPConnection] = []
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        self._ending = threading.Event()
        first: Future[None] = Future()
        self._keeper = threading.Thread(target=self._keep, args=(serve, first), daemon=True, name="instance")
        self._keeper.start()
        first.result()

    def _keep(
        self, serve: Callable[[], AbstractContextManager[endpoint.Endpoint]], first: Future[None]
    ) -> None:
        while not self._ending.is_set():
            try:
                with serve() as served:
                    self._port, self.healthy = int(served.url.rsplit(":", 1)[1]), True
                    if not first.done():
                        first.set_result(None)
                    while not self._ending.wait(PING_SECONDS):
                        # A model that fails is no server that fails: AWS's server goes on answering its ping.
                        with contextlib.suppress(endpoint.EndpointError):
                            served.ping()
            except Exception as error:  # noqa: BLE001 - whatever ended it, another one is started
                self.healthy = False
                if not first.done():
                    first.set_exception(error)
                    return
                self._ending.wait(PING_SECONDS)  # one that cannot start is not started all the time

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        with self._slots:
            while True:
                try:
                    connection, fresh = self._idle.pop(), False
                except IndexError:
                    connection, fresh = self._connect(), True
                try:
                    answer = self._exchange(connection, body, headers)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    if isinstance(error, TimeoutError):
                        raise
                    if fresh:
                        raise ConnectionError(str(error)) from error
                    continue  # the server closes idle connections: try the next, and a new one at last
                self._idle.append(connection)
                return answer

    def close(self) -> None:
        self._ending.set()
        self._keeper.join()
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS_TO_ANSWER)

    @staticmethod
    def _exchange(connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection.request("POST", "/invocations", body=body, headers=dict(headers))
        response = connection.getresponse()
        return Answer(
            response.status,
            response.getheader("Content-Type", "application/octet-stream"),
            response.getheader("X-Amzn-SageMaker-Custom-Attributes"),
            response.read(),
        )
