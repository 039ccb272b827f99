"""The sections of the inference options beside the real-time endpoint: serverless, asynchronous, batch, experiment."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline.instances import TRANSFORM_TYPES
from stacks import rollout_config
from stacks.option_section import OptionConfig
from stacks.rollout_config import Fleets, Rollout
from stacks.section import (
    AlarmTimes,
    Cooldown,
    EndpointInstance,
    InstanceType,
    Percent,
    Schedule,
    WholeNumber,
    matching,
)
from stacks.serving_rules import Option
from stacks.transform_filter import CsvFilter

EXPERIMENTS = ("AB", "SHADOW")
CHAMPION, CHALLENGER = "Champion", "Challenger"  # the variants of an experiment

Prefix = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"([a-z0-9-]+/)+",
        "must be folders of lower-case letters, digits and -, and each must end in /, e.g. batch/input/.",
    ),
]


def _transforms(value: str) -> str:
    if value not in TRANSFORM_TYPES:
        raise ValueError(
            f"no registered model declares it for batch transform. Use one of {', '.join(TRANSFORM_TYPES)}."
        )
    return value


class ServerlessConfig(OptionConfig):
    """No instances: copies of the container start on demand, up to `maximum_concurrency`, and end when idle.

    The first request to a new copy waits for it (the cold start); `provisioned_concurrency` of them are kept warm, for
    a price. Limits: "ServerlessConfig" (SageMaker API Reference).
    """

    option: ClassVar = Option.SERVERLESS

    memory_mib: Annotated[Literal[1024, 2048, 3072, 4096, 5120, 6144], WholeNumber]
    maximum_concurrency: int = Field(ge=1, le=200)
    provisioned_concurrency: int = Field(ge=0, le=200)

    @model_validator(mode="after")
    def _warm_ones_are_among_all(self) -> Self:
        if self.provisioned_concurrency > self.maximum_concurrency:
            raise ValueError(
                f"provisioned_concurrency = {self.provisioned_concurrency} exceeds maximum_concurrency = "
                f"{self.maximum_concurrency}: SageMaker refuses it. Lower it, or raise the maximum."
            )
        return self


class AsynchronousAlarmConfig(AlarmTimes):
    """When a rollout is rolled back: more than `failed_invocations` in a period, again and again.

    A number, not a share: an asynchronous endpoint publishes no Invocations to divide by.
    """

    failed_invocations: int = Field(ge=0)

    @field_validator("failed_invocations")
    @classmethod
    def _alarm_can_ring(cls, value: int) -> int:
        if value > 1_000:
            raise ValueError(
                "an alarm that so many failures in one period do not set off watches nothing. Use 1000 or fewer."
            )
        return value


class AsynchronousConfig(OptionConfig):
    """Requests wait in a queue, bodies and answers lie in S3, and with nothing to do `minimum_instances` run.

    That may be none. An endpoint that scales to one, or from none to one, cannot be split between two models: its
    rollout is ALL_AT_ONCE.
    """

    option: ClassVar = Option.ASYNCHRONOUS

    instance_type: EndpointInstance
    minimum_instances: int = Field(ge=0, le=100)
    maximum_instances: int = Field(ge=1, le=100)
    concurrent_invocations_per_instance: int = Field(ge=1, le=1000)
    input_prefix: Prefix
    output_prefix: Prefix
    failure_prefix: Prefix
    backlog_per_instance: int = Field(ge=1)
    scale_in_cooldown_seconds: Cooldown
    scale_out_cooldown_seconds: Cooldown
    rollout: Rollout
    alarms: AsynchronousAlarmConfig

    @property
    def fleets(self) -> Fleets:
        """The numbers of instances that may be running when a rollout begins."""
        return Fleets(
            least=("minimum_instances", self.minimum_instances),
            most=("maximum_instances", self.maximum_instances),
        )

    @property
    def fewest(self) -> int:
        """The smallest fleet there is: SageMaker makes no endpoint of none, whatever scaling makes of it later."""
        return self.fleets.sizes[0]

    @model_validator(mode="after")
    def _rollout_can_work(self) -> Self:
        if self.minimum_instances > self.maximum_instances:
            raise ValueError(
                f"minimum_instances = {self.minimum_instances} exceeds maximum_instances = {self.maximum_instances}: "
                "Application Auto Scaling refuses it. Lower it, or raise the maximum."
            )
        rollout_config.check(self.rollout, fleets=self.fleets, alarm_seconds=self.alarms.alarm_seconds)
        return self


class BatchConfig(OptionConfig):
    """Lines of CSV in, the same lines with their predictions out: `MultiRecord` sends as many a request as fit.

    `input_filter` chooses the columns the model is asked with, `join_source` puts its answer behind the line that was
    read, and `output_filter` chooses from both what is written.
    """

    option: ClassVar = Option.BATCH

    instance_type: Annotated[InstanceType, AfterValidator(_transforms)]
    instance_count: int = Field(ge=1, le=20)
    input_prefix: Prefix
    output_prefix: Prefix
    input_filter: CsvFilter
    join_source: Literal["Input", "None"]
    output_filter: CsvFilter
    strategy: Literal["MultiRecord", "SingleRecord"]
    max_payload_mb: int = Field(ge=1, le=100)
    max_concurrent_transforms: int = Field(ge=1, le=100)
    schedule: Schedule
    schedule_enabled: bool

    @model_validator(mode="after")
    def _aws_takes_them_together(self) -> Self:
        if self.max_payload_mb * self.max_concurrent_transforms > 100:
            raise ValueError(
                f"max_payload_mb = {self.max_payload_mb} x max_concurrent_transforms = "
                f"{self.max_concurrent_transforms} exceeds 100 MB: SageMaker refuses the job "
                '("CreateTransformJob"). Lower one of them.'
            )
        if self.join_source == "None" and self.output_filter != "$":
            raise ValueError(
                f"output_filter = {self.output_filter} selects from the joined record, and join_source = None joins "
                'nothing. Use join_source Input, or output_filter "$".'
            )
        return self


class ExperimentConfig(OptionConfig):
    """Two models behind one endpoint of its own, both captured, and what would count as a difference.

    `minimum_effect` is the smallest difference of the error rates that matters; with `confidence` and `power` it says
    how many answers are needed before anything is concluded (tools/compare.py).
    """

    instance_type: EndpointInstance
    instance_count: int = Field(ge=1, le=50)
    data_capture_percent: Percent
    confidence: float = Field(gt=0.5, lt=1)
    power: float = Field(ge=0.5, lt=1)
    minimum_effect: float = Field(gt=0)

    @field_validator("minimum_effect")
    @classmethod
    def _models_can_differ_so_much(cls, value: float) -> float:
        if not value < 0.5:
            raise ValueError(
                "a model that errs half of the time is a coin, and no useful one is further from another. Use less "
                "than 0.5."
            )
        return value


class AbConfig(ExperimentConfig):
    """Each request goes to one of two variants, `challenger_percent` of them to the challenger."""

    option: ClassVar = Option.AB

    kind: Literal["AB"]
    challenger_percent: int = Field(ge=1, le=50)


class ShadowConfig(ExperimentConfig):
    """`mirrored_percent` of the requests go to the challenger, too, and its answers to nobody."""

    option: ClassVar = Option.SHADOW

    kind: Literal["SHADOW"]
    mirrored_percent: Percent


Experiment = Annotated[AbConfig | ShadowConfig, Field(discriminator="kind")]
