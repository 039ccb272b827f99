"""What AWS would refuse of a job's configuration is refused at synth, with AWS's reason."""

import copy
import subprocess
import sys

import botocore.session
import pytest

from pipeline.instances import JOB_SIZES, REALTIME_TYPES, TRANSFORM_TYPES
from stacks.config import ConfigError, load
from tools.assembly import ROOT, context


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


def _offered(shape: str) -> set[str]:
    return set(botocore.session.get_session().get_service_model("sagemaker").shape_for(shape).enum)


def test_the_job_types_are_all_that_sagemaker_offers_of_their_families_for_both_jobs() -> None:
    both = _offered("ProcessingInstanceType") & _offered("TrainingInstanceType")
    ours = {f"ml.{family}.{size}" for family, sizes in JOB_SIZES.items() for size in sizes.split()}
    assert ours == {name for name in both if name.split(".")[1] in JOB_SIZES}


def test_a_model_declares_what_sagemaker_offers() -> None:
    assert set(REALTIME_TYPES) <= _offered("ProductionVariantInstanceType")
    assert set(TRANSFORM_TYPES) == set(REALTIME_TYPES) & _offered("TransformInstanceType")


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"device = cuda needs a GPU, and ml\.m5\.large has none"):
        _load(hyperparameters={"device": "cuda"})


def test_cuda_with_a_gpu_is_accepted() -> None:
    _load(hyperparameters={"device": "cuda"}, training_instance_type="ml.p3.2xlarge")


@pytest.mark.parametrize("schedule", ["cron(0 12 * * * *)", "cron(0 12 ? * ? *)"])
def test_a_schedule_that_names_days_twice_or_never_is_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match="either days of the month or days of the week"):
        _load(schedule=schedule)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("99 x ? * q z", "minutes 99: must be 0-59, or made of these with , - * /."),
        ("-1 12 * * ? *", "minutes -1"),
        ("0/0 12 * * ? *", "minutes 0/0"),
        ("0/60 12 * * ? *", "minutes 0/60"),
        ("0, 12 * * ? *", "minutes 0,"),
        ("30-60 12 * * ? *", "minutes 30-60"),
        ("? 12 * * ? *", "minutes ?"),
        ("0 24 * * ? *", "hours 24"),
        ("0 12 0 * ? *", "day of month 0"),
        ("0 12 32W * ? *", "day of month 32W"),
        ("0 12 MON * ? *", "day of month MON"),
        ("0 12 ?,1 * ? *", "day of month ?,1"),
        ("0 12 1 13 ? *", "month 13: must be 1-12 or JAN-DEC"),
        ("0 12 1 L ? *", "month L"),
        ("0 12 ? * 0 *", "day of week 0: must be 1-7 or SUN-SAT"),
        ("0 12 ? * 2#6 *", "day of week 2#6"),
        ("0 12 ? * 3#1,6#3 *", "day of week 3#1,6#3"),
        ("0 12 ? * 2/2 *", "day of week 2/2"),
        ("0 12 1 * ? 1969", "year 1969: must be 1970-2199"),
    ],
)
def test_a_cron_field_that_eventbridge_refuses_is_named_with_its_values(fields: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(schedule=f"cron({fields})")
    message = str(caught.value)
    assert message.startswith(
        f'cdk.json: context.stages.sandbox.training.schedule = "cron({fields})": {said}'
    )
    assert "\n" not in message


# The examples of "Cron expressions reference", Amazon EventBridge User Guide, and of each wildcard.
@pytest.mark.parametrize(
    "schedule",
    [
        "rate(1 day)",
        "rate(12 hours)",
        "cron(0 10 * * ? *)",
        "cron(15 12 * * ? *)",
        "cron(0 18 ? * MON-FRI *)",
        "cron(0 8 1 * ? *)",
        "cron(0/15 * * * ? *)",
        "cron(*/10 * ? * MON-FRI *)",
        "cron(0/5 8-17 ? * MON-FRI *)",
        "cron(0/30 20-2 ? * MON-FRI *)",
        "cron(15 10 ? * 6L 2022-2023)",
        "cron(0 12 ? JAN,FEB,MAR 3#2 *)",
        "cron(0 12 L * ? *)",
        "cron(0 12 LW * ? *)",
        "cron(0 12 3W * ? *)",
        "cron(0 12 ? * L *)",
        "cron(0 12 ? * MON *)",
    ],
)
def test_a_schedule_that_eventbridge_takes_is_accepted(schedule: str) -> None:
    _load(schedule=schedule)


def test_the_configuration_is_read_without_the_libraries_of_training() -> None:
    code = "import sys, stacks.config; print(*sorted({'numpy', 'xgboost', 'sagemaker', 'botocore'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"
