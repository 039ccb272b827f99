"""What a person sees: a line a stage, live on a terminal only, and the time of each."""

import io
import time

import pytest

from local.demo.progress import CLEAR_LINE, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stages_are_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream, total=2)
    with progress.during("First"):
        progress.detail("3 things")
    assert stream.getvalue().splitlines() == [
        "[1/2] First ...",
        "      3 things",
        "      done in 0.0 s (3 things)",
    ]
    assert list(progress.seconds) == ["First"]


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.demo.progress.REFRESH_SECONDS", 0.01)
    stream = Terminal()
    progress = Progress(stream, total=1)
    with progress.during("First"):
        progress.detail("working")
        time.sleep(0.1)
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert f"{CLEAR_LINE}[1/1] First   0.0 s working" in written
    assert written.rpartition(CLEAR_LINE)[2].startswith("[1/1] First: done in 0.1 s")


def test_a_stage_that_is_interrupted_says_so_and_stays_the_current_one() -> None:
    stream = io.StringIO()
    progress = Progress(stream, total=1)
    with pytest.raises(KeyboardInterrupt), progress.during("First"):
        raise KeyboardInterrupt
    assert "stopped in" in stream.getvalue()
    assert progress.stage == "First"
