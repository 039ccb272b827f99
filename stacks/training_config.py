"""The section `training`: the pipeline's structure, its parameters, and what a model must reach to be registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline import hyperparameters
from pipeline.instances import JOB_SIZES
from stacks.section import InstanceType, Schedule, Section, WholeNumber


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
