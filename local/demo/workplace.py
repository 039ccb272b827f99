"""Where a run writes, and how it ends before its time: for the demo, and for whatever runs as it does."""

import contextlib
import fcntl
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from local.demo.progress import Progress


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived; everything that was started ends on its way up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def interruptible(run: Callable[[], int], progress: Progress) -> int:
    """The exit code of `run`; of one that SIGINT or SIGTERM ends, 128 and the signal, after it has unwound."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _stop)
    try:
        return run()
    except Stopped as stopped:
        print(f"\nstopped during: {progress.stage}. Nothing is left running; start again at any time.")
        return 128 + stopped.number


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind once; a second signal must not cut the unwinding short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


@contextlib.contextmanager
def workplace(out: Path, what: str = "demo") -> Iterator[Path]:
    """A scratch folder below `out`, for one run at a time of `what` works there; what a killed run left there is removed first."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        sys.exit(f"--out = {out}: {error.strerror}. Name a folder that can be written.")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{out}: another {what} is running there. Wait for it, or choose another --out.")
        scratch = out / ".work"
        # A killed run's last job may still be writing there: then the folder stays, and this run has its own in it.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        try:
            yield Path(tempfile.mkdtemp(dir=scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
