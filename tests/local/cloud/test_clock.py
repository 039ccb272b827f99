"""One factor for every wait."""

import datetime as dt

import pytest

from local.cloud import clock


@pytest.fixture(autouse=True)
def sixtyfold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_factor", 60.0)
    monkeypatch.setattr(clock, "_origin", dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())


def test_ten_minutes_there_are_ten_seconds_here() -> None:
    assert clock.scaled(600) == 10


def test_the_calendar_of_schedules_runs_as_fast_and_back() -> None:
    later = dt.datetime(2026, 1, 1, 0, 1, tzinfo=dt.UTC).timestamp()
    assert clock.calendar(later) == dt.datetime(2026, 1, 1, 1, tzinfo=dt.UTC).timestamp()
    assert clock.moment(clock.calendar(later)) == later
