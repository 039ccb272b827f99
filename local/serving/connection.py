"""One client's connection: what it sent and was not answered yet, and what of an answer it did not take yet."""

from __future__ import annotations

import socket
from http import HTTPStatus

from local.serving.messages import BODY_LIMIT, CONTINUE, HEAD_LIMIT, Head, RequestError, parse

CHUNK = 1 << 16
_END = b"\r\n\r\n"


class Connection:
    """Bytes in and out of a socket that never blocks. `task` is the request that is being answered, if any."""

    def __init__(self, client: socket.socket, deadline: float) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.socket, self.deadline = client, deadline
        self.received = bytearray()
        self.task: object | None = None
        self.unsent = b""
        self.last = False  # the request at hand is the last one on this connection
        self.closing = False  # the answer at hand ends it
        self.ended = False  # the client sends no more
        self.watched = 0  # the events it is registered for
        self._head: Head | None = None

    @property
    def idle(self) -> bool:
        """Whether it is between two requests."""
        return self.task is None and not self.received and self._head is None

    @property
    def ready(self) -> bool:
        """Whether its next request may be looked at."""
        return self.task is None and not self.unsent and not self.closing

    def receive(self) -> bytes | None:
        """What has arrived: b"" at the client's end, None if nothing; `OSError` if the connection is broken."""
        try:
            return self.socket.recv(CHUNK)
        except BlockingIOError:
            return None

    def send(self, data: bytes) -> None:
        """Send what fits and keep the rest as `unsent`; a client that is gone gets nothing."""
        data = self.unsent + data
        try:
            self.unsent = data[self.socket.send(data) :]
        except BlockingIOError:
            self.unsent = data
        except OSError:
            self.unsent = b""
            self.closing = True

    def shut(self) -> bool:
        """Tell the client that nothing follows; whether there is still a client."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def request(self) -> tuple[Head, bytes] | None:
        """The next request, if all of it is here; `RequestError` if it is refused."""
        received = self.received
        if self._head is None:
            while received.startswith(b"\r\n"):
                del received[:2]
            end = received.find(_END, 0, HEAD_LIMIT + len(_END))
            if end < 0:
                if len(received) > HEAD_LIMIT:
                    raise _too_long(received)
                return None
            head = parse(bytes(received[:end]))
            del received[: end + len(_END)]
            self._head = head
            if head.waits:
                self.send(CONTINUE)
        else:
            head = self._head
        if len(received) < head.length:
            return None
        body = bytes(received[: head.length])
        del received[: head.length]
        self._head = None
        return head, body

    @property
    def flooded(self) -> bool:
        """Whether the client goes on sending while it owes us its patience."""
        return len(self.received) > HEAD_LIMIT + BODY_LIMIT + CHUNK


def _too_long(received: bytearray) -> RequestError:
    if b"\r\n" in received[:HEAD_LIMIT]:
        reason = f"the headers are longer than {HEAD_LIMIT:,} bytes."
        return RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    return RequestError(
        HTTPStatus.REQUEST_URI_TOO_LONG, f"the request line is longer than {HEAD_LIMIT:,} bytes."
    )
