"""One process that predicts: its own loop, and the server's end of it. They exchange frames over a pair of sockets."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from http import HTTPStatus

from local.serving.events import READ, WRITE, Events
from local.serving.messages import Answer

CHUNK = 1 << 16
_REQUEST = struct.Struct("!QII")  # bytes of the body, of the content type and of what is accepted
_ANSWER = struct.Struct("!HIQ")  # the status, bytes of the type and of the body

# The answer to a body of a content type, as a type that is accepted.
Predict = Callable[[bytes, str, str], Answer]


def work(server: socket.socket, predict: Predict) -> None:
    """Answer one request after another until the server closes its end: this is all that a worker's process does."""
    with server.makefile("rb", CHUNK) as requests:
        while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
            sizes = _REQUEST.unpack(head)
            body, kind, accept = (requests.read(size) for size in sizes)
            if (len(body), len(kind), len(accept)) != sizes:
                return
            answer = predict(body, kind.decode("latin-1"), accept.decode("latin-1"))
            sys.stdout.flush()  # what the model printed; a killed process would take it along
            type_ = answer.type.encode("latin-1")
            head = _ANSWER.pack(answer.status, len(type_), len(answer.body))
            server.sendall(b"".join((head, type_, answer.body)))


class Worker:
    """The server's end of one process: it is asked one request at a time, and nothing here waits for it.

    `answered` is told its answer, `ended` that the process ended by itself, and how: "with exit code 3".
    """

    def __init__(
        self,
        pid: int,
        process: socket.socket,
        events: Events,
        *,
        answered: Callable[[Worker, Answer], None],
        ended: Callable[[Worker, str], None],
    ) -> None:
        process.setblocking(False)
        self._pid, self._process, self._events = pid, process, events
        self._answered, self._ended = answered, ended
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._alive = True
        events.watch(process, READ, self._turn)

    def ask(self, body: bytes, content_type: str, accept: str) -> None:
        """Send a request: what does not fit now follows as the process takes it."""
        kind, accepted = content_type.encode("latin-1"), accept.encode("latin-1")
        head = _REQUEST.pack(len(body), len(kind), len(accepted))
        self._unsent = memoryview(b"".join((head, body, kind, accepted)))
        self._send()
        if self._unsent:
            self._events.change(self._process, READ | WRITE, self._turn)

    def end(self) -> str:
        """End the process at once, whatever it does, and say how it ended, which it may have done before."""
        self._alive = False
        self._events.forget(self._process)
        self._process.close()
        os.kill(self._pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return f"with exit code {code}" if code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"

    def _turn(self, events: int) -> None:
        if not self._alive:
            return
        if events & WRITE:
            self._send()
            if not self._unsent:
                self._events.change(self._process, READ, self._turn)
        if events & READ:
            try:
                data = self._process.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:  # it ended with bytes unread
                data = b""
            if not data:
                self._ended(self, self.end())
                return
            self._received += data
            if (answer := self._answer()) is not None:
                self._answered(self, answer)

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._process.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")  # it has ended, which reading tells

    def _answer(self) -> Answer | None:
        """The answer, if all of it is here."""
        received = self._received
        if len(received) < _ANSWER.size:
            return None
        status, type_length, length = _ANSWER.unpack_from(received)
        body = _ANSWER.size + type_length
        if len(received) < body + length:
            return None
        self._received = bytearray()
        type_ = received[_ANSWER.size : body].decode("latin-1")
        return Answer(HTTPStatus(status), bytes(memoryview(received)[body:]), type_)
