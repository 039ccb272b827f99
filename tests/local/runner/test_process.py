"""One process: its lines, its limits, its end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.cloud.place import ROOT
from local.runner.container import container
from local.runner.process import Exit, Limits, run
from tests.local.runner.test_execution import gone


def shell(
    script: str, folder: Path, *, seconds: float = 30, lines: list[str] | None = None, grace: float = 1
) -> Exit:
    limits = Limits(seconds, lambda: False, grace)
    collected = lines if lines is not None else []
    environment = {"PATH": "/usr/bin:/bin"}
    return run(
        ["/bin/sh", "-c", script],
        folder=folder,
        environment=environment,
        limits=limits,
        on_line=collected.append,
    )


def test_lines_arrive_whole_and_in_order_from_both_streams(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = shell("printf 'one\\ntw'; sleep 0.1; printf 'o\\n' >&2; printf last", tmp_path, lines=lines)
    assert (ended, lines) == (Exit(0), ["one", "two", "last"])


def test_more_output_than_a_pipe_holds_is_not_lost(tmp_path: Path) -> None:
    lines: list[str] = []
    shell("i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done", tmp_path, lines=lines)
    assert lines == [f"line-{number}" for number in range(20_000)]


def test_output_that_is_no_utf8_is_shown_and_not_fatal(tmp_path: Path) -> None:
    lines: list[str] = []
    shell("printf '\\377\\n'", tmp_path, lines=lines)
    assert lines == ["\ufffd"]


def test_the_exit_code_is_the_processs_own(tmp_path: Path) -> None:
    assert shell("exit 7", tmp_path) == Exit(7)


def test_a_process_that_closes_its_output_is_still_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    assert shell("exec >&- 2>&-; sleep 0.4; exit 3", tmp_path) == Exit(3)
    assert time.monotonic() - started >= 0.4


def test_a_process_may_use_its_grace_to_save_its_work(tmp_path: Path) -> None:
    ended = shell("trap 'echo saved > work; exit 0' TERM; sleep 30 & wait", tmp_path, seconds=0.3, grace=5)
    assert (ended, (tmp_path / "work").read_text()) == (Exit(0, "time limit"), "saved\n")


def test_a_process_that_never_stops_talking_is_still_stopped(tmp_path: Path) -> None:
    started = time.monotonic()
    assert shell("while :; do echo talk; done", tmp_path, seconds=0.3).ended_by == "time limit"
    assert time.monotonic() - started < 10


def test_a_program_that_does_not_exist_fails_like_in_a_shell(tmp_path: Path) -> None:
    with container(tmp_path / "job") as inside:
        ended = inside.run(
            ["no-such-program"],
            python=Path(sys.executable),
            environment={},
            limits=Limits(30, lambda: False, 1),
            on_line=lambda _: None,
        )
        assert ended.code == 127
        assert inside.reason("/opt/ml/output/failure") == "no-such-program: No such file or directory"


@pytest.mark.parametrize(
    ("text", "remapped"),
    [
        ("/opt/ml/input", "{}/opt/ml/input"),
        ("--train=/opt/ml/input/data", "--train={}/opt/ml/input/data"),
        ("tar -xzf /opt/ml/*.tar.gz -C /opt/ml", "tar -xzf {}/opt/ml/*.tar.gz -C {}/opt/ml"),
        ("s3://bucket/opt/ml/input", "s3://bucket/opt/ml/input"),
        ("/opt/mlflow", "/opt/mlflow"),
        ("/home/opt/ml", "/home/opt/ml"),
    ],
)
def test_only_the_containers_own_paths_are_remapped(tmp_path: Path, text: str, remapped: str) -> None:
    with container(tmp_path / "job") as inside:
        assert inside.remap(text) == remapped.replace("{}", str(tmp_path / "job"))


def test_a_killed_runner_leaves_no_process(tmp_path: Path) -> None:
    """Not even what the process started: the whole group ends."""
    code = f"""
import pathlib
from local.runner.process import Limits, run
limits = Limits(60, lambda: False, 1)
run(["/bin/sh", "-c", "sleep 60 & echo $! $$; wait"], folder=pathlib.Path({str(tmp_path)!r}),
    environment={{"PATH": "/usr/bin:/bin"}}, limits=limits, on_line=lambda line: print(line, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as runner:
        assert runner.stdout is not None
        started = [int(word) for word in runner.stdout.readline().split()]
        runner.kill()
    assert len(started) == 2
    assert all(gone(process) for process in started)
