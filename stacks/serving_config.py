"""The section `serving`: the real-time endpoint, its alarms, its scaling, and how a new model takes it over."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from stacks import rollout_config
from stacks.option_section import OptionConfig
from stacks.rollout_config import Fleets, Rollout
from stacks.section import AlarmTimes, Cooldown, EndpointInstance, Percent, Schedule, Section, matching
from stacks.serving_rules import Option


class QualityConfig(Section):
    """The band in which the mean of the predictions must lie: a score, or the label's unit (minutes) in regression.

    It goes with `training.problem_type`: a band of scores would take every regression model back. The mean is of both
    fleets, share x new + (1 - share) x old: an edge acts in the first bake only where it lies between the usual mean and
    share x wrong + (1 - share) x usual, otherwise in the last one, when the new fleet has all the traffic.
    A minute with fewer predictions than `minimum_predictions` is not judged: the mean of a few says nothing.
    """

    minimum_mean_score: float = Field(allow_inf_nan=False)
    maximum_mean_score: float = Field(allow_inf_nan=False)
    minimum_predictions: int = Field(ge=1)

    @model_validator(mode="after")
    def _band_is_open(self) -> Self:
        if not self.minimum_mean_score < self.maximum_mean_score:
            raise ValueError(
                f"minimum_mean_score = {self.minimum_mean_score} is not below maximum_mean_score = "
                f"{self.maximum_mean_score}: every mean would be outside. Widen the band."
            )
        return self


class AlarmConfig(AlarmTimes):
    """When a rollout is rolled back: `error_percent` of requests answered 5xx, slow answers, odd predictions.

    The documented dimensions name no fleet, so a canary's errors are diluted by the other fleet: `error_percent` must
    lie below the canary's share, which is checked. `p99` shows a slow tail, which `Average` hides, as it hides a canary:
    with `Average` the threshold is to be multiplied by the share. That AWS publishes percentiles of the latency is not
    documented (`make verify-aws` asks, once there is traffic).
    """

    error_percent: float = Field(gt=0, le=100)
    latency_milliseconds: int = Field(ge=1)
    latency_statistic: Literal["p99", "Average", "Maximum"]
    quality: QualityConfig

    @field_validator("latency_milliseconds")
    @classmethod
    def _latency_can_exceed_it(cls, value: int) -> int:
        if value >= 60_000:
            raise ValueError(
                "no latency exceeds it: InvokeEndpoint ends a request after 60 s. Use less than 60000."
            )
        return value


class ScheduledAction(Section):
    """From each of these times on (UTC), the fleet has at least `minimum` and at most `maximum` instances.

    A cron expression whose year has passed is taken, though it acts no more: synth has no clock.
    """

    name: Annotated[
        str,
        matching(
            r"[a-z][a-z0-9-]{0,62}", "must be 1 to 63 lower-case letters, digits and -, a letter first."
        ),
    ]
    schedule: Schedule
    minimum: int = Field(ge=1, le=100)
    maximum: int = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if self.maximum < self.minimum:
            raise ValueError(
                f"maximum = {self.maximum} is below minimum = {self.minimum}: Application Auto Scaling refuses it. "
                "Exchange them."
            )
        return self


class AutoscalingConfig(Section):
    """Target tracking on invocations per instance and minute, and limits by the clock; cool-downs in seconds."""

    maximum_instances: int = Field(ge=1, le=100)
    invocations_per_instance: int = Field(ge=1)
    scale_in_cooldown_seconds: Cooldown
    scale_out_cooldown_seconds: Cooldown
    scheduled: Sequence[ScheduledAction]

    @model_validator(mode="after")
    def _schedule_ends_where_it_began(self) -> Self:
        names = [action.name for action in self.scheduled]
        if len(set(names)) < len(names):
            raise ValueError(
                f"scheduled: {', '.join(names)}: the later of one name would replace the earlier. Give each its own."
            )
        names_at: dict[str, str] = {}
        for action in self.scheduled:
            if other := names_at.get(action.schedule):
                raise ValueError(
                    f"scheduled: {other} and {action.name} act at the same times, {action.schedule}, and which of them "
                    "comes last is undefined. Give each times of its own, or remove one."
                )
            names_at[action.schedule] = action.name
        highest = max((action.maximum for action in self.scheduled), default=self.maximum_instances)
        if highest != self.maximum_instances:
            raise ValueError(
                f"scheduled: the largest maximum is {highest}, and maximum_instances = {self.maximum_instances}. An "
                "action holds until the next one, so one of them must give the maximum back, and none may exceed it."
            )
        return self


class ServingConfig(OptionConfig):
    """The real-time endpoint and how a new model takes it over."""

    option: ClassVar = Option.REAL_TIME

    instance_type: EndpointInstance
    instance_count: int = Field(ge=1, le=50)
    data_capture_percent: Percent
    rollout: Rollout
    alarms: AlarmConfig
    autoscaling: AutoscalingConfig

    @property
    def fleets(self) -> Fleets:
        """The numbers of instances that may be running when a rollout begins."""
        scaling = self.autoscaling
        minimums = [(f"autoscaling.scheduled.{it.name}.minimum", it.minimum) for it in scaling.scheduled]
        return Fleets(
            least=min([("instance_count", self.instance_count), *minimums], key=itemgetter(1)),
            most=("autoscaling.maximum_instances", scaling.maximum_instances),
        )

    @model_validator(mode="after")
    def _rollout_can_work(self) -> Self:
        if self.autoscaling.maximum_instances < self.instance_count:
            raise ValueError(
                f"autoscaling.maximum_instances = {self.autoscaling.maximum_instances} is below instance_count = "
                f"{self.instance_count}, the minimum. Raise the maximum."
            )
        rollout_config.check(
            self.rollout,
            fleets=self.fleets,
            alarm_seconds=self.alarms.alarm_seconds,
            error_percent=self.alarms.error_percent,
        )
        return self
