"""`python -m local.cloud up | down | shell | env`: the embedded cloud from the command line (`make cloud`)."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local.cloud import lifecycle
from local.cloud.place import PORT, ROLLBACKS, ROOT, Place


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a `CloudError` is one message and exit code 1, as an interrupt is one and 130."""
    parser = argparse.ArgumentParser(prog="python -m local.cloud", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "shell", "env"])
    parser.add_argument("--folder", type=Path, default=ROOT / ".cloud")
    parser.add_argument("--port", type=int, default=PORT, help="of up; the others find it in the folder")
    parser.add_argument(
        "--factor", type=float, default=60.0, help="of up: how much faster time runs than on AWS"
    )
    parser.add_argument(
        "--rollback",
        choices=ROLLBACKS,
        default="told",
        help="of up: whether CloudFormation is told when SageMaker rolls an endpoint back, or takes it for a success",
    )
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    try:
        if arguments.command == "up":
            _up(Place(folder, arguments.port, arguments.factor, arguments.rollback))
        elif arguments.command == "down":
            _down(Place(folder))
        else:
            {"shell": _shell, "env": _env}[arguments.command](lifecycle.found(folder))
    except lifecycle.CloudError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _up(place: Place) -> None:
    process = lifecycle.start(place)
    print(f"The cloud runs: {place.url} (process {process}, log {place.log}). Next: make shell")


def _down(place: Place) -> None:
    print("The cloud is stopped." if lifecycle.stop(place) else "No cloud runs here.")


def _shell(place: Place) -> None:
    shell = os.environ.get("SHELL", "/bin/sh")
    inherited = {name: os.environ[name] for name in ("TERM", "SHELL", "USER") if name in os.environ}
    print(f"A shell against {place.url}: aws, npx cdk, python and boto3 find the cloud. Leave it with exit.")
    os.execve(  # noqa: S606 - the person's own shell
        shell, [shell], inherited | place.environment() | {"PS1": "(cloud) \\w $ "}
    )


def _env(place: Place) -> None:
    for name, value in place.environment().items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
