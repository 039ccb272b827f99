"""Configuration: `cdk.json` context → one frozen, strict model; each construct gets only its own section.

Nothing has a default here: every knob of every stage stands in `cdk.json`, where a reader can see it. Values and
combinations that AWS would refuse at deploy are refused here, at synth, with AWS's reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline import schema
from stacks import complaints, stage_rules
from stacks.option_config import (
    AsynchronousConfig,
    BatchConfig,
    Experiment,
    ServerlessConfig,
)
from stacks.section import Percent, Section, WholeNumber, matching
from stacks.serving_config import ServingConfig
from stacks.serving_rules import Option
from stacks.training_config import TrainingConfig

STAGES = ("sandbox", "production")
FILE = "cdk.json"
DEPLOYMENT_TAG = "deployment"

# What the CDK CLI itself keeps in the context under a name without a colon or a slash.
CLI_KEYS = ("acknowledged-issue-numbers", "cli-telemetry")


# The days CloudWatch Logs accepts ("PutRetentionPolicy", CloudWatch Logs API Reference).
LogDays = Annotated[Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], WholeNumber]
Name = Annotated[
    str,
    matching(r"[a-z][a-z0-9-]{1,19}", "must be 2 to 20 lower-case letters, digits and -, a letter first."),
]
Dataset = Annotated[str, matching(r"[a-z0-9_-]+", "must be lower-case letters, digits, _ and -.")]
Email = Annotated[str, matching(r"[^@\s]+@[^@\s]+\.[^@\s]+", 'must be an address, or "" for nobody.')]
# "Tag your Amazon EC2 resources", restrictions; of the 50, CDK gives a subnet three, and one is `DEPLOYMENT_TAG`.
TAG_KEY = re.compile(r"(?!aws:)[\w .:/=+@-]{1,128}", re.IGNORECASE)
TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
TAGS = 46


class ConfigError(Exception):
    """A configuration that cannot be deployed: one message that names file, key, value and remedy."""


class FoundationConfig(Section):
    """What holds state, and how long it is kept. `isolation` puts every job into a VPC without internet."""

    isolation: bool
    availability_zones: int = Field(ge=2, le=3)
    retain_data: bool
    termination_protection: bool
    raw_retention_days: int = Field(ge=1, le=3650)
    noncurrent_version_days: int = Field(ge=1, le=365)
    access_log_days: int = Field(ge=1, le=3650)
    # Not shorter than the 30 days for which a pipeline's step is cached (pipeline/definition.py).
    working_data_days: int = Field(ge=30, le=3650)
    log_retention_days: LogDays
    key_pending_window_days: int = Field(ge=7, le=30)
    transfer_acceleration: bool


class IngestionConfig(Section):
    """Kinesis, Firehose and the Lambda consumer. Sizes in records or MiB, times in seconds or hours."""

    stream_mode: Literal["PROVISIONED", "ON_DEMAND"]
    shard_count: int = Field(ge=1, le=100)
    stream_retention_hours: int = Field(ge=24, le=8760)
    firehose_buffer_seconds: int = Field(ge=60, le=900)
    firehose_buffer_mib: int = Field(ge=1, le=128)
    consumer_batch_size: int = Field(ge=1, le=10_000)
    consumer_batching_window_seconds: int = Field(ge=0, le=300)
    consumer_retry_attempts: int = Field(ge=0, le=100)
    consumer_max_record_age_seconds: int = Field(ge=60, le=604_800)
    consumer_parallelization_factor: int = Field(ge=1, le=10)
    consumer_timeout_seconds: int = Field(ge=3, le=900)
    consumer_memory_mib: int = Field(ge=128, le=10_240)

    @model_validator(mode="after")
    def _age_within_retention(self) -> Self:
        if self.consumer_max_record_age_seconds > self.stream_retention_hours * 3600:
            raise ValueError(
                f"consumer_max_record_age_seconds = {self.consumer_max_record_age_seconds} exceeds "
                f"stream_retention_hours = {self.stream_retention_hours}: Kinesis would have dropped the record "
                "first. Lower the age or keep the stream longer."
            )
        return self


class ProcessingConfig(Section):
    """Glue. `number_of_workers` of `worker_type`; times in minutes."""

    worker_type: Literal["G_1X", "G_2X", "G_4X"]
    number_of_workers: int = Field(ge=2, le=100)
    job_timeout_minutes: int = Field(ge=5, le=2880)
    job_max_retries: int = Field(ge=0, le=3)
    start_on_upload: bool
    upload_batch_size: int = Field(ge=1, le=100)
    # Glue waits for a batch of uploads for 900 seconds at most ("EventBatchingCondition", AWS Glue API).
    upload_batch_window_seconds: int = Field(ge=1, le=900)
    maximum_quarantined_percent: float = Field(ge=0, le=100)


class MonitoringConfig(Section):
    """Who is told, and what a month may cost (US dollars)."""

    alarm_email: Email | None
    monthly_budget_usd: int = Field(ge=1)
    budget_alert_percent: Percent

    @field_validator("alarm_email", mode="before")
    @classmethod
    def _empty_is_nobody(cls, value: object) -> object:
        # CDK drops every null from the context, so "nobody" has to be spelled as an empty string.
        return None if value == "" else value


class StageConfig(Section):
    """One stage, as `cdk.json` spells it under `stages`."""

    name: Name
    dataset: Dataset
    tags: Mapping[str, str]
    options: Sequence[Literal["serverless", "asynchronous", "batch", "experiment"]]
    foundation: FoundationConfig
    ingestion: IngestionConfig
    processing: ProcessingConfig
    training: TrainingConfig
    serving: ServingConfig
    serverless: ServerlessConfig
    asynchronous: AsynchronousConfig
    batch: BatchConfig
    experiment: Experiment
    monitoring: MonitoringConfig

    @field_validator("options")
    @classmethod
    def _each_once(cls, value: Sequence[str]) -> Sequence[str]:
        if len(set(value)) < len(value):
            raise ValueError("an option is one stack. List each once.")
        return value

    @model_validator(mode="after")
    def _sections_go_together(self) -> Self:
        stage_rules.check(self)
        return self

    @field_validator("tags")
    @classmethod
    def _aws_takes_the_tags(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if len(value) > TAGS:
            raise ValueError(f"{len(value)} tags: AWS takes 50 a resource, which leaves {TAGS}. Remove some.")
        if len({key.lower() for key in value}) < len(value):
            raise ValueError("IAM takes keys that differ in case alone for the same key. Keep one of them.")
        for key, text in value.items():
            if not (TAG_KEY.fullmatch(key) and TAG_VALUE.fullmatch(text)):
                raise ValueError(
                    f"{json.dumps(key)} = {json.dumps(text)}: AWS takes letters, digits, spaces and _ . : / = + - @, 1 "
                    "to 128 of them in a key, which must not begin with aws:, and at most 256 in a value. Change it."
                )
        return value

    @field_validator("tags")
    @classmethod
    def _deployment_is_derived(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        # IAM takes keys that differ in case alone for the same key.
        if any(key.lower() == DEPLOYMENT_TAG for key in value):
            raise ValueError(f"every resource carries the tag {DEPLOYMENT_TAG} already. Use another key.")
        return value


class Config(StageConfig):
    """A stage with its name; the names that several stacks must agree on are derived here, once."""

    stage: Literal["sandbox", "production"]

    @property
    def prefix(self) -> str:
        """The start of every physical name that AWS demands: at most 31 characters."""
        return f"{self.name}-{self.stage}"

    @property
    def deployment_tag(self) -> tuple[str, str]:
        """Key and value that no other deployment's resources carry; `tags` are free text, which several may share."""
        return DEPLOYMENT_TAG, self.prefix

    @property
    def endpoint_name(self) -> str:
        """A deterministic string: alarms, the consumer and autoscaling name the endpoint before it exists."""
        return self.endpoint_names[Option.REAL_TIME]

    @property
    def endpoint_names(self) -> Mapping[Option, str]:
        """The endpoint of each option that has one; an experiment has one endpoint, of either kind."""
        experiment = f"{self.prefix}-experiment"
        return MappingProxyType(
            {
                Option.REAL_TIME: self.prefix,
                Option.SERVERLESS: f"{self.prefix}-serverless",
                Option.ASYNCHRONOUS: f"{self.prefix}-async",
                Option.AB: experiment,
                Option.SHADOW: experiment,
            }
        )

    @property
    def deployed_endpoints(self) -> Sequence[str]:
        """The names of the real-time endpoint, and of those of the listed options."""
        listed = [getattr(self, option).option for option in self.options]
        names = self.endpoint_names
        return [self.endpoint_name, *(names[option] for option in listed if option in names)]

    @property
    def result_topics(self) -> tuple[str, str]:
        """The asynchronous endpoint's topics, for answers and failures: Foundation lets the model publish there."""
        return f"{self.prefix}-async-success", f"{self.prefix}-async-error"

    def stack_name(self, stack: str) -> str:
        """The CloudFormation name of a stack; fixed, because permissions are bound to it."""
        return f"{self.prefix}-{stack.lower()}"


def load(context: Mapping[str, Any]) -> Config:
    """Build the configuration of the chosen stage from CDK context (`-c stage=production` chooses).

    Raises `ConfigError` with one line for every wrong key, value or combination.
    """
    if not {"stage", "stages"} & context.keys():
        raise ConfigError(
            f"no context: the CDK CLI passes that of {FILE} to app.py. Run: npx cdk synth, or make synth."
        )
    for key in context:
        if not {":", "/"} & set(key) and key not in ("stage", "stages", *CLI_KEYS):
            raise ConfigError(
                f"{FILE}: context.{key} = {json.dumps(context[key])}: unknown key. The command line takes -c stage=…; "
                f"all else is changed in {FILE}."
            )
    stage = context.get("stage")
    if stage not in STAGES:
        raise ConfigError(
            f"{FILE}: stage = {json.dumps(stage)}: must be one of {', '.join(STAGES)}. Use -c stage=sandbox."
        )
    stages = context.get("stages")
    if not isinstance(stages, Mapping) or stage not in stages:
        raise ConfigError(f"{FILE}: context.stages.{stage}: missing. Restore it from version control.")
    if not isinstance(stages[stage], Mapping):
        raise ConfigError(f"{FILE}: context.stages.{stage} = {json.dumps(stages[stage])}: must be an object.")
    try:
        config = Config.model_validate({**stages[stage], "stage": stage})
        schema.load(config.dataset)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(complaints.lines(error, Config, f"{FILE}: context.stages.{stage}"))
        ) from None
    except schema.SchemaError as error:
        raise ConfigError(
            f"{FILE}: context.stages.{stage}.dataset = {json.dumps(config.dataset)}: {error}"
        ) from None
    return config
