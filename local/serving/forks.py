"""Processes of one loaded model: forked when it is loaded, so that they share its memory and none of them loads it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NoReturn

from local.serving.events import Events
from local.serving.messages import Answer
from local.serving.worker import Predict, Worker, work

_STOPS = (signal.SIGINT, signal.SIGTERM)


def descriptors() -> frozenset[int]:
    """The file descriptors that are open now."""
    found = set()
    for path in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that was listing them
            os.fstat(int(path.name))
            found.add(int(path.name))
    return frozenset(found)


class Forks:
    """Forks workers that answer by `predict`. They keep the descriptors in `kept` open, and none of the server's others.

    A worker ends when the server does, however that ends and whatever the worker does: a thread in it waits for the
    end of a pipe that only the server holds. It leaves SIGINT and SIGTERM to the server, which lets it finish.
    """

    def __init__(self, predict: Predict, events: Events, *, kept: AbstractSet[int]) -> None:
        self._predict, self._events = predict, events
        self._lifeline, self._held = os.pipe()
        self._kept = kept | {self._lifeline}

    def fork(
        self, *, answered: Callable[[Worker, Answer], None], ended: Callable[[Worker, str], None]
    ) -> Worker:
        """Fork one; `OSError` if the system has no room for it."""
        sys.stdout.flush()  # or the worker would print it again
        ours, theirs = socket.socketpair()
        # A signal that comes before the worker ignores it would be handled there as here.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(theirs, before)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        return Worker(pid, ours, self._events, answered=answered, ended=ended)

    def close(self) -> None:
        """End what is left of the workers."""
        os.close(self._held)
        os.close(self._lifeline)

    def _live(self, server: socket.socket, before: AbstractSet[int]) -> NoReturn:
        """What the forked process does, all of it: nothing of what called this may run in it, nor at its exit."""
        code = 1
        try:
            gc.freeze()  # a collection would copy the memory that is shared, and end objects of the server
            for stop in _STOPS:
                signal.signal(stop, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for descriptor in descriptors() - self._kept - {server.fileno()}:
                os.close(descriptor)
            threading.Thread(target=self._end_with_the_server, daemon=True).start()
            work(server, self._predict)
            code = 0
        except BaseException:  # noqa: BLE001 — whatever it is, it ends here
            traceback.print_exc()
        finally:
            os._exit(code)

    def _end_with_the_server(self) -> None:
        os.read(self._lifeline, 1)
        os._exit(1)
