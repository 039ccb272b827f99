"""Whatever the lines are, every record has exactly one outcome, and it is the oracle's."""

import random

import pytest

from tests.pipeline.spark.raw import assert_equals_oracle, csv_line
from tools import replay

# The last two: a byte that is not UTF-8, and a letter of two bytes.
JSON_TEXT = '{}[],:" eE.-+0123456789naNZTul\\\udce9é'
CSV_TEXT = ", eE.-+0123456789naNZT:\udce9é"


def mutated(line: str, chance: random.Random, alphabet: str) -> list[str]:
    """The line, or the line with a few characters changed, cut, doubled, or twice."""
    at, other = sorted(chance.randrange(len(line)) for _ in range(2))
    return chance.choice(
        [
            [line],
            [line, line],
            [line[:at] + chance.choice(alphabet) + line[at:]],
            [line[:at] + chance.choice(alphabet) + line[at + 1 :]],
            [line[:at] + line[at + 1 :]],
            [line[:at] + line[other:]],
            [line[:other]],
            [line + line],
        ]
    )


def fuzz(raw, run, seed):
    chance = random.Random(seed)  # noqa: S311
    flights = replay.events(flights=200, seed=seed)
    lines = [csv_line(sent.flight) for sent in flights[:100]]
    raw.batch(*(new for line in lines for new in mutated(line, chance, CSV_TEXT)))
    raw.stream(*(new for sent in flights[100:] for new in mutated(sent.json(), chance, JSON_TEXT)))
    assert_equals_oracle(raw, run(raw))


def test_any_lines_are_accounted_for(raw, run):
    fuzz(raw, run, 1)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 42))
def test_any_lines_are_accounted_for_whatever_the_seed(raw, run, seed):
    fuzz(raw, run, seed)
