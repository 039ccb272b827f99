"""A closed-loop HTTP client: so many connections, kept alive, each sending its next request when it has its answer.

One process, one thread, sockets without a library: what the client costs is little, and the same for every server.
"""

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass
class Measured:
    """What a load saw: how long each answer took (seconds), for how long it ran, how many were no 200."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    errors: int = 0

    def add(self, other: "Measured") -> None:
        """Count another load of the same kind in."""
        self.latencies += other.latencies
        self.seconds += other.seconds
        self.errors += other.errors


def request(path: str, content_type: str, body: bytes) -> bytes:
    """A whole POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nAccept: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One connection, and the request that it waits for."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._received = b""
        self._sent = 0.0

    def send(self, data: bytes) -> None:
        """Send the next request."""
        self._received = b""
        self._sent = time.perf_counter()
        self.socket.sendall(data)

    def receive(self) -> tuple[float, bytes] | None:
        """Read what there is: the answer's latency and bytes once it is whole."""
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionError("the server closed the connection before its answer was whole")
        self._received += more
        head, end, body = self._received.partition(_END)
        if not end or len(body) < _length(head):
            return None
        return time.perf_counter() - self._sent, self._received


def once(port: int, data: bytes) -> tuple[int, bytes]:
    """The status and body of one request on a connection of its own."""
    client = Client(port)
    with client.socket:
        client.send(data)
        while (answer := client.receive()) is None:
            continue
    head, _, body = answer[1].partition(_END)
    return int(head.split(b" ", 2)[1]), body


def run(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Measured:
    """Load a server for some seconds; what is under way then is awaited, but not counted."""
    measured = Measured()
    number = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            client = Client(port)
            selector.register(client.socket, selectors.EVENT_READ, client)
        started = time.perf_counter()
        for key in list(selector.get_map().values()):
            key.data.send(requests[number % len(requests)])
            number += 1
        while selector.get_map():
            for key, _ in selector.select():
                if (answer := key.data.receive()) is None:
                    continue
                latency, received = answer
                if time.perf_counter() - started >= seconds:
                    selector.unregister(key.data.socket)
                    key.data.socket.close()
                    continue
                measured.latencies.append(latency)
                measured.errors += not received.startswith(b"HTTP/1.1 200")
                key.data.send(requests[number % len(requests)])
                number += 1
    measured.seconds = seconds
    return measured


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(_LENGTH) + len(_LENGTH)
    return int(lower[start:].partition(b"\r\n")[0])
