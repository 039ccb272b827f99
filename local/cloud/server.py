"""The server process: MiniStack with our extensions, TLS on 127.0.0.1, until SIGTERM or until its starter ends it.

Runs in `.venv-cloud`: `python -m local.cloud.server --folder .cloud --port 4566 --factor 60 --python .venv/bin/python`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from asyncio import constants as asyncio_constants
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from local.cloud.place import ACCOUNT, PORT, REGION, ROLLBACKS, Place


def settings(place: Place) -> dict[str, str]:
    """The whole environment of the server: its Lambda functions inherit it, so nothing of the machine's may enter."""
    authority = str(place.certificate)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(place.folder / "home"),
        "TMPDIR": str(place.folder / "tmp"),
        "STATE_DIR": str(place.folder / "state"),
        "S3_DATA_DIR": str(place.folder / "s3"),
        "AUTH": "true",
        "USE_SSL": "1",  # our "deny without TLS" bucket policies really deny plain HTTP
        "MINISTACK_SSL_CERT": authority,
        "MINISTACK_SSL_KEY": str(place.private_key),
        "GATEWAY_PORT": str(place.port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "NODE_EXTRA_CA_CERTS": authority,
    }


def claim(place: Place) -> None:
    """Lock the pid file until this process is gone; a second server in the same folder ends at once."""
    # Never closed: who stops the server waits for the lock, and so for all that Python does at its end.
    lock = os.open(place.pid_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        running = place.pid_file.read_text().strip()
        sys.exit(f"{place.folder}: process {running} runs the cloud here already. Stop it: make cloud-down.")
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())


async def serve(place: Place, python: Path, *, end_with_input: bool) -> None:
    """Import MiniStack, install the extensions, serve until asked to stop, end every Lambda process."""
    # Imported here: MiniStack reads the environment while it is imported.
    from hypercorn.asyncio import serve as listen  # noqa: PLC0415
    from hypercorn.asyncio.tcp_server import TCPServer  # noqa: PLC0415
    from hypercorn.config import Config  # noqa: PLC0415

    from local.cloud import extensions, seams  # noqa: PLC0415

    installed = extensions.install(place, python)
    config = Config()
    config.bind = [f"127.0.0.1:{place.port}"]  # ministack.app.main() would bind port 443 as well
    config.certfile, config.keyfile = str(place.certificate), str(place.private_key)
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    # A client that keeps a connection open never answers the end of TLS: 30 s would pass for each, and then hypercorn,
    # which takes a connection that is closed already for closed, would call this one an unhandled exception.
    asyncio_constants.SSL_SHUTDOWN_TIMEOUT = 0.2
    TCPServer._close = _unanswered(TCPServer._close)
    config.loglevel = "WARNING"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if end_with_input:  # nothing is ever written there, so it is readable when the starter is gone
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(0)
            stop.set()

        loop.add_reader(0, ended)
    try:
        await listen(seams.app.app, config, shutdown_trigger=stop.wait)
    finally:
        installed.close()
        seams.lambda_runtime.reset()


def _unanswered(original: Callable[[object], Awaitable[None]]) -> Callable[[object], Awaitable[None]]:
    async def close(connection: object) -> None:
        with contextlib.suppress(TimeoutError):
            await original(connection)

    return close


def main(argv: Sequence[str] | None = None) -> None:
    """Start from an environment of our own; exits with a message if the folder has a server already."""
    parser = argparse.ArgumentParser(prog="python -m local.cloud.server", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--factor", type=float, default=60.0)
    parser.add_argument("--rollback", choices=ROLLBACKS, default="told")
    parser.add_argument("--python", type=Path, required=True, help="the interpreter that runs jobs (.venv)")
    parser.add_argument("--end-with-input", action="store_true", help="end when standard input does")
    arguments = parser.parse_args(argv)
    place = Place(arguments.folder.resolve(), arguments.port, arguments.factor, arguments.rollback)
    wanted = settings(place)
    os.environ.clear()
    os.environ.update(wanted)
    tempfile.tempdir = wanted["TMPDIR"]
    claim(place)
    asyncio.run(serve(place, arguments.python.absolute(), end_with_input=arguments.end_with_input))


if __name__ == "__main__":
    main()
