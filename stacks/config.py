"""Configuration: `cdk.json` context → one frozen, strict model; each construct gets only its own section.

Nothing has a default here: every knob of every stage stands in `cdk.json`, where a reader can see it. Values and
combinations that AWS would refuse at deploy are refused here, at synth, with AWS's reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline import hyperparameters, schema
from pipeline.instances import JOB_SIZES, REALTIME_TYPES
from stacks import cron

STAGES = ("sandbox", "production")
# Members of unions: Pydantic puts the one it tried into an error's location, where the file has no such key.
ROLLOUTS = ("CANARY", "LINEAR", "ALL_AT_ONCE")
SCALARS = ("int", "float", "str")
OBJECT = "must be an object. See stacks/config.py for its keys."
STRATEGY = f"must be one of {', '.join(ROLLOUTS)}."
# What to do about an error that Pydantic describes in its own terms.
REMEDIES = {
    "dict_type": OBJECT,
    "extra_forbidden": "unknown key. Remove it, or see stacks/config.py for the names.",
    "missing": "missing. Every stage states every knob; see stacks/config.py.",
    "model_attributes_type": OBJECT,
    "model_type": OBJECT,
    "union_tag_invalid": STRATEGY,
    "union_tag_not_found": STRATEGY,
}
FILE = "cdk.json"
DEPLOYMENT_TAG = "deployment"

# What the CDK CLI itself keeps in the context under a name without a colon or a slash.
CLI_KEYS = ("acknowledged-issue-numbers", "cli-telemetry")


def _whole(value: object) -> object:
    # A Literal takes what is equal to a member, and in Python 1 == 1.0 == True.
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


WholeNumber = BeforeValidator(_whole)
# The days CloudWatch Logs accepts ("PutRetentionPolicy", CloudWatch Logs API Reference).
LogDays = Annotated[Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], WholeNumber]
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,19}$")]
Percent = Annotated[int, Field(ge=1, le=100)]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
# "Schedule types on EventBridge Scheduler": a rate in minutes, hours or days (one of them in the singular, as EventBridge
# demands of its rules), or a cron expression of six fields.
Schedule = Annotated[
    str,
    Field(
        pattern=r"^(rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)|cron\(\S+( \S+){5}\))$"
    ),
    AfterValidator(cron.check),
]
# "Tag your Amazon EC2 resources", restrictions; of the 50, CDK gives a subnet three, and one is `DEPLOYMENT_TAG`.
TAG_KEY = re.compile(r"(?!aws:)[\w .:/=+@-]{1,128}", re.IGNORECASE)
TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
TAGS = 46


class ConfigError(Exception):
    """A configuration that cannot be deployed: one message that names file, key, value and remedy."""


class Section(BaseModel):
    """Frozen (constructs cannot change it), strict (no "3" for 3), and no key that nothing reads."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


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


class TrainingConfig(Section):
    """The SageMaker Pipeline: `problem_type` and `estimator` choose its structure, the rest are its parameters.

    A model is registered only with at least `minimum_auc` (classification), or at most `maximum_rmse` in the label's
    unit (regression: minutes for flights).
    """

    problem_type: Literal["classification", "regression"]
    estimator: Literal["xgboost", "linear"]
    processing_instance_type: InstanceType
    training_instance_type: InstanceType
    instance_count: Annotated[Literal[1], WholeNumber]
    volume_size_gib: int = Field(ge=1, le=1024)
    max_runtime_seconds: int = Field(ge=60, le=432_000)
    minimum_auc: float = Field(ge=0.5)
    maximum_rmse: float = Field(gt=0, allow_inf_nan=False)
    hyperparameters: Mapping[str, int | float | str]
    start_on_curated: bool
    schedule: Schedule
    schedule_enabled: bool

    @field_validator("processing_instance_type", "training_instance_type")
    @classmethod
    def _takes_our_volume_key(cls, value: str) -> str:
        family, size = value.split(".")[1:]
        if family not in JOB_SIZES:
            raise ValueError(
                "SageMaker's jobs encrypt their volume with our key (VolumeKmsKeyId), which AWS refuses on instances "
                f"with local storage, and does not offer every family. Use one of {', '.join(JOB_SIZES)}."
            )
        if size not in (sizes := JOB_SIZES[family].split()):
            raise ValueError(
                f"SageMaker's jobs know no such size of {family}. Use one of {', '.join(sizes)}."
            )
        return value

    @field_validator("hyperparameters")
    @classmethod
    def _training_takes_them(
        cls, value: Mapping[str, int | float | str], info: ValidationInfo
    ) -> Mapping[str, int | float | str]:
        if estimator := info.data.get("estimator"):  # else that is the mistake
            # SageMaker passes hyperparameters as strings, whatever they are in cdk.json.
            hyperparameters.parse(estimator, {name: str(given) for name, given in value.items()})
        return value

    @model_validator(mode="after")
    def _device_is_there(self) -> Self:
        if self.hyperparameters.get("device") == "cuda" and self.training_instance_type[3] not in "gp":
            raise ValueError(
                f"hyperparameters.device = cuda needs a GPU, and {self.training_instance_type} has none: XGBoost would "
                "fail after the job has started. Use cpu, or an ml.p3 instance."
            )
        return self

    @field_validator("minimum_auc")
    @classmethod
    def _auc_can_be_met(cls, value: float) -> float:
        if not value < 1:
            raise ValueError(
                "AUC is below 1: no model would ever be registered. Use a number between 0.5 and 1."
            )
        return value

    @property
    def metric_threshold(self) -> float:
        """What the chosen problem's metric is compared with."""
        return self.minimum_auc if self.problem_type == "classification" else self.maximum_rmse


class CanaryConfig(Section):
    """A share of the fleet takes traffic first ("Use canary traffic shifting", SageMaker Developer Guide)."""

    strategy: Literal["CANARY"]
    # AWS refuses a canary of more than half of the fleet.
    canary_percent: int = Field(ge=5, le=50)
    wait_seconds: int = Field(ge=0, le=3600)


class LinearConfig(Section):
    """Traffic moves in equal steps ("Use linear traffic shifting", SageMaker Developer Guide)."""

    strategy: Literal["LINEAR"]
    step_percent: int = Field(ge=10, le=50)
    wait_seconds: int = Field(ge=0, le=3600)


class AllAtOnceConfig(Section):
    """All traffic moves, then the old fleet bakes ("Use all at once traffic shifting")."""

    strategy: Literal["ALL_AT_ONCE"]
    wait_seconds: int = Field(ge=0, le=3600)


class AlarmConfig(Section):
    """When a rollout is rolled back: `error_percent` of requests answered 5xx, or p99 latency in milliseconds.

    AWS gives endpoint metrics no dimension for a fleet, so a canary's errors are diluted by the other fleet:
    thresholds are sized for the canary's share.
    """

    error_percent: float = Field(gt=0, le=100)
    latency_milliseconds: int = Field(ge=1, le=60_000)
    # SageMaker publishes endpoint metrics once a minute: a shorter period would only ever find missing data.
    period_seconds: Annotated[Literal[60, 120, 180, 240, 300], WholeNumber]
    evaluation_periods: int = Field(ge=1, le=10)


class AutoscalingConfig(Section):
    """Target tracking on invocations per instance and minute; cool-downs in seconds."""

    maximum_instances: int = Field(ge=1, le=100)
    invocations_per_instance: int = Field(ge=1)
    scale_in_cooldown_seconds: int = Field(ge=0, le=3600)
    scale_out_cooldown_seconds: int = Field(ge=0, le=3600)


class ServingConfig(Section):
    """The real-time endpoint and how a new model takes it over."""

    instance_type: InstanceType
    instance_count: int = Field(ge=1, le=50)
    data_capture_percent: Percent
    rollout: CanaryConfig | LinearConfig | AllAtOnceConfig = Field(discriminator="strategy")
    termination_wait_seconds: int = Field(ge=0, le=3600)
    timeout_seconds: int = Field(ge=600, le=28_800)
    alarms: AlarmConfig
    autoscaling: AutoscalingConfig

    @field_validator("instance_type")
    @classmethod
    def _scales_and_takes_our_key(cls, value: str) -> str:
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

    @model_validator(mode="after")
    def _rollout_can_work(self) -> Self:
        rollout, alarms = self.rollout, self.alarms
        if isinstance(rollout, CanaryConfig):
            canary = self.instance_count * rollout.canary_percent / 100
            if self.instance_count < 2 or round(canary) < 1:
                raise ValueError(
                    f"a canary of {rollout.canary_percent} % of {self.instance_count} instance(s) is no whole instance: "
                    "SageMaker refuses it. Use at least 2 instances and a larger canary, or ALL_AT_ONCE."
                )
        if isinstance(rollout, LinearConfig) and self.instance_count < 2:
            raise ValueError(
                "a LINEAR rollout needs at least 2 instances to split traffic over. Raise instance_count, or use ALL_AT_ONCE."
            )
        if rollout.wait_seconds < alarms.period_seconds * alarms.evaluation_periods:
            raise ValueError(
                f"rollout.wait_seconds = {rollout.wait_seconds} is shorter than the alarms' evaluation window of "
                f"{alarms.period_seconds} s x {alarms.evaluation_periods}: no alarm could fire in time. Lengthen the wait."
            )
        steps = -(-100 // rollout.step_percent) if isinstance(rollout, LinearConfig) else 2
        if rollout.strategy == "ALL_AT_ONCE":
            steps = 1
        baking = rollout.wait_seconds * steps + self.termination_wait_seconds
        if baking >= self.timeout_seconds:
            raise ValueError(
                f"waits add up to {baking} s, which is not less than timeout_seconds = {self.timeout_seconds}: "
                "every rollout would time out and roll back. Raise the time-out or shorten the waits."
            )
        if self.autoscaling.maximum_instances < self.instance_count:
            raise ValueError(
                f"autoscaling.maximum_instances = {self.autoscaling.maximum_instances} is below instance_count = "
                f"{self.instance_count}, the minimum. Raise the maximum."
            )
        return self


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
    dataset: str = Field(pattern=r"^[a-z0-9_-]+$")
    tags: Mapping[str, str]
    foundation: FoundationConfig
    ingestion: IngestionConfig
    processing: ProcessingConfig
    training: TrainingConfig
    serving: ServingConfig
    monitoring: MonitoringConfig

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
        return self.prefix

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
        raise ConfigError("\n".join(_lines(error, stage))) from None
    except schema.SchemaError as error:
        raise ConfigError(
            f"{FILE}: context.stages.{stage}.dataset = {json.dumps(config.dataset)}: {error}"
        ) from None
    return config


def _lines(error: ValidationError, stage: str) -> list[str]:
    """One line a wrong key: a value that fits no member of a union is one mistake, not one for each member."""
    lines: dict[str, str] = {}
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in {*ROLLOUTS, *SCALARS})
        key = f"context.stages.{stage}" + (f".{path}" if path else "")
        value = item["input"]
        if item["type"].startswith("union_tag"):
            key, value = f"{key}.strategy", value.get("strategy")
        shown = "" if isinstance(value, Mapping | Section) else f" = {json.dumps(value, default=str)}"
        lines.setdefault(key, f"{FILE}: {key}{shown}: {_remedy(item)}")
    return list(lines.values())


def _remedy(item: ErrorDetails) -> str:
    if item["loc"][-1:] and item["loc"][-1] in SCALARS:
        return "must be a number or a string."
    if item["type"] == "string_pattern_mismatch":
        return f"must match {item['ctx']['pattern']}."
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    return REMEDIES.get(item["type"], f"{message}.")
