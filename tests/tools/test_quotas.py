"""`make quotas`: what the stage needs, doubled for blue/green, against what the account allows."""

import boto3
import pytest
from botocore.stub import Stubber

from tools import aws, quotas


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
