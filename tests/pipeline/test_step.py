"""A step's end: exit code, one line, and the file in which SageMaker looks for the reason."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import schema, step
from pipeline.step import StepError


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["step", "--flag"])
    return tmp_path


def failing(error: Exception) -> int:
    def main(_: Sequence[str]) -> None:
        raise error

    return step.run(main, reason_file="failure")


def test_success_is_exit_code_0_and_no_reason(output: Path) -> None:
    seen: list[str] = []
    assert step.run(seen.extend, reason_file="failure") == 0
    assert seen == ["--flag"]
    assert not list(output.iterdir())


def test_a_known_fault_is_one_line_without_a_trace(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(StepError("a.parquet: no row.")) == 1
    assert capsys.readouterr().err == "a.parquet: no row.\n"
    assert (output / "failure").read_text() == "a.parquet: no row."


def test_a_wrong_schema_is_a_known_fault(output: Path) -> None:
    assert failing(schema.SchemaError("mine.json: key = 1")) == 1
    assert (output / "failure").read_text() == "mine.json: key = 1"


def test_an_unknown_fault_shows_its_trace_and_leaves_its_reason(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(ZeroDivisionError("by zero")) == 1
    assert "Traceback" in capsys.readouterr().err
    assert (output / "failure").read_text() == "ZeroDivisionError: by zero"


def test_a_long_reason_is_cut_to_a_kilobyte_of_whole_characters(output: Path) -> None:
    assert failing(StepError("é" * 1000)) == 1
    assert (output / "failure").read_text() == "é" * 512


def test_outside_a_container_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "absent"))
    assert failing(StepError("no")) == 1
    assert not (tmp_path / "absent").exists()


def test_a_wrong_flag_is_a_known_fault_and_no_abbreviation_is_guessed() -> None:
    flags = step.parser("prepare", None)
    flags.add_argument("--input")
    with pytest.raises(StepError, match=r"pipeline.prepare: unrecognized arguments: --inp x"):
        flags.parse_args(["--inp", "x"])
