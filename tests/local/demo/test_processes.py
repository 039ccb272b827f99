"""A program that the demo starts ends with it, and finds no AWS account."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from local.demo import processes

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_run_returns_what_was_printed_and_the_exit_code(tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = processes.run([sys.executable, "-c", program], cwd=tmp_path, environment=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_an_interruption_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    def interrupt(*_: object) -> None:
        if noted.exists() and noted.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            processes.run([sys.executable, "-c", FAMILY, str(noted)], cwd=tmp_path, environment=os.environ)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    deadline = time.monotonic() + 5
    while alive(int(noted.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(int(noted.read_text()))


def test_no_account_is_left_in_the_environment() -> None:
    environ = {"AWS_PROFILE": "mine", "AWS_ACCESS_KEY_ID": "x", "PATH": "/bin", "LANG": "C"}
    cleared = processes.without_account(environ)
    assert {"AWS_PROFILE", "AWS_ACCESS_KEY_ID"}.isdisjoint(cleared)
    assert cleared["AWS_CONFIG_FILE"] == os.devnull
    assert cleared["AWS_EC2_METADATA_DISABLED"] == "true"
    assert cleared["LANG"] == "C"
