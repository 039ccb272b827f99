"""`make quotas`: what the stage needs, doubled for blue/green, against what the account allows."""

import boto3
import pytest
from botocore.stub import Stubber

from stacks.config import load
from tools import aws, quotas
from tools.assembly import context


def service_quotas(values, *, defaults=None):
    client = boto3.client("service-quotas", region_name="us-east-1")
    stubber = Stubber(client)
    for listing, quotas_of in (
        ("list_aws_default_service_quotas", defaults or {}),
        ("list_service_quotas", values),
    ):
        listed = [{"QuotaName": name, "Value": value} for name, value in quotas_of.items()]
        stubber.add_response(listing, {"Quotas": listed}, {"ServiceCode": "sagemaker"})
    stubber.activate()
    return client


@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_an_endpoint_needs_twice_its_largest_fleet(stage):
    config = aws.load_config(stage)
    endpoint = next(need for need in quotas.needs(config) if "endpoint" in need.quota)
    assert endpoint.count == 2 * config.serving.autoscaling.maximum_instances
    assert endpoint.quota == f"{config.serving.instance_type} for endpoint usage"


def changed(**sections):
    """The sandbox's configuration with some knobs of `cdk.json` replaced, section by section."""
    whole = context("sandbox")
    for name, change in sections.items():
        stage = whole["stages"]["sandbox"]
        stage[name] = change if isinstance(change, list) else stage[name] | change
    return load(whole)


def endpoint_usage(config):
    (need,) = [need for need in quotas.needs(config) if need.quota == "ml.m5.large for endpoint usage"]
    return need.count


def test_a_rolling_update_needs_one_batch_more():
    batch = {"unit": "PERCENT", "value": 50}
    waits = {"bake_seconds": 180, "timeout_seconds": 3600}
    rollout = {"strategy": "ROLLING", "batch": batch, "rollback_batch": "", **waits}
    assert endpoint_usage(changed(serving={"rollout": rollout})) == 4 + 2


def test_listed_options_share_the_quota_of_their_instance_type():
    alone = endpoint_usage(changed())
    assert alone == 8
    assert endpoint_usage(changed(options=["asynchronous"])) == alone + 2 * 2
    assert endpoint_usage(changed(options=["experiment"])) == alone + 2 * 2
    assert endpoint_usage(changed(options=["serverless", "batch"])) == alone
    transform = [need.count for need in quotas.needs(changed(options=["batch"])) if "transform" in need.quota]
    assert transform == [1]


@pytest.mark.parametrize(("estimator", "jobs"), [("xgboost", 2), ("linear", 1)])
def test_a_baseline_trains_beside_xgboost_alone(estimator, jobs):
    config = aws.load_config("sandbox")
    training = config.training.model_copy(update={"estimator": estimator})
    needs = quotas.needs(config.model_copy(update={"training": training}))
    assert [need.count for need in needs if "training job" in need.quota] == [jobs]


def test_enough_quota_ends_with_zero(capsys):
    enough = {need.quota: float(need.count) for need in quotas.needs(aws.load_config("sandbox"))}
    assert quotas.main([], client=service_quotas(enough)) == 0
    assert "LOW" not in capsys.readouterr().out


@pytest.mark.parametrize("short", range(3))
def test_one_instance_too_few_is_named_with_the_remedy(short, capsys):
    needs = quotas.needs(aws.load_config("sandbox"))
    values = {need.quota: need.count - (index == short) for index, need in enumerate(needs)}
    assert quotas.main([], client=service_quotas(values)) == 1
    printed = capsys.readouterr()
    assert f"LOW  {needs[short].quota}: need {needs[short].count}" in printed.out
    assert "request an increase" in printed.err


def test_a_quota_the_account_does_not_list_is_too_low(capsys):
    assert quotas.main([], client=service_quotas({})) == 1
    assert "unknown here" in capsys.readouterr().out


def test_a_quota_that_was_never_raised_has_its_default(capsys):
    needs = quotas.needs(aws.load_config("sandbox"))
    defaults = {need.quota: 0.0 for need in needs}
    raised = {need.quota: float(need.count) for need in needs}
    assert quotas.main([], client=service_quotas({}, defaults=raised)) == 0
    assert quotas.main([], client=service_quotas(raised, defaults=defaults)) == 0
    assert quotas.main([], client=service_quotas({}, defaults=defaults)) == 1
    assert "quota 0" in capsys.readouterr().out
