"""Who is asked, and where: one rule for the region, and one line with a remedy where AWS cannot be asked."""

import boto3
import botocore.exceptions
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tools import aws, destroy, quotas, replay, verify_aws

VARIABLES = (
    *(
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
    ),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"),
)


@pytest.fixture
def profile(monkeypatch, tmp_path):
    """A machine on which nothing is configured but the profile `mine`, which has credentials and a region."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "config"
    file.write_text("[profile mine]\nregion = eu-west-1\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-east-1"}, "us-west-2"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
        ({}, "eu-west-1"),
    ],
)
def test_the_region_is_the_one_that_the_cdk_cli_deploys_to(profile, variables, region):
    for name, value in variables.items():
        profile.setenv(name, value)
    assert aws.session().region_name == region
    assert aws.clients()("sts").meta.region_name == region


def test_no_region_is_one_line(profile, tmp_path):
    (tmp_path / "config").write_text("[profile mine]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with pytest.raises(SystemExit, match=r"^No AWS region\. Set AWS_REGION"):
        aws.session()


def test_no_credentials_is_one_line(profile, tmp_path):
    (tmp_path / "config").write_text("[profile mine]\nregion = eu-west-1\n")
    with pytest.raises(SystemExit, match=r"^No AWS credentials\. Run `aws configure`"):
        aws.session()


COMMANDS = pytest.mark.parametrize(
    "command",
    [
        lambda: quotas.main([]),
        lambda: verify_aws.main([]),
        lambda: destroy.main(["--yes"]),
        lambda: replay.main(["--stream", "any", "--flights", "1"]),
    ],
    ids=["quotas", "verify_aws", "destroy", "replay"],
)


@COMMANDS
def test_an_unknown_profile_is_one_line_with_the_remedy(profile, command):
    profile.setenv("AWS_PROFILE", "theirs")
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == (
        "The config profile (theirs) could not be found. Set AWS_PROFILE to one that `aws configure list-profiles` names."
    )


@COMMANDS
def test_no_connection_is_one_line_with_the_remedy(profile, command):
    profile.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    profile.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code.startswith('Could not connect to the endpoint URL: "http://127.0.0.1:9/')
    assert ended.value.code.endswith('". Check the network, and that AWS_REGION is a region.')


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ExpiredToken", "Log in again: `aws sso login`, or get new credentials."),
        ("ExpiredTokenException", "Log in again: `aws sso login`, or get new credentials."),
        ("UnrecognizedClientException", "Check AWS_PROFILE, or `aws configure` again."),
        ("AccessDeniedException", "Use credentials that may do this."),
    ],
)
def test_credentials_that_aws_refuses_are_one_line_with_the_remedy(code, remedy):
    client = boto3.client("service-quotas", region_name="us-east-1")
    stubber = Stubber(client)
    stubber.add_client_error("list_aws_default_service_quotas", code, "This is the reason.")
    with stubber, pytest.raises(SystemExit) as ended:
        quotas.main([], client=client)
    assert ended.value.code == (
        f"An error occurred ({code}) when calling the ListAWSDefaultServiceQuotas operation: This is the reason. {remedy}"
    )


def test_an_sso_login_that_has_ended_is_one_line():
    with pytest.raises(SystemExit, match="aws sso login"), aws.told():
        raise botocore.exceptions.UnauthorizedSSOTokenError


def test_any_other_error_is_not_hidden():
    refused = botocore.exceptions.ClientError({"Error": {"Code": "ValidationException"}}, "DescribeStacks")
    with pytest.raises(botocore.exceptions.ClientError), aws.told():
        raise refused


@mock_aws
def test_a_bucket_that_is_not_there_is_one_line_with_the_remedy(profile):
    profile.setenv("AWS_ACCESS_KEY_ID", "x")
    profile.setenv("AWS_SECRET_ACCESS_KEY", "x")
    profile.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(SystemExit, match=r"Failed to upload .* to none/.*Check the bucket's name"):
        replay.main(["--to", "s3://none", "--flights", "1", "--batch-share", "1"])
