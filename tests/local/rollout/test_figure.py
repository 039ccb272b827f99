"""The picture: a column for each deployment, whose title says the ending, and what is wrong is seen without colour."""

import dataclasses
import itertools
from pathlib import Path

import matplotlib.colors
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from local.rollout import figure, panels
from local.rollout.played import Played
from tests.local.rollout.written import SETTING, but, timeline

EACH = [
    Played(made, made.deployments[0], SETTING)
    for made in (timeline(good=True), timeline(good=False, error="ModelError"))
]


@pytest.fixture(scope="module")
def drawn():
    return figure.draw(EACH)


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def stages(axis) -> list[str]:
    """The names above the first row, from left to right."""
    named = [text for text in axis.texts if getattr(text, "xycoords", "") == ("data", "axes fraction")]
    return [text.get_text().strip() for text in sorted(named, key=lambda text: text.xy[0])]


def test_the_titles_say_what_was_deployed_and_how_it_ended(drawn) -> None:
    good, bad = drawn.axes[:2]
    assert {"A good model: in service", "by canary, 0 of 120 requests failed"} <= set(texts(good))
    how = "by the Errors alarm, 4.9\N{NO-BREAK SPACE}min after its first bad answer"
    assert {"A model that fails: rolled back", how} <= set(texts(bad))


def test_the_stages_are_named(drawn) -> None:
    good, bad = drawn.axes[:2]
    assert stages(good) == ["instances start", "canary", "all traffic", "done"]
    assert stages(bad) == ["instances start", "canary", "traffic back", "rolled back"]


def test_how_long_a_bad_version_could_be_met_is_drawn(drawn) -> None:
    good, bad = drawn.axes[:2]
    assert "4.9 min" in texts(bad)
    assert not any(text.endswith(" min") for text in texts(good))


def test_no_text_above_the_columns_covers_another() -> None:
    """Not even where the stages follow each other at once, in three columns, and a repair ends the last."""
    made = timeline(good=False, error="ModelError")
    states = [
        dataclasses.replace(it, active=1.0, status="Updating") if it.at >= 10 else it for it in made.states
    ]
    made = but(dataclasses.replace(made, states=states), repairs=1, ended=60.0)
    drawn = figure.draw([EACH[0], *[Played(made, made.deployments[0], SETTING)] * 2])
    renderer = FigureCanvasAgg(drawn).get_renderer()
    drawn.draw(renderer)
    above = [
        text for axis in drawn.axes[:3] for text in axis.texts if getattr(text, "xycoords", "data") != "data"
    ]
    boxes = [Text.get_window_extent(text, renderer) for text in above]
    assert stages(drawn.axes[2])[-1] == "the check repairs"
    assert len(boxes) == 3 * 2 + 4 + 5 + 5
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_an_alarm_that_rings_is_named_where_it_rings(drawn) -> None:
    good, bad = drawn.axes[6:8]
    assert "ALARM" not in texts(good)
    assert texts(bad).count("ALARM") == 1


def test_no_failed_request_is_said_in_words(drawn) -> None:
    good, bad = drawn.axes[4:6]
    assert texts(good) == ["none"]
    assert texts(bad) == []


def test_the_legend_names_the_failures_that_there_were(drawn) -> None:
    (legend,) = drawn.legends
    failures = [text.get_text() for text in legend.get_texts() if text.get_text().startswith("failed")]
    assert failures == ["failed: the model's (424)"]


def test_old_new_and_wrong_differ_in_grey() -> None:
    def lightness(colour: str) -> float:
        red, green, blue = matplotlib.colors.to_rgb(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = sorted(lightness(colour) for colour in (panels.WRONG, panels.NEW, panels.OLD, panels.QUIET))
    assert all(lighter - darker > 0.15 for darker, lighter in itertools.pairwise(shades))


def test_both_files_are_written(tmp_path: Path) -> None:
    figure.write(EACH, tmp_path)
    assert (tmp_path / "rollout.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "rollout.svg").read_text()
