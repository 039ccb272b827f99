"""Cron expressions as EventBridge Scheduler reads them: six fields, each with its own values and wildcards.

Source: "Cron-based schedules", EventBridge Scheduler User Guide, and the table of "Cron expressions reference", Amazon
EventBridge User Guide. Task 3.3 of the exam guide (automated pipelines).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    wildcards: str
    names: tuple[str, ...] = ()

    def takes(self, text: str) -> bool:
        """A wildcard that stands alone, or a list of values, ranges and steps."""
        if text == "?" or (text == "L" and "L" in self.wildcards):
            return text in self.wildcards
        if "W" in self.wildcards and (day := re.fullmatch(r"(\w+)W", text)):
            return day[1] == "L" or self.number(day[1]) is not None
        if "#" in self.wildcards and (day := re.fullmatch(r"(\w+)(L|#[1-5])", text)):
            return self.number(day[1]) is not None
        return all(self.part(part) for part in text.split(","))

    def part(self, text: str) -> bool:
        values, slash, step = text.partition("/")
        if slash and ("/" not in self.wildcards or not _whole(step) or not 1 <= int(step) <= self.high):
            return False
        if values == "*":
            return True
        low, dash, high = values.partition("-")
        # A range may pass midnight: 20-2 is an example of the guide.
        return self.number(low) is not None and (not dash or self.number(high) is not None)

    def number(self, text: str) -> int | None:
        if text in self.names:
            return self.low + self.names.index(text)
        return int(text) if _whole(text) and self.low <= int(text) <= self.high else None


def _whole(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,4}", text))


FIELDS = (
    _Field("minutes", 0, 59, ",-*/"),
    _Field("hours", 0, 23, ",-*/"),
    _Field("day of month", 1, 31, ",-*?/LW"),
    _Field("month", 1, 12, ",-*/", MONTHS),
    _Field("day of week", 1, 7, ",-*?L#", DAYS),
    _Field("year", 1970, 2199, ",-*/"),
)


def check(schedule: str) -> str:
    """The schedule itself, if AWS takes it; a `rate(…)` is none of ours. Raises `ValueError` with field and remedy."""
    if not schedule.startswith("cron("):
        return schedule
    texts = schedule.removeprefix("cron(").removesuffix(")").split()
    for field, text in zip(FIELDS, texts, strict=True):
        if not field.takes(text):
            names = f" or {field.names[0]}-{field.names[-1]}" if field.names else ""
            raise ValueError(
                f"{field.name} {text}: must be {field.low}-{field.high}{names}, or made of these with "
                f"{' '.join(field.wildcards)}. See stacks/cron.py."
            )
    if (texts[2] == "?") == (texts[4] == "?"):
        raise ValueError(
            "EventBridge takes either days of the month or days of the week: exactly one of the third and fifth "
            "fields must be ?."
        )
    return schedule
