"""A served model: the process of `local.server`, from its start to its end, and a client on one connection."""

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
# What the model's process is given besides its own environment: nothing of ours that could hide a missing module.
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
LAST_LINES = 100
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
# As AWS: SIGTERM, and SIGKILL 30 seconds later. The server needs at most 25 of them.
STOP_SECONDS = 30.0


class EndpointError(Exception):
    """The endpoint did not start, or did not answer a request with success; the message has the reason."""


class Endpoint:
    """A client of one running server: requests go over one kept-alive connection."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ping(self) -> None:
        """Return if the model predicts; `EndpointError` with its reason if not."""
        self._exchange("GET", "/ping", None, {})

    def invoke(self, body: bytes, *, content_type: str, accept: str) -> bytes:
        """The prediction for one request body, as `accept`."""
        headers = {"Content-Type": content_type, "Accept": accept}
        return self._exchange("POST", "/invocations", body, headers)

    def close(self) -> None:
        """Close the connection; the server goes on."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        self._connection.request(method, path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.HTTPStatus.OK:
            raise EndpointError(f"{self.url}{path}: {response.status}: {answer.decode(errors='replace')}")
        return answer


@contextlib.contextmanager
def start(
    model: Path,
    *,
    environment: Mapping[str, str],
    probe: Path | None = None,
    seconds: float = 60,
    python: Path = Path(sys.executable),
    on_line: Callable[[str], None] = lambda _: None,
) -> Iterator[Endpoint]:
    """Serve a model directory on a free port until the block ends; `EndpointError` if it is not healthy in time.

    The server also stops by itself when this process dies, however it dies. `on_line` gets what it and its model write,
    to standard output or error, as the log of AWS's container does; on threads.
    """
    command = [str(python), str(ROOT / "local" / "server.py"), "--model", str(model), "--port", "0"]
    command += ["--stop-with-parent", *(["--probe", str(probe)] if probe else [])]
    env = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(environment)
    said: deque[str] = deque(maxlen=LAST_LINES)
    port: Future[int] = Future()

    def hear(line: str) -> None:
        said.append(line)
        on_line(line)

    def hear_the_port(line: str) -> None:
        if (listening := LISTENING.fullmatch(line)) and not port.done():
            port.set_result(int(listening[1]))
        else:
            hear(line)

    with subprocess.Popen(
        command, cwd=model, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # Read all the time: a full pipe would stop the server.
        readers = [
            threading.Thread(target=_read, args=(process.stderr, hear, lambda: None), daemon=True),
            threading.Thread(target=_read, args=(process.stdout, hear_the_port, port.cancel), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            try:
                endpoint = Endpoint(port.result(seconds))
            except (TimeoutError, CancelledError):
                process.kill()
                for reader in readers:
                    reader.join()
                reason = "\n".join(said) or "it said nothing"
                raise EndpointError(
                    f"the model server did not start within {seconds:.0f} s: {reason}"
                ) from None
            try:
                endpoint.ping()
                yield endpoint
            finally:
                endpoint.close()
        finally:
            _stop(process)
            for reader in readers:
                reader.join()


def _read(output: IO[bytes], hear: Callable[[str], None], ended: Callable[[], object]) -> None:
    for line in output:
        hear(line.decode(errors="replace").rstrip("\n"))
    ended()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
