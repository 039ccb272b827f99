"""The server: one loop over all clients and workers, which hands over whole requests and keeps every deadline."""

from __future__ import annotations

import time
from http import HTTPStatus

from local.serving.connection import Connection
from local.serving.connections import Connections
from local.serving.events import READ, WRITE, Events
from local.serving.forks import Forks, descriptors
from local.serving.health import Health, unhealthy
from local.serving.limits import Limits
from local.serving.messages import JSON, Answer, Head, RequestError, refusal, render
from local.serving.model import Model
from local.serving.workers import Job, Workers

# How often deadlines are looked at, in seconds.
TICK = 0.1
STOPPING = "this server is stopping. Try another instance."
_PING = "a ping"  # the task of a connection that waits for the health check


class Server:
    """Serves one model on 127.0.0.1; `port` 0 takes a free one. `probe` is a JSON request that `/ping` predicts.

    A slow client costs a connection, not a worker: a request goes to one when all of it has arrived. Only one thread
    of this process is the server's; the workers are processes, forked from it.
    """

    def __init__(
        self, model: Model, *, port: int = 0, probe: bytes | None = None, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        models_own = descriptors()
        self._events = Events()
        self._connections = Connections(port, self._limits, self._events, ready=self._turn)
        self.port = self._connections.port
        self._pings: list[Connection] = []
        self._stops = 0
        self._stopping = False
        self._forks = Forks(model.predict, self._events, kept=models_own)
        self._workers = Workers(self._forks, self._give, self._limits)
        self._health = Health(self._forks, self._workers, self._limits, probe=probe)

    def stop(self) -> None:
        """Ask `run` to drain and return; a second time, to return at once. A signal handler may call it."""
        self._stops += 1
        self._events.wake()

    def run(self) -> int:
        """Serve until stopped: then answer 503 to all but what is predicted, and wait for that for `limits.drain`.

        Returns how many admitted requests were left without an answer.
        """
        self._connections.listen(refuse=self._refuse_connection)
        try:
            self._serve()
        finally:
            unanswered = self._close()
        return unanswered

    def _serve(self) -> None:
        tick, end = time.monotonic() + TICK, float("inf")
        while True:
            self._events.wait(TICK)
            now = time.monotonic()
            if self._stops and not self._stopping:
                end = now + self._limits.drain
                self._begin_drain()
            self._answer_pings(now)
            if now >= tick:
                tick = now + TICK
                self._tick(now)
            if self._stopping and (self._stops > 1 or now > end or self._drained()):
                return

    # --- connections --------------------------------------------------------------------------------------------

    def _refuse_connection(self, connection: Connection) -> None:
        reason = f"all {self._limits.connections} connections are in use. Reuse one, or try again."
        self._refuse(connection, refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=1))

    def _turn(self, connection: Connection, events: int) -> None:
        """Take what a client sent, or send it what it takes now."""
        if events & WRITE:
            connection.send(b"")
        if events & READ:
            try:
                data = connection.receive()
            except OSError:
                self._drop(connection)
                return
            if data is None or (data and connection.closing):
                return  # nothing, or what a refused client still sends
            if data:
                if connection.idle:
                    connection.deadline = time.monotonic() + self._limits.request
                connection.received += data
                if connection.flooded:
                    self._drop(connection)
                    return
            else:
                connection.ended = True
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Answer what can be answered, then wait for what the connection needs next, or end it."""
        if connection not in self._connections:
            return
        while connection.ready:
            try:
                request = connection.request()
            except RequestError as error:
                connection.last = True
                self._reply(connection, refusal(error.status, str(error)))
                break
            if request is None:
                break
            self._route(connection, *request)
        # The client reads the answer to its end and closes; a close with bytes unread would reset it instead.
        answered = connection.task is None and not connection.unsent
        if answered and (connection.ended or (connection.closing and not connection.shut())):
            self._drop(connection)
        else:
            self._connections.watch(connection)

    def _drop(self, connection: Connection) -> None:
        task = self._connections.drop(connection)
        if isinstance(task, Job):
            self._workers.cancel(task)

    # --- requests -----------------------------------------------------------------------------------------------

    def _route(self, connection: Connection, head: Head, body: bytes) -> None:
        connection.last = head.last
        if head.path not in {"/ping", "/invocations"}:
            reason = f"{head.path[:50]}: there are only /ping and /invocations."
            self._reply(connection, refusal(HTTPStatus.NOT_FOUND, reason))
        elif head.path == "/ping":
            if head.method == "GET":
                self._ping(connection)
            else:
                self._reply(connection, refusal(HTTPStatus.METHOD_NOT_ALLOWED, "/ping takes GET."))
        elif head.method == "POST":
            self._invoke(connection, head, body)
        else:
            self._reply(connection, refusal(HTTPStatus.METHOD_NOT_ALLOWED, "/invocations takes POST."))

    def _invoke(self, connection: Connection, head: Head, body: bytes) -> None:
        if self._stopping:
            self._reply(connection, unhealthy("stopping", STOPPING))
            return
        kind = head.headers.get("content-type") or JSON
        job = Job(connection, body, kind, head.headers.get("accept", ""), time.monotonic())
        connection.task = job
        if full := self._workers.admit(job):
            self._answer(connection, job, full)

    def _ping(self, connection: Connection) -> None:
        verdict = (
            unhealthy("stopping", STOPPING) if self._stopping else self._health.verdict(time.monotonic())
        )
        if verdict is not None:
            self._reply(connection, verdict)
            return
        connection.task = _PING
        self._pings.append(connection)

    def _reply(self, connection: Connection, answer: Answer) -> None:
        """Answer a request that no worker has; the caller advances the connection."""
        self._answer(connection, connection.task, answer)

    def _refuse(self, connection: Connection, answer: Answer) -> None:
        """Answer, whatever of the request has arrived, and end the connection."""
        connection.last = True
        self._reply(connection, answer)
        self._advance(connection)

    def _give(self, job: Job, answer: Answer) -> None:
        """Send what a worker answered, or what became of the worker, and see what its client needs next."""
        connection: Connection = job.client
        self._answer(connection, job, answer)
        self._advance(connection)

    def _answer(self, connection: Connection, task: object, answer: Answer) -> None:
        """Send an answer if `task` still waits for it; the caller advances the connection."""
        if connection.task is not task or connection.closing:
            return
        last = connection.last or self._stopping or (connection.ended and not connection.received)
        connection.send(render(answer, last=last))
        connection.closing |= last
        connection.task = None
        more = connection.unsent or connection.received
        limits = self._limits
        connection.deadline = time.monotonic() + (
            limits.request if more else limits.closing if last else limits.idle
        )

    # --- time and the end ---------------------------------------------------------------------------------------

    def _answer_pings(self, now: float) -> None:
        if (verdict := self._health.result(now)) is None:
            return
        pings, self._pings = self._pings, []
        for connection in pings:
            self._answer(connection, _PING, verdict)
            self._advance(connection)

    def _tick(self, now: float) -> None:
        for job in self._workers.late(now):
            reason = f"no answer within {self._limits.answer:g} s, which is the limit. Send fewer records a request."
            self._give(job, refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=1))
        for connection in self._connections:
            if connection.task is None and now > connection.deadline:
                if connection.ready and not connection.idle:
                    reason = f"the request did not arrive within {self._limits.request:g} s."
                    self._refuse(connection, refusal(HTTPStatus.REQUEST_TIMEOUT, reason))
                else:
                    self._drop(connection)

    def _begin_drain(self) -> None:
        self._stopping = True
        told = unhealthy("stopping", STOPPING)
        for job in self._workers.dismiss():
            self._give(job, told)
        for connection in self._connections:
            if connection.task is _PING or (connection.ready and not connection.idle):
                self._refuse(connection, told)

    def _drained(self) -> bool:
        return not any(connection.task or connection.unsent for connection in self._connections)

    def _close(self) -> int:
        unanswered = sum(isinstance(connection.task, Job) for connection in self._connections)
        self._connections.close()
        self._workers.close()
        self._health.close()
        self._forks.close()
        self._events.close()
        return unanswered
