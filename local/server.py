"""A model server on 127.0.0.1, standing in for the one AWS's XGBoost image starts (nginx, gunicorn, Flask).

It keeps the container contract of "Custom Inference Code with Hosting Services" (SageMaker Developer Guide):
`GET /ping`, `POST /invocations`, and `model_fn`, `input_fn`, `predict_fn`, `output_fn` of the program that
SAGEMAKER_PROGRAM names, imported from the model's own `code/` directory and called as sagemaker-containers'
transformer calls them (text bodies of JSON and CSV arrive as `str`, `output_fn` answers `(body, type)`).

How it differs from AWS's, on purpose:
- one process with bounded threads, not a gunicorn worker per core; a prediction cannot be timed out;
- the body limit is enforced here (413); in AWS, InvokeEndpoint refuses such a body before the container;
- an error that carries `.status` answers with it and with its text as `{"error": …}`; AWS's server answers 500 to
  whatever these functions raise (docs/decisions/0054 says how our models get their status through there too);
- `/ping` is healthy only while the model predicts; AWS's says 200 as soon as the process runs.

Only the standard library is imported, and the directory it was started from is taken off the import path,
so a model that forgot to ship a module fails here as it would there.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TextIO

# InvokeEndpoint's limit, in bytes ("Body", API_runtime_InvokeEndpoint).
BODY_LIMIT = 6_291_456
CONNECTIONS = 32
IDLE_SECONDS = 60.0
DRAIN_SECONDS = 10.0
CONTAINER_MODEL = "/opt/ml/model"
FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")
TEXT_TYPES = ("application/json", "text/csv")


class LoadError(Exception):
    """A model directory that cannot be served: the message names the file and the remedy."""


class RequestError(Exception):
    """A request that the server itself refuses, with an HTTP status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Model:
    """A loaded model behind the three functions that answer a request."""

    loaded: Any
    input_fn: Callable[[str | bytes, str], Any]
    predict_fn: Callable[[Any, Any], Any]
    output_fn: Callable[[Any, str], tuple[str | bytes, str]]
    default_accept: str

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Predict for one request body; returns the response body and its content type."""
        # sagemaker-containers decodes exactly these types (Request.content); a charset leaves bytes.
        content = body.decode(errors="replace") if content_type in TEXT_TYPES else body
        accept = self.default_accept if accept in {"", "*/*"} else accept
        prediction = self.predict_fn(self.input_fn(content, content_type), self.loaded)
        result, result_type = self.output_fn(prediction, accept)
        return (result.encode() if isinstance(result, str) else result), result_type


def load(directory: Path, environ: Mapping[str, str]) -> Model:
    """Import the model's program and call its `model_fn`; `LoadError` if anything it needs is missing.

    `directory` is an unpacked model.tar.gz. Paths below /opt/ml/model in `environ` mean paths below it.
    """
    submitted = environ.get("SAGEMAKER_SUBMIT_DIRECTORY", f"{CONTAINER_MODEL}/code")
    if not f"{submitted}/".startswith(f"{CONTAINER_MODEL}/"):
        raise LoadError(
            f"SAGEMAKER_SUBMIT_DIRECTORY = {submitted}: only code inside the model ({CONTAINER_MODEL}/…) is "
            f"served here. Ship it in model.tar.gz and set {CONTAINER_MODEL}/code."
        )
    code = directory / submitted.removeprefix(CONTAINER_MODEL).strip("/")
    program = code / environ.get("SAGEMAKER_PROGRAM", "inference.py")
    if not program.is_file():
        raise LoadError(f"{program}: no such file. A model directory ships its own code/inference.py.")
    sys.path.insert(0, str(code))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(program.stem)
    except Exception as error:
        raise LoadError(f"{program}: cannot be imported: {type(error).__name__}: {error}") from error
    if missing := [name for name in FUNCTIONS if not callable(getattr(module, name, None))]:
        raise LoadError(
            f"{program}: does not define {', '.join(missing)}. A served program defines all four."
        )
    try:
        loaded = module.model_fn(str(directory))
    except Exception as error:
        raise LoadError(f"{directory}: model_fn failed: {type(error).__name__}: {error}") from error
    default_accept = environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
    return Model(loaded, module.input_fn, module.predict_fn, module.output_fn, default_accept)


class Server(ThreadingHTTPServer):
    """Serves one model on 127.0.0.1; `port` 0 takes a free one (`server_port` tells which).

    `probe` is a JSON request that `/ping` predicts each time. Without one, `/ping` reports how the latest
    prediction went. At most CONNECTIONS connections are held, each by one thread; further ones get 503.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: Model, *, port: int = 0, probe: bytes | None = None) -> None:
        self.model = model
        self.stopping = threading.Event()
        self.failure: str | None = None
        self._probe = probe
        self._idle: set[socket.socket] = set()
        self._busy = 0
        self._change = threading.Condition()
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Bind without the base class's reverse look-up of the host name, which may ask a resolver."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def predict(self, body: bytes, content_type: str, accept: str) -> tuple[HTTPStatus, bytes, str]:
        """One prediction: status, body, content type. A failure that is not the request's marks the model unhealthy."""
        try:
            result, result_type = self.model.answer(body, content_type, accept)
        except Exception as error:  # noqa: BLE001 — the model's code may raise anything, and the server must answer
            status = getattr(error, "status", None)
            if (
                isinstance(status, int)
                and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
            ):
                return HTTPStatus(status), _reason(str(error)), "application/json"
            traceback.print_exc()
            self.failure = f"{type(error).__name__}: {error}"
            failed = HTTPStatus.INTERNAL_SERVER_ERROR
            return failed, _reason(self.failure), "application/json"
        self.failure = None
        return HTTPStatus.OK, result, result_type

    def health(self) -> tuple[HTTPStatus, bytes]:
        """200 and no body while the model predicts, else 503 with the reason."""
        if self._probe is not None:
            status, answer, _ = self.predict(self._probe, "application/json", "application/json")
            if status is not HTTPStatus.OK:
                self.failure = json.loads(answer)["error"]
        if self.failure is None:
            return HTTPStatus.OK, b""
        return HTTPStatus.SERVICE_UNAVAILABLE, _reason(self.failure)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a new connection to its thread, or refuse it when all are taken."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        status = HTTPStatus.SERVICE_UNAVAILABLE
        body = _reason(f"all {CONNECTIONS} connections are in use. Reuse one, or try again.")
        request.settimeout(0.05)
        try:
            request.sendall(_head(status, "application/json", len(body), close=True) + body)
            # Unread bytes would make the kernel reset the connection before the client reads the answer.
            request.recv(1 << 16)
        except OSError:
            return
        finally:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end, then free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away; anything else is printed with its trace."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @contextlib.contextmanager
    def idle(self, connection: socket.socket) -> Iterator[None]:
        """While a connection waits for its next request, stopping cuts it."""
        with self._change:
            self._idle.add(connection)
            if self.stopping.is_set():
                _close_reading(connection)
        try:
            yield
        finally:
            with self._change:
                self._idle.discard(connection)
                self._busy += 1

    def done(self) -> None:
        """Note that the request which ended `idle` was answered."""
        with self._change:
            self._busy -= 1
            self._change.notify_all()

    def stop(self) -> None:
        """Accept no more, cut idle connections, give requests in flight DRAIN_SECONDS to be answered."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._change:
            for connection in self._idle:
                _close_reading(connection)
            self._change.wait_for(lambda: self._busy == 0, timeout=DRAIN_SECONDS)


class Handler(BaseHTTPRequestHandler):
    """One connection: HTTP/1.1 with keep-alive; every answer, errors too, is one write."""

    server: Server
    rfile: io.BufferedReader
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    rbufsize = 1 << 16

    def handle_one_request(self) -> None:
        """Wait for a request line, then answer; the base class does both in one step and cannot tell them apart."""
        try:
            with self.server.idle(self.connection):
                more = self.rfile.peek(1)
            if more:
                super().handle_one_request()
            else:
                self.close_connection = True
        finally:
            self.server.done()

    def do_GET(self) -> None:
        """`/ping`, and nothing else."""
        # A body that nothing reads would be taken for the next request.
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if self.path == "/ping":
            self._send(*self.server.health(), "application/json")
        elif self.path == "/invocations":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "/invocations takes POST.")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"{self.path}: there are only /ping and /invocations.")

    def do_POST(self) -> None:
        """`/invocations`: read the whole body, predict, answer."""
        try:
            length = self._length()
        except RequestError as error:
            self.send_error(error.status, str(error))
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
        elif self.path == "/invocations":
            kind = self.headers.get("Content-Type") or "application/json"
            self._send(*self.server.predict(body, kind, self.headers.get("Accept", "")))
        elif self.path == "/ping":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "/ping takes GET.")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"{self.path}: there are only /ping and /invocations.")

    def handle_expect_100(self) -> bool:
        """Ask for the body only when it will be taken, so that an oversize one is never sent."""
        try:
            self._length()
        except RequestError as error:
            self.send_error(error.status, str(error))
            return False
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse with a JSON reason and close; a body that was not read is thrown away, not left to reset the answer."""
        status = HTTPStatus(code)
        self.close_connection = True
        self._send(status, _reason(message or explain or status.description), "application/json")
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            deadline = time.monotonic() + DRAIN_SECONDS
            while self.rfile.read1(1 << 16) and time.monotonic() < deadline:
                continue
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing for a request; failures of the model print their trace."""

    def _length(self) -> int:
        """The announced length of the body in bytes; `RequestError` if there is none or it is above the limit."""
        if "Transfer-Encoding" in self.headers:
            raise RequestError(
                HTTPStatus.LENGTH_REQUIRED, "a chunked body is not taken: send Content-Length."
            )
        text = self.headers.get("Content-Length")
        if text is None:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "no Content-Length header.")
        if not (text.isascii() and text.isdigit()):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"Content-Length = {text}: must be a whole number.")
        # Python refuses to convert thousands of digits: their number tells enough.
        if len(text.lstrip("0")) > len(str(BODY_LIMIT)) or int(text) > BODY_LIMIT:
            reason = (
                f"the body is {text[:20]} bytes; the limit is {BODY_LIMIT:,}. Send fewer records a request."
            )
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return int(text)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, _reason(reason), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        close = self.close_connection or self.server.stopping.is_set()
        self.close_connection = close
        self.wfile.write(_head(status, content_type, len(body), close=close) + body)


def _reason(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


def _head(status: HTTPStatus, content_type: str, length: int, *, close: bool) -> bytes:
    connection = "close" if close else "keep-alive"
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    ).encode("latin-1")


def _close_reading(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        return  # the client was faster


def serve(server: Server) -> None:
    """Serve until SIGTERM or SIGINT; returns when drained."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    asked.wait()
    server.stop()


def _stop_with(parent: TextIO) -> None:
    """A parent that dies, however it dies, closes its end of the pipe; a model that is still loading ends at once."""
    parent.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one model directory: `python -m local.server --model DIR [--port N] [--probe request.json]`."""
    parser = argparse.ArgumentParser(prog="python -m local.server", description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an unpacked model.tar.gz")
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    parser.add_argument("--port", type=int, default=port, help="0 takes a free port and prints it")
    parser.add_argument("--probe", type=Path, help="a JSON request that /ping predicts")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args(argv)
    if arguments.stop_with_parent:
        threading.Thread(target=_stop_with, args=(sys.stdin,), daemon=True).start()
    # As AWS's image does: many small predictions lose more by switching threads than they gain.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        probe = arguments.probe.read_bytes() if arguments.probe else None
        model = load(arguments.model.resolve(), os.environ)
        server = Server(model, port=arguments.port, probe=probe)
    except LoadError as error:
        sys.exit(str(error))
    except OSError as error:
        where = arguments.probe if error.filename else f"127.0.0.1:{arguments.port}"
        sys.exit(f"{where}: {error.strerror}. Name another file, or another --port (0 takes a free one).")
    serve(server)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
