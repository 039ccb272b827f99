"""How a new model takes over: one of four strategies, and which share of the traffic it has for how long.

The rules of "Deployment guardrails" (Amazon SageMaker AI Developer Guide) are checked on whole instances, for every
size of the fleet that autoscaling may choose. Times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from stacks.section import Section

STRATEGIES = ("CANARY", "LINEAR", "ALL_AT_ONCE", "ROLLING")
Seconds = Annotated[int, Field(ge=0, le=3600)]


@dataclass(frozen=True, kw_only=True)
class Fleets:
    """The numbers of instances that may be running when a rollout begins, by the keys that say so.

    `least` and `most` are a key of the section and its value. An asynchronous endpoint's least may be 0: SageMaker makes
    no endpoint of none, so its smallest fleet is 1.
    """

    least: tuple[str, int]
    most: tuple[str, int]

    @property
    def sizes(self) -> range:
        """The number of instances of each fleet that there may be."""
        return range(max(1, self.least[1]), self.most[1] + 1)

    def origin(self, fleet: int) -> str:
        """The key that lets a fleet be of this size, with its value: "instance_count = 2"."""
        key, value = self.least if fleet == self.sizes[0] else self.most
        return f"{key} = {value}"


class Size(Section):
    """A part of the fleet: so many instances, or so many percent of them, rounded down to whole instances."""

    smallest: ClassVar[int] = 1
    largest: ClassVar[int] = 50

    unit: Literal["PERCENT", "INSTANCES"]
    value: int = Field(ge=1)

    @field_validator("value")
    @classmethod
    def _percent_is_taken(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("unit") == "PERCENT" and not cls.smallest <= value <= cls.largest:
            raise ValueError(
                f"must be {cls.smallest} to {cls.largest} percent of the fleet: SageMaker refuses any other."
            )
        return value

    def instances(self, fleet: int) -> int:
        """Whole instances out of `fleet`; 0 if the percentage makes none."""
        return self.value if self.unit == "INSTANCES" else fleet * self.value // 100

    def check(self, key: str, fleets: Fleets) -> None:
        """Raise `ValueError` if SageMaker refuses this part of any of the fleets; `key` is "rollout.canary"."""
        name = key.partition(".")[2].replace("_", " ")
        for fleet in fleets.sizes:
            part = self.instances(fleet)
            many = f"{self.value} %" if self.unit == "PERCENT" else str(part)
            said = f"{key}.value = {self.value}: a {name} of {many} of {fleet} instance(s), which {fleets.origin(fleet)} allows,"
            if part < 1:  # then of the smallest fleet first
                raise ValueError(
                    f"{said} is no whole instance, and what SageMaker makes of it is not documented. "
                    f"{self._remedy(key, fleet, fleets.least[0])}"
                )
            if self.unit == "INSTANCES" and not self.smallest * fleet <= 100 * part <= self.largest * fleet:
                raise ValueError(
                    f"{said} is {100 * part / fleet:.0f} %: SageMaker takes {self.smallest} to {self.largest} %. Use unit "
                    "PERCENT, or another value."
                )

    def _remedy(self, key: str, fleet: int, least: str) -> str:
        """The smallest changes of either number that make a whole instance."""
        enough, share = -(-100 // self.value), -(-100 // fleet)
        remedy = f"Raise {least} to {enough} or more"
        if share <= self.largest:
            return f"{remedy}, or {key}.value to {share}."
        return f"{remedy}; a single instance can only be replaced: ALL_AT_ONCE."


class CanarySize(Size):
    """At most half of the fleet ("Use canary traffic shifting")."""


class StepSize(Size):
    """A tenth to a half of the fleet ("Use linear traffic shifting")."""

    smallest = 10


class BatchSize(Size):
    """A twentieth to a half of the fleet ("Use rolling deployments")."""

    smallest = 5


class RollbackSize(Size):
    """Up to the whole old fleet at once ("RollingUpdatePolicy", SageMaker API Reference)."""

    largest = 100


class RolloutConfig(Section):
    """What every strategy has: after `timeout_seconds` SageMaker gives up and rolls back."""

    timeout_seconds: int = Field(ge=600, le=28_800)


class BlueGreen(RolloutConfig):
    """A second fleet beside the first, which ends `termination_wait_seconds` after all traffic has moved.

    That wait is the last bake: only here does the new fleet take all the traffic while the old one could take it back
    ("Events that SageMaker AI sends to EventBridge": "Baking for 600 seconds (TerminationWaitInSeconds)").
    """

    termination_wait_seconds: Seconds


class Canary(BlueGreen):
    """A share of the fleet takes traffic first."""

    strategy: Literal["CANARY"]
    canary: CanarySize
    bake_seconds: Seconds


class Linear(BlueGreen):
    """Traffic moves in equal steps, and each of them bakes."""

    strategy: Literal["LINEAR"]
    step: StepSize
    bake_seconds: Seconds


class AllAtOnce(BlueGreen):
    """All traffic moves at once."""

    strategy: Literal["ALL_AT_ONCE"]


class Rolling(RolloutConfig):
    """Batch by batch: new instances are started, bake, and as many old ones end; a second fleet is never whole.

    `rollback_batch` is how much of the old fleet comes back at once; "" (CDK drops every null) is all of it.
    """

    strategy: Literal["ROLLING"]
    batch: BatchSize
    rollback_batch: RollbackSize | None
    bake_seconds: Seconds

    @field_validator("rollback_batch", mode="before")
    @classmethod
    def _empty_is_all_at_once(cls, value: object) -> object:
        return None if value == "" else value


Rollout = Annotated[Canary | Linear | AllAtOnce | Rolling, Field(discriminator="strategy")]


def shares(rollout: Rollout, instances: int) -> list[tuple[Fraction, int]]:
    """The share of the new fleet at each stage, and the seconds for which it is baked; the last share is 1."""
    if isinstance(rollout, AllAtOnce):
        return [(Fraction(1), rollout.termination_wait_seconds)]
    if isinstance(rollout, Canary):
        first = Fraction(rollout.canary.instances(instances), instances)
        return [(first, rollout.bake_seconds), (Fraction(1), rollout.termination_wait_seconds)]
    size = rollout.step if isinstance(rollout, Linear) else rollout.batch
    part = size.instances(instances)
    steps = [(Fraction(moved, instances), rollout.bake_seconds) for moved in range(part, instances, part)]
    last = rollout.termination_wait_seconds if isinstance(rollout, Linear) else rollout.bake_seconds
    return [*steps, (Fraction(1), last)]


def check(
    rollout: Rollout,
    *,
    fleets: Fleets,
    alarm_seconds: int,
    error_percent: float | None = None,
) -> None:
    """Raise `ValueError` with rule and remedy if this rollout is refused, or could never do its work.

    `alarm_seconds` is how long an alarm may need to go off, `error_percent` the share of failed requests above which it
    does (None: the alarm counts no share).
    """
    for part in ("canary", "step", "batch", "rollback_batch"):
        size: Size | None = getattr(rollout, part, None)
        if size is not None:
            size.check(f"rollout.{part}", fleets)
    for wait in ("bake_seconds", "termination_wait_seconds"):
        seconds: int | None = getattr(rollout, wait, None)
        if seconds is not None and seconds < alarm_seconds:
            raise ValueError(
                f"rollout.{wait} = {seconds} is shorter than the {alarm_seconds} s that an alarm may need to go off: "
                "alarms.evaluation_periods and one more, of alarms.period_seconds each, because periods follow the clock "
                "and not the rollout. Lengthen the wait, or shorten the alarms' window."
            )
    waits = max(sum(seconds for _, seconds in shares(rollout, fleet)) for fleet in fleets.sizes)
    if isinstance(rollout, AllAtOnce):
        waits *= 2  # the wait is stated twice (stacks/serving/rollout.py)
    if waits >= rollout.timeout_seconds:
        raise ValueError(
            f"waits add up to {waits} s, which is not less than rollout.timeout_seconds = {rollout.timeout_seconds}: "
            "every rollout would time out and roll back. Raise the time-out or shorten the waits."
        )
    smallest = min(shares(rollout, fleet)[0][0] for fleet in fleets.sizes)
    if error_percent is not None and error_percent >= 100 * smallest:
        raise ValueError(
            f"alarms.error_percent = {error_percent} can never be exceeded at first: the new fleet has "
            f"{float(100 * smallest):g} % of the traffic, and no more of the requests can fail. Lower it below that "
            "share."
        )
