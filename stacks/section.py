"""What every section of the configuration shares: strictness, and the kinds of values that several of them hold."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.instances import REALTIME_TYPES
from stacks import cron


class Section(BaseModel):
    """Frozen (constructs cannot change it), strict (no "3" for 3), and no key that nothing reads."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def matching(pattern: str, rule: str) -> AfterValidator:
    """Text that fits the pattern as a whole; what does not is refused with the rule, in words and with an example."""

    def fits(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return AfterValidator(fits)


def _whole(value: object) -> object:
    # A Literal takes what is equal to a member, and in Python 1 == 1.0 == True.
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


def _hosts_our_models(value: str) -> str:
    if value.startswith("ml.t"):
        raise ValueError(
            "burstable, and Application Auto Scaling refuses to register such a variant. Use ml.m5.large or larger."
        )
    if value not in REALTIME_TYPES:
        raise ValueError(
            "no registered model declares it: the endpoint's volume is encrypted with our key (KmsKeyId), which AWS "
            "refuses on instances with local storage; and AWS's XGBoost image needs an x86 instance. Use one of "
            f"{', '.join(REALTIME_TYPES)}."
        )
    return value


WholeNumber = BeforeValidator(_whole)
Percent = Annotated[int, Field(ge=1, le=100)]
InstanceType = Annotated[
    str, matching(r"ml\.[a-z0-9-]+\.[a-z0-9]+", "must be ml., family and size, e.g. ml.m5.large.")
]
EndpointInstance = Annotated[InstanceType, AfterValidator(_hosts_our_models)]
Cooldown = Annotated[int, Field(ge=0, le=3600)]
# SageMaker publishes endpoint metrics once a minute: a shorter period would only ever find missing data.
AlarmPeriod = Annotated[Literal[60, 120, 180, 240, 300], WholeNumber]
# "Schedule types on EventBridge Scheduler": a rate in minutes, hours or days (one of them in the singular, as EventBridge
# demands of its rules), or a cron expression of six fields. Application Auto Scaling takes the same two.
Schedule = Annotated[
    str,
    matching(
        r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)|cron\(\S+( \S+){5}\)",
        "must be a rate, e.g. rate(1 day) or rate(7 days), or a cron expression of six fields, e.g. cron(0 6 * * ? *).",
    ),
    AfterValidator(cron.check),
]


class AlarmTimes(Section):
    """How long something must be wrong before an alarm goes off: `evaluation_periods` of `period_seconds` in a row."""

    period_seconds: AlarmPeriod
    evaluation_periods: int = Field(ge=1, le=10)

    @property
    def alarm_seconds(self) -> int:
        """How long an alarm may need to go off: its window, and one period more.

        Periods follow the clock, and metrics come once a minute: the period within which a fault begins may be over
        before enough of the fault is in it, and the last one counts when it has ended.
        """
        return self.period_seconds * (self.evaluation_periods + 1)
