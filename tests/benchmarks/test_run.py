"""Benchmarks run one after the other, fail loudly, and leave the figures that they print."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from benchmarks import output, run
from tests.local.demo.test_processes import alive


def test_an_unknown_benchmark_is_named_before_anything_runs() -> None:
    with pytest.raises(
        SystemExit,
        match=r"speed: no such benchmark\. There are setup, synth, etl, training, serving, stream, demo\.",
    ):
        run.main(["speed"])


@pytest.fixture
def ran() -> Iterator[list[str]]:
    """The benchmarks that were started, none of them for real; SIGTERM's handler is put back."""
    before = signal.getsignal(signal.SIGTERM)
    started: list[str] = []
    yield started
    signal.signal(signal.SIGTERM, before)


def test_a_failing_benchmark_does_not_hide_the_next_one(monkeypatch, ran: list[str]) -> None:
    def fail_the_first(command: Sequence[str]) -> int:
        ran.append(command[-1])
        return int(command[-1] == "benchmarks.training")

    monkeypatch.setattr(run, "run", fail_the_first)
    with pytest.raises(SystemExit, match="failed: training"):
        run.main(["training", "serving"])
    assert ran == ["benchmarks.training", "benchmarks.serving"]


def test_sigterm_ends_a_benchmark_and_what_it_started(monkeypatch, ran: list[str], tmp_path) -> None:
    noted = tmp_path / "pid"
    program = (
        "import subprocess, sys, time, os, signal\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(noted)!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    real = run.run
    monkeypatch.setattr(run, "run", lambda _: real([sys.executable, "-c", program]))
    with pytest.raises(SystemExit, match="stopped during training"):
        run.main(["training"])
    deadline = time.monotonic() + 5
    while alive(int(noted.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(int(noted.read_text()))


def test_a_result_is_printed_and_kept_with_the_same_figures(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(output, "FOLDER", tmp_path / "bench")
    rows = [{"what": "ours", "rows": 1500, "seconds": 1.25}, {"what": "peer", "rows": 1500, "seconds": 10.0}]
    output.show("sample", "A sample", rows, note="The peer is slower.")
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()[4:6]] == [
        ["ours", "1,500", "1.25"],
        ["peer", "1,500", "10.00"],
    ]
    assert "The peer is slower." in printed
    kept = json.loads((tmp_path / "bench" / "sample.json").read_text())
    assert kept["rows"] == rows
    assert kept["machine"]["cores"] >= 1
    assert (tmp_path / "bench" / "sample.md").read_text() == (
        "| what | rows | seconds |\n| --- | ---: | ---: |\n| ours | 1,500 | 1.25 |\n| peer | 1,500 | 10.00 |\n\n"
        "The peer is slower.\n"
    )
