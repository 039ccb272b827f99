"""The picture: a column for each deployment, whose title says the ending, and what is wrong is seen without colour."""

import itertools
from pathlib import Path

import matplotlib.colors
import pytest

from local.rollout import figure
from local.rollout.played import Played
from tests.local.rollout.written import SETTING, timeline

EACH = [
    Played(made, made.deployments[0], SETTING)
    for made in (timeline(good=True), timeline(good=False, error="ModelError"))
]


@pytest.fixture(scope="module")
def drawn():
    return figure.draw(EACH)


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_the_titles_say_what_was_deployed_and_how_it_ended(drawn) -> None:
    titles = [" ".join(axis.get_title(loc="left").split()) for axis in drawn.axes[:2]]
    assert titles == [
        "A good model: in service by canary, 0 of 120 requests failed",
        "A model that fails: rolled back by the Errors alarm 4.9 min after its first bad answer",
    ]


def test_the_stages_are_named(drawn) -> None:
    good, bad = drawn.axes[:2]
    assert texts(good) == ["instances start", "canary", "all traffic", "done"]
    assert texts(bad) == ["instances start", "canary", "traffic back"]


def test_an_alarm_that_rings_is_named_where_it_rings(drawn) -> None:
    good, bad = drawn.axes[6:8]
    assert "ALARM" not in texts(good)
    assert texts(bad).count("ALARM") == 1


def test_no_failed_request_is_said_in_words(drawn) -> None:
    good, bad = drawn.axes[4:6]
    assert texts(good) == ["none"]
    assert texts(bad) == []


def test_old_new_and_wrong_differ_in_grey() -> None:
    def lightness(colour: str) -> float:
        red, green, blue = matplotlib.colors.to_rgb(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = sorted(lightness(colour) for colour in (figure.WRONG, figure.NEW, figure.OLD, figure.QUIET))
    assert all(lighter - darker > 0.15 for darker, lighter in itertools.pairwise(shades))


def test_both_files_are_written(tmp_path: Path) -> None:
    figure.write(EACH, tmp_path)
    assert (tmp_path / "rollout.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "rollout.svg").read_text()
