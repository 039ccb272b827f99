"""The server: one loop over all connections, which hands whole requests to the workers and keeps every deadline."""

from __future__ import annotations

import functools
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from local.serving.connection import Connection
from local.serving.health import Health, unhealthy
from local.serving.limits import Limits
from local.serving.messages import JSON, Answer, Head, RequestError, refusal, render
from local.serving.model import Model
from local.serving.workers import Job, Workers

# How often deadlines are looked at, in seconds.
TICK = 0.1
BACKLOG = 128
STOPPING = "this server is stopping. Try another instance."
_PING = "a ping"  # the task of a connection that waits for the health check


class Server:
    """Serves one model on 127.0.0.1; `port` 0 takes a free one. `probe` is a JSON request that `/ping` predicts.

    A slow client costs a connection, not a thread: a request goes to the workers when all of it has arrived.
    """

    def __init__(
        self, model: Model, *, port: int = 0, probe: bytes | None = None, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._connections: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._pings: list[Connection] = []
        self._answered: deque[Connection] = deque()  # by a worker, with something left to do
        self._stops = 0
        self._stopping = False
        self._workers = Workers(
            lambda job: model.predict(job.body, job.content_type, job.accept), self._give, self._limits
        )
        self._health = Health(model, self._workers, self._limits, probe=probe, notify=self._wake)

    @property
    def running(self) -> int:
        """How many workers are in the model's code now."""
        return self._workers.running

    def stop(self) -> None:
        """Ask `run` to drain and return; a second time, to return at once. A signal handler may call it."""
        self._stops += 1
        self._wake()

    def run(self) -> int:
        """Serve until stopped: then answer 503 to all but what is predicted, and wait for that for `limits.drain`.

        Returns how many admitted requests were left without an answer.
        """
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wakened)
        tick, end = time.monotonic() + TICK, float("inf")
        while True:
            for key, events in self._selector.select(TICK):
                key.data(events)
            while self._answered:
                self._advance(self._answered.popleft())
            now = time.monotonic()
            if self._stops and not self._stopping:
                end = now + self._limits.drain
                self._begin_drain()
            if self._pings:
                self._answer_pings(now)
            if now >= tick:
                tick = now + TICK
                self._tick(now)
            if self._stopping and (self._stops > 1 or now > end or self._drained()):
                break
        return self._close()

    # --- connections --------------------------------------------------------------------------------------------

    def _accept(self, _: int) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                time.sleep(TICK)  # no descriptor is left, or the client is gone already
                return
            now = time.monotonic()
            if len(self._connections) < self._limits.connections:
                connection = Connection(client, now + self._limits.idle)
                self._connections.add(connection)
                self._watch(connection)
            elif len(self._refused) < self._limits.connections:
                connection = Connection(client, now + self._limits.closing)
                self._refused.add(connection)
                reason = f"all {self._limits.connections} connections are in use. Reuse one, or try again."
                self._refuse(connection, refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=1))
            else:
                client.close()

    def _turn(self, connection: Connection, events: int) -> None:
        """Take what a client sent, or send it what it takes now."""
        if events & selectors.EVENT_WRITE:
            with connection.lock:
                connection.send(b"")
        if events & selectors.EVENT_READ:
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
                # A worker looks at this when it has answered: one of both sees what came meanwhile.
                with connection.lock:
                    connection.received += data
                if connection.flooded:
                    self._drop(connection)
                    return
            else:
                with connection.lock:
                    connection.ended = True
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Answer what can be answered, then wait for what the connection needs next, or end it."""
        if connection not in self._connections and connection not in self._refused:
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
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        reading = 0 if connection.ended else selectors.EVENT_READ
        events = reading | (selectors.EVENT_WRITE if connection.unsent else 0)
        if events == connection.watched:
            return
        if not connection.watched:
            turn: Callable[[int], None] = functools.partial(self._turn, connection)
            self._selector.register(connection.socket, events, turn)
        elif not events:
            self._selector.unregister(connection.socket)
        else:
            key = self._selector.get_key(connection.socket)
            self._selector.modify(connection.socket, events, key.data)
        connection.watched = events

    def _drop(self, connection: Connection) -> None:
        with connection.lock:
            task, connection.task = connection.task, None
            connection.closing = True
            if connection.watched:
                self._selector.unregister(connection.socket)
            connection.socket.close()
        if isinstance(task, Job):
            self._workers.cancel(task)
        self._connections.discard(connection)
        self._refused.discard(connection)

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
        """A worker's answer, sent on its own thread: only what is left to do goes through the loop."""
        connection: Connection = job.client
        if self._answer(connection, job, answer):
            self._answered.append(connection)
            self._wake()

    def _answer(self, connection: Connection, task: object, answer: Answer) -> bool:
        """Send an answer if `task` still waits for it; whether the loop has something left to do."""
        with connection.lock:
            if connection.task is not task or connection.closing:
                return False
            last = connection.last or self._stopping or (connection.ended and not connection.received)
            connection.send(render(answer, last=last))
            connection.closing |= last
            connection.task = None
            more = bool(connection.unsent or connection.received)
            limits = self._limits
            connection.deadline = time.monotonic() + (
                limits.request if more else limits.closing if last else limits.idle
            )
            return more or connection.closing or connection.ended

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
            self._answer(job.client, job, refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=1))
            self._advance(job.client)
        for connection in [*self._connections, *self._refused]:
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
            self._answer(job.client, job, told)
            self._advance(job.client)
        for connection in list(self._connections):
            if connection.task is _PING or (connection.ready and not connection.idle):
                self._refuse(connection, told)

    def _drained(self) -> bool:
        return not any(connection.task or connection.unsent for connection in self._connections)

    def _close(self) -> int:
        unanswered = sum(isinstance(connection.task, Job) for connection in self._connections)
        for connection in [*self._connections, *self._refused]:
            self._drop(connection)
        self._listener.close()
        self._selector.close()
        return unanswered

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # it is awake already, or has ended

    def _wakened(self, _: int) -> None:
        self._woken.recv(4096)
