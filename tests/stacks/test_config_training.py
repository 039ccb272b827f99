"""What AWS would refuse of a job's configuration is refused at synth, with AWS's reason."""

import copy

import botocore.session
import pytest

from stacks.config import JOB_FAMILIES, ConfigError, load
from tools.assembly import context


def _load(**training: object) -> None:
    changed = copy.deepcopy(context("sandbox"))
    changed["stages"]["sandbox"]["training"] |= training
    load(changed)


@pytest.mark.parametrize("key", ["processing_instance_type", "training_instance_type"])
@pytest.mark.parametrize("value", ["ml.g5.xlarge", "ml.r5d.large", "ml.t2.medium"])
def test_an_instance_whose_volume_cannot_take_our_key_is_refused(key: str, value: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"cdk\.json: context\.stages\.sandbox\.training\.{key} = .*VolumeKmsKeyId"
    ):
        _load(**{key: value})


def test_the_job_families_are_those_that_sagemaker_offers_for_both_jobs() -> None:
    shapes = botocore.session.get_session().get_service_model("sagemaker")
    for shape in ("ProcessingInstanceType", "TrainingInstanceType"):
        assert set(JOB_FAMILIES) <= {name.split(".")[1] for name in shapes.shape_for(shape).enum}


@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_sagemaker_offers_the_configured_instances(stage: str) -> None:
    shapes = botocore.session.get_session().get_service_model("sagemaker")
    training = load(context(stage)).training
    assert training.processing_instance_type in shapes.shape_for("ProcessingInstanceType").enum
    assert training.training_instance_type in shapes.shape_for("TrainingInstanceType").enum


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"device = cuda needs a GPU, and ml\.m5\.large has none"):
        _load(hyperparameters={"device": "cuda"})


def test_cuda_with_a_gpu_is_accepted() -> None:
    _load(hyperparameters={"device": "cuda"}, training_instance_type="ml.p3.2xlarge")


@pytest.mark.parametrize("schedule", ["cron(0 12 * * * *)", "cron(0 12 ? * ? *)"])
def test_a_schedule_that_names_days_twice_or_never_is_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match="either days of the month or days of the week"):
        _load(schedule=schedule)


@pytest.mark.parametrize("schedule", ["cron(0 12 ? * MON *)", "cron(0 12 1 * ? *)", "rate(1 day)"])
def test_a_schedule_that_eventbridge_takes_is_accepted(schedule: str) -> None:
    _load(schedule=schedule)
