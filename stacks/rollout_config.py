"""How a new model takes over: one of four strategies, and which share of the traffic it has for how long.

The rules of "Deployment guardrails" (Amazon SageMaker AI Developer Guide) are checked on whole instances, for every
size of the fleet that autoscaling may choose. Times are in seconds.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from stacks.section import Section

STRATEGIES = ("CANARY", "LINEAR", "ALL_AT_ONCE", "ROLLING")
Seconds = Annotated[int, Field(ge=0, le=3600)]


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

    def check(self, what: str, fleet: int) -> None:
        """Raise `ValueError` if SageMaker refuses this part of so large a fleet; `what` is "a canary"."""
        part = self.instances(fleet)
        if part < 1:
            raise ValueError(
                f"{what} of {self.value} % of {fleet} instance(s) is no whole instance, and what SageMaker makes of it "
                "is not documented. Use more instances at the least, or a larger share; a single instance can only be "
                "replaced: ALL_AT_ONCE."
            )
        if self.unit == "INSTANCES" and not self.smallest * fleet <= 100 * part <= self.largest * fleet:
            raise ValueError(
                f"{what} of {part} of {fleet} instance(s) is {100 * part / fleet:.0f} %: SageMaker takes "
                f"{self.smallest} to {self.largest} %, and autoscaling may choose that fleet. Use unit PERCENT, "
                "or another value."
            )


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
    fleets: range,
    window_seconds: int,
    error_percent: float | None = None,
) -> None:
    """Raise `ValueError` with rule and remedy if this rollout is refused, or could never do its work.

    `fleets` are the numbers of instances that may be running, `window_seconds` is how long an alarm needs to go off,
    `error_percent` the share of failed requests above which it does (None: the alarm counts no share).
    """
    for fleet in fleets:
        _check_sizes(rollout, fleet)
    for wait in ("bake_seconds", "termination_wait_seconds"):
        seconds: int | None = getattr(rollout, wait, None)
        if seconds is not None and seconds < window_seconds:
            raise ValueError(
                f"rollout.{wait} = {seconds} is shorter than the alarms' evaluation window of {window_seconds} s: no "
                "alarm could fire in time. Lengthen the wait, or shorten the window."
            )
    waits = max(sum(seconds for _, seconds in shares(rollout, fleet)) for fleet in fleets)
    if isinstance(rollout, AllAtOnce):
        waits *= 2  # the wait is stated twice (stacks/serving/rollout.py)
    if waits >= rollout.timeout_seconds:
        raise ValueError(
            f"waits add up to {waits} s, which is not less than rollout.timeout_seconds = {rollout.timeout_seconds}: "
            "every rollout would time out and roll back. Raise the time-out or shorten the waits."
        )
    smallest = min(shares(rollout, fleet)[0][0] for fleet in fleets)
    if error_percent is not None and error_percent >= 100 * smallest:
        raise ValueError(
            f"alarms.error_percent = {error_percent} can never be exceeded at first: the new fleet has "
            f"{float(100 * smallest):g} % of the traffic, and no more of the requests can fail. Lower it below that "
            "share."
        )


def _check_sizes(rollout: Rollout, fleet: int) -> None:
    if isinstance(rollout, Canary):
        rollout.canary.check("a canary", fleet)
    elif isinstance(rollout, Linear):
        rollout.step.check("a step", fleet)
    elif isinstance(rollout, Rolling):
        rollout.batch.check("a batch", fleet)
        if rollout.rollback_batch:
            rollout.rollback_batch.check("a rollback batch", fleet)
