"""One process in its own group: its output line by line, a limit on its time, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, cast

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a process ended: by itself with `code`, or ended by us, and why."""

    code: int
    ended_by: Literal["itself", "time limit", "stop request"] = "itself"


def run(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    limits: Limits,
    on_line: Callable[[str], None],
) -> Exit:
    """Run `command` in `folder` with exactly `environment`; each line of its output goes to `on_line`.

    Whatever happens here, an exception or Ctrl-C included, the whole process group is gone on return. What a process
    leaves behind in its group ends with it, as a container's processes do. It ends, too, if this process is killed.
    """
    with (
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
        _guarded(process.pid),
    ):
        try:
            return _watch(process, limits, _Lines(cast(IO[bytes], process.stdout), on_line))
        finally:
            _signal_group(process, signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a process is ended: after `seconds`, or once `stop()` is true; `grace_seconds` after a polite signal.

    SageMaker waits 120 s between the two signals ("StoppingCondition", API Reference).
    """

    seconds: float
    stop: Callable[[], bool]
    grace_seconds: float


@contextlib.contextmanager
def _guarded(group: int) -> Iterator[None]:
    """Have a shell end the group once a pipe ends that only this process holds open."""
    with subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -s KILL -- -{group}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # else it would die with us
    ) as guard:
        try:
            yield
        finally:
            guard.kill()


def _watch(process: subprocess.Popen[bytes], limits: Limits, lines: _Lines) -> Exit:
    deadline = time.monotonic() + limits.seconds
    ended_by: Literal["itself", "time limit", "stop request"] = "itself"
    while process.poll() is None:
        lines.read(_POLL_SECONDS)
        late = time.monotonic() > deadline
        if ended_by != "itself":
            if late:
                _signal_group(process, signal.SIGKILL)
        elif late or limits.stop():
            ended_by = "time limit" if late else "stop request"
            _signal_group(process, signal.SIGTERM)
            deadline = time.monotonic() + limits.grace_seconds
    lines.finish()
    return Exit(process.returncode, ended_by)


class _Lines:
    """The lines of a pipe, without a thread: what has arrived is passed on, an unfinished line waits."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[str], None]) -> None:
        self._file, self._on_line, self._rest = pipe.fileno(), on_line, b""
        os.set_blocking(self._file, False)
        self._ready = select.poll()
        self._ready.register(self._file, select.POLLIN)

    def read(self, seconds: float) -> None:
        """Wait at most `seconds` for output and pass on the whole lines of it."""
        if self._ready.poll(seconds * 1000) and not self._take():
            time.sleep(seconds / 10)  # the pipe is closed: the process is about to end, or goes on in silence

    def finish(self) -> None:
        """Pass on what is left, the last line too if nothing ended it."""
        while self._take():
            continue
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))

    def _take(self) -> bool:
        try:
            chunk = os.read(self._file, 1 << 16)
        except BlockingIOError:
            return False
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._on_line(line.decode(errors="replace"))
        return bool(chunk)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group outlives its leader while any member does, and bears the leader's number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
