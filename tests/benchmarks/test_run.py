"""Benchmarks run one after the other, fail loudly, and leave the figures that they print."""

import json
import subprocess

import pytest

from benchmarks import output, run


def test_an_unknown_benchmark_is_named_before_anything_runs() -> None:
    with pytest.raises(
        SystemExit, match=r"speed: no such benchmark\. There are synth, etl, training, inference\."
    ):
        run.main(["speed"])


def test_a_failing_benchmark_does_not_hide_the_next_one(monkeypatch) -> None:
    ran = []

    def fail_the_first(command, **_: object) -> "subprocess.CompletedProcess[str]":
        ran.append(command[-1])
        return subprocess.CompletedProcess(command, int(command[-1] == "benchmarks.training"))

    monkeypatch.setattr(run.subprocess, "run", fail_the_first)
    with pytest.raises(SystemExit, match="failed: training"):
        run.main(["training", "inference"])
    assert ran == ["benchmarks.training", "benchmarks.inference"]


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
