"""What the server's one thread waits for: sockets, time, and to be woken."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Events:
    """Which sockets are waited for, and who is told when one is ready.

    One thread uses it, but for `wake`. Who is told may have ended its socket a moment ago: both may be in one `wait`.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self.watch(self._woken, READ, lambda _: self._woken.recv(4096))

    def watch(self, opened: socket.socket, events: int, ready: Callable[[int], object]) -> None:
        """Wait for these events from now on, and tell `ready` which of them have come."""
        self._selector.register(opened, events, ready)

    def change(self, opened: socket.socket, events: int, ready: Callable[[int], object]) -> None:
        """Wait for other events of a socket that is watched."""
        self._selector.modify(opened, events, ready)

    def forget(self, opened: socket.socket) -> None:
        """Wait for nothing of a socket that is watched."""
        self._selector.unregister(opened)

    def wait(self, seconds: float) -> None:
        """Handle what happens, or return after some seconds, or when woken."""
        for key, events in self._selector.select(seconds):
            key.data(events)

    def wake(self) -> None:
        """End a `wait`; any thread and a signal handler may call it."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # it is awake already, or has ended

    def close(self) -> None:
        """Wait for nothing any more."""
        for opened in (self._selector, self._waker, self._woken):
            opened.close()
