"""A cage for child processes (put this folder on PYTHONPATH): any connection is recorded in OFFLINE_LOG and refused."""

import os
import socket
from pathlib import Path
from typing import Any, NoReturn


def _refuse(*arguments: Any, **_: Any) -> NoReturn:
    with Path(os.environ["OFFLINE_LOG"]).open("a") as log:
        log.write(f"python {arguments!r}\n")
    raise OSError("tests run offline: this process tried to reach the network")


socket.socket.connect = _refuse  # type: ignore[method-assign]
socket.socket.connect_ex = _refuse  # type: ignore[method-assign]
socket.getaddrinfo = _refuse
