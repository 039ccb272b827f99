"""One model server, kept alive, and a client of it for many threads: a connection is used by one at a time, and kept."""

from __future__ import annotations

import dataclasses
import http.client
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager

from local import endpoint
from local.serving.limits import CONNECTIONS

# "How containers should respond to inference requests": a container answers within 60 seconds.
SECONDS_TO_ANSWER = 60.0
PING_SECONDS = 1.0  # AWS does not say how often it asks

Serve = Callable[[], AbstractContextManager[endpoint.Endpoint]]


class BrokenError(ConnectionError):
    """The connection broke before anything was answered: another instance may be asked."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the container answered: anything but 2xx is a model error."""

    status: int
    content_type: str
    attributes: str | None
    body: bytes


class Instance:
    """A server that does not answer its ping any more is ended, and another one started in its place.

    `in_flight` belongs to the fleet, which counts. `lost` says why it could not be started again.
    """

    def __init__(self, serve: Serve) -> None:
        self.healthy, self.in_flight = False, 0
        self.lost: str | None = None
        self._serve = serve
        self._port = 0
        self._idle: list[http.client.HTTPConnection] = []
        self._slots = threading.BoundedSemaphore(CONNECTIONS - 1)  # one is the ping's
        self._ending, self._look = threading.Event(), threading.Event()
        self._first: Future[None] = Future()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="instance")
        self._keeper.start()

    def wait(self) -> None:
        """Return when it is healthy for the first time; raises what kept it from starting."""
        self._first.result()

    def doubt(self) -> None:
        """A connection broke: no traffic until it has answered a ping, which it is asked at once."""
        self.healthy = False
        self._look.set()

    def post(self, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS_TO_ANSWER) -> Answer:
        """The container's answer; `BrokenError` if there was none at all, another `OSError` if it is late or cut off."""
        with self._slots:
            while True:
                try:
                    connection, fresh = self._idle.pop(), False
                except IndexError:
                    connection, fresh = http.client.HTTPConnection("127.0.0.1", self._port), True
                connection.timeout = seconds
                if connection.sock:
                    connection.sock.settimeout(seconds)
                try:
                    connection.request("POST", "/invocations", body=body, headers=dict(headers))
                    response = connection.getresponse()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    if isinstance(error, TimeoutError):
                        raise
                    if fresh:
                        raise BrokenError(str(error)) from error
                    continue  # the server closes idle connections: try the next, and a new one at last
                return self._read(connection, response)

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> Answer:
        try:
            answer = Answer(
                response.status,
                response.getheader("Content-Type", "application/octet-stream"),
                response.getheader("X-Amzn-SageMaker-Custom-Attributes"),
                response.read(),
            )
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionAbortedError(str(error)) from error
        self._idle.append(connection)
        return answer

    def end(self) -> None:
        """Let the server end; `join` waits for it."""
        self._ending.set()
        self._look.set()

    def join(self) -> None:
        """Wait until the server is gone."""
        self._keeper.join()
        while self._idle:
            self._idle.pop().close()

    def _keep(self) -> None:
        while not self._ending.is_set():
            try:
                with self._serve() as served:
                    self._port, self.lost, self.healthy = int(served.url.rsplit(":", 1)[1]), None, True
                    if not self._first.done():
                        self._first.set_result(None)
                    self._watch(served)
                    self.healthy = False
            except Exception as error:  # noqa: BLE001 - it did not start, for whatever reason
                self.lost = str(error)
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                self._ending.wait(PING_SECONDS)  # one that cannot start is not started all the time

    def _watch(self, served: endpoint.Endpoint) -> None:
        """Ask it until it is to end, or does not answer."""
        while True:
            self._look.wait(PING_SECONDS)
            self._look.clear()
            if self._ending.is_set():
                return
            try:
                served.ping()
            except endpoint.EndpointError:
                pass  # a model that fails is no server that fails: AWS's server goes on answering its ping
            except (OSError, http.client.HTTPException):
                return
            self.healthy = True
