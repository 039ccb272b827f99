"""Starting and stopping the embedded cloud: one server a folder, empty at the start, nothing left at the end."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from local.cloud.place import ROOT, Place

SECONDS_TO_START, SECONDS_TO_STOP = 15.0, 10.0
_LAST_PORT = 65535
_FASTEST = 120  # schedules are looked at twice a second, and name minutes
# The cloud's own environment: MiniStack pins another botocore than ours.
PYTHON = ROOT / ".venv-cloud" / "bin" / "python"


class CloudError(Exception):
    """The cloud cannot start or stop: one message with the remedy."""


def start(place: Place, *, starter: int | None = None) -> int:
    """Start the server and wait until it answers; its process id. Raises `CloudError`, and leaves no process then.

    The cloud is empty: what a killed one left in the folder is removed first, but nothing of anybody else. With
    `starter`, the reading end of a pipe, the server ends when the pipe does: a starter that is killed leaves no cloud
    behind.
    """
    if not PYTHON.exists():
        raise CloudError("The cloud's environment is not installed. Run: make .venv-cloud/.installed")
    if not 1 <= place.port <= _LAST_PORT:
        raise CloudError(f"--port {place.port}: from 1 to {_LAST_PORT}.")
    if not 0 < place.factor <= _FASTEST:
        raise CloudError(f"--factor {place.factor}: more than 0, at most {_FASTEST}.")
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        alone = os.open(place.folder, os.O_RDONLY)
    except OSError as error:
        raise _unusable(error) from None
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)  # whoever starts one here meanwhile waits, and then finds ours
        return _start(place, starter)
    finally:
        os.close(alone)


def _start(place: Place, starter: int | None) -> int:
    if (running := process(place)) is not None:
        url = found(place.folder).url
        raise CloudError(f"The cloud runs already: process {running}, {url}. Stop it: make cloud-down.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", place.port))
        except OSError as error:
            raise CloudError(
                f"127.0.0.1:{place.port}: {error.strerror}. End what listens there, or: make cloud PORT=<another>."
            ) from None
    try:
        _empty(place)
    except OSError as error:
        raise _unusable(error) from None
    _make_certificate(place)
    command = [
        str(PYTHON),
        "-m",
        "local.cloud.server",
        "--folder",
        str(place.folder),
        "--port",
        str(place.port),
    ]
    command += ["--factor", str(place.factor), "--rollback", place.rollback, "--python", sys.executable]
    if starter is not None:
        command.append("--end-with-input")
    with place.log.open("wb") as log:
        stdin = subprocess.DEVNULL if starter is None else starter
        server = subprocess.Popen(
            command, cwd=ROOT, stdin=stdin, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(server, place)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        raise
    return server.pid


def stop(place: Place) -> bool:
    """End the server and everything it started; whether there was one."""
    running = process(place)
    if running is None:
        return False
    os.kill(running, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while process(place) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running, signal.SIGKILL)  # Lambda processes and jobs are of its group
    # A killed process goes on for a moment; whoever stops a cloud finds nothing of it.
    while _alive(running) and time.monotonic() < deadline + SECONDS_TO_STOP:
        time.sleep(0.02)
    return True


def _alive(group: int) -> bool:
    """Whether a process of the group runs; one that only waits to be reaped does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in "ZX":
                return True
    return False


def process(place: Place) -> int | None:
    """The id of the server that runs in the folder; None if there is none, even if a killed one left its file."""
    try:
        with place.pid_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read())
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def found(folder: Path) -> Place:
    """The cloud that runs in the folder, at its own port and factor. Raises `CloudError` if there is none."""
    if process(Place(folder)) is None:
        raise CloudError("No cloud runs here. Start one: make cloud")
    settings = _settings(folder)
    try:
        return Place(folder, **json.loads(settings.read_text()))
    except (OSError, ValueError, TypeError):
        raise CloudError(f"{settings} is unreadable. Start anew: make cloud-down, then make cloud.") from None


def ready(place: Place) -> bool:
    """Whether the server answers."""
    try:
        trusted = ssl.create_default_context(cafile=str(place.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", place.port, timeout=2, context=trusted)
        with contextlib.closing(connection):
            connection.request("GET", "/_ministack/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def running(place: Place) -> Iterator[Place]:
    """A cloud for the duration of a block, or of this process if it is killed."""
    reader, writer = os.pipe()
    try:
        try:
            start(place, starter=reader)
        finally:
            os.close(reader)
        yield place
    finally:
        try:
            stop(place)
        except BaseException:  # an interruption must not cut the ending short
            stop(place)
            raise
        finally:
            os.close(writer)


def _unusable(error: OSError) -> CloudError:
    return CloudError(f"{error.filename}: {error.strerror}. Name another --folder.")


def _settings(folder: Path) -> Path:
    return folder / "settings.json"


def _empty(place: Place) -> None:
    """Make the folder a cloud's, with nothing of an earlier one."""
    if any(place.folder.iterdir()) and not _settings(place.folder).exists():
        raise CloudError(
            f"{place.folder} is neither empty nor a cloud's. Empty it, or name another --folder."
        )
    _settings(place.folder).write_text(
        json.dumps({"port": place.port, "factor": place.factor, "rollback": place.rollback})
    )
    (place.folder / ".gitignore").write_text("*\n")
    for name in ("home", "tmp", "state", "s3", "work"):
        shutil.rmtree(place.folder / name, ignore_errors=True)
        (place.folder / name).mkdir()


def _wait(server: subprocess.Popen[bytes], place: Place) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready(place):
        if server.poll() is not None:
            raise CloudError(f"The cloud did not start:\n{_last_lines(place.log)}")
        if time.monotonic() > deadline:
            raise CloudError(f"The cloud does not answer after {SECONDS_TO_START:.0f} s. See {place.log}.")
        time.sleep(0.05)


def _make_certificate(place: Place) -> None:
    code = "import sys, pathlib; from local.cloud import certificate, place; "
    code += "certificate.make(place.Place(pathlib.Path(sys.argv[1])))"
    command = [str(PYTHON), "-c", code, str(place.folder)]
    subprocess.run(command, cwd=ROOT, check=True, start_new_session=True)  # an interrupt is ours to tell


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
