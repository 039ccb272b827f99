"""The connections that are open: accepted up to a limit, watched for what each needs next, dropped."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Iterator

from local.serving.connection import Connection
from local.serving.events import READ, WRITE, Events
from local.serving.limits import Limits

BACKLOG = 128


class Connections:
    """A listening socket on 127.0.0.1, and the connections that came over it.

    Beyond `limits.connections`, as many again are accepted to be told so (`refused`), and further ones are closed.
    `ready` is called with a connection and the events that it was watched for.
    """

    def __init__(
        self, port: int, limits: Limits, events: Events, *, ready: Callable[[Connection, int], None]
    ) -> None:
        self._limits, self._events, self._ready = limits, events, ready
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._held: set[Connection] = set()
        self._refused: set[Connection] = set()

    def __iter__(self) -> Iterator[Connection]:
        """All of them as they are now: they may be dropped meanwhile."""
        return iter([*self._held, *self._refused])

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._held or connection in self._refused

    def listen(self, *, refuse: Callable[[Connection], None]) -> None:
        """Begin to accept; `refuse` gets the connections beyond the limit."""
        self._events.watch(self._listener, READ, lambda _: self._accept(refuse))

    def watch(self, connection: Connection) -> None:
        """Wait for the client's next bytes, unless there will be none, and for room for what is unsent."""
        events = (0 if connection.ended else READ) | (WRITE if connection.unsent else 0)
        if events == connection.watched:
            return
        handle = functools.partial(self._ready, connection)
        if not connection.watched:
            self._events.watch(connection.socket, events, handle)
        elif not events:
            self._events.forget(connection.socket)
        else:
            self._events.change(connection.socket, events, handle)
        connection.watched = events

    def drop(self, connection: Connection) -> object | None:
        """Close one; returns its task, which nobody will answer any more."""
        task, connection.task = connection.task, None
        connection.closing = True
        if connection.watched:
            self._events.forget(connection.socket)
            connection.watched = 0
        connection.socket.close()
        self._held.discard(connection)
        self._refused.discard(connection)
        return task

    def close(self) -> None:
        """Drop all, and listen no more."""
        for connection in self:
            self.drop(connection)
        self._events.forget(self._listener)
        self._listener.close()

    def _accept(self, refuse: Callable[[Connection], None]) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                time.sleep(0.1)  # no descriptor is left, or the client is gone already
                return
            limit = self._limits.connections
            if len(self._held) < limit:
                connection = Connection(client, time.monotonic() + self._limits.idle)
                self._held.add(connection)
                self.watch(connection)
            elif len(self._refused) < limit:
                connection = Connection(client, time.monotonic() + self._limits.closing)
                self._refused.add(connection)
                refuse(connection)
            else:
                client.close()
