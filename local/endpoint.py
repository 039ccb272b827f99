"""A served model: the process of `local.server`, from its start to its end, and a client on one connection."""

import contextlib
import http.client
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).parents[1]
# What the model's process is given besides its own environment: nothing of ours that could hide a missing module.
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


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
    model: Path, *, environment: Mapping[str, str], probe: Path | None = None, seconds: float = 60
) -> Iterator[Endpoint]:
    """Serve a model directory on a free port until the block ends; `EndpointError` if it is not healthy in time.

    The server also stops by itself when this process dies, however it dies.
    """
    command = [sys.executable, str(ROOT / "local" / "server.py"), "--model", str(model), "--port", "0"]
    command += ["--stop-with-parent", *(["--probe", str(probe)] if probe else [])]
    env = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(environment)
    # A file, not a pipe: nobody reads while the server runs, and a full pipe would stop it.
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, cwd=model, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            endpoint = Endpoint(_port(process, log, seconds))
            try:
                endpoint.ping()
                yield endpoint
            finally:
                endpoint.close()
        finally:
            _stop(process)


def _port(process: "subprocess.Popen[bytes]", log: IO[bytes], seconds: float) -> int:
    """The port of the server's first line, or `EndpointError` with what it wrote to `log` instead."""
    announced = cast(IO[bytes], process.stdout)  # it was asked for as a pipe
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(announced, selectors.EVENT_READ)
        if selector.select(deadline - time.monotonic()) and (line := announced.readline()):
            return int(line.rsplit(b":", 1)[1])
    process.kill()
    process.wait()
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    raise EndpointError(f"the model server did not start within {seconds:.0f} s: {said or 'it said nothing'}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
