"""The model in service can read itself and write what it was asked; that is all."""

from collections.abc import Callable

from stacks.config import load
from tests.support import grants
from tools.assembly import Assembly, context

ROLE = "ModelRole"


def test_it_reads_models_and_writes_captured_requests(each_assembly: Assembly) -> None:
    assert grants.keys(each_assembly, "Foundation", ROLE, "s3:GetObject") == {"pipeline/Train/*"}
    assert grants.keys(each_assembly, "Foundation", ROLE, "s3:PutObject") == {"datacapture/*"}
    assert grants.resources(each_assembly, "Foundation", ROLE, "s3:DeleteObject") == set()


def test_it_reads_the_alarms_that_roll_it_back(each_assembly: Assembly) -> None:
    (alarms,) = grants.resources(each_assembly, "Foundation", ROLE, "cloudwatch:DescribeAlarms")
    assert alarms.endswith(f":alarm:flights-{each_assembly.stage}-serving-*")


def test_it_can_invoke_and_change_nothing_of_sagemaker(each_assembly: Assembly) -> None:
    statements = grants.statements(each_assembly, "Foundation", ROLE)
    assert not [action for found in statements for action in found.actions if action.startswith("sagemaker:")]


def test_it_joins_the_network_of_an_isolated_stage_only(assembly: Callable[[str], Assembly]) -> None:
    action = "ec2:CreateNetworkInterface"
    subnets = [
        arn
        for arn in grants.resources(assembly("production"), "Foundation", ROLE, action)
        if ":subnet/" in arn
    ]
    assert len(subnets) == 3
    assert grants.resources(assembly("sandbox"), "Foundation", ROLE, action) == set()


def test_with_options_it_reads_and_writes_their_prefixes_and_publishes_to_two_topics(
    each_complete: Assembly,
) -> None:
    config = load(context(each_complete.stage))
    batch, asynchronous = config.batch, config.asynchronous
    assert grants.keys(each_complete, "Foundation", ROLE, "s3:GetObject") == {
        "pipeline/Train/*",
        f"{batch.input_prefix}*",
        f"{asynchronous.input_prefix}*",
    }
    assert grants.keys(each_complete, "Foundation", ROLE, "s3:PutObject") == {
        "datacapture/*",
        f"{batch.output_prefix}*",
        f"{asynchronous.output_prefix}*",
        f"{asynchronous.failure_prefix}*",
    }
    topics = grants.resources(each_complete, "Foundation", ROLE, "sns:Publish")
    assert {arn.rsplit(":", 1)[1] for arn in topics} == set(config.result_topics)


def test_with_options_it_reads_the_alarms_of_the_asynchronous_endpoint_too(each_complete: Assembly) -> None:
    alarms = grants.resources(each_complete, "Foundation", ROLE, "cloudwatch:DescribeAlarms")
    prefix = f"flights-{each_complete.stage}"
    assert {arn.split(":alarm:")[1] for arn in alarms} == {f"{prefix}-serving-*", f"{prefix}-asynchronous-*"}


def test_with_options_it_logs_for_every_endpoint_and_transform_job(each_complete: Assembly) -> None:
    config = load(context(each_complete.stage))
    groups = grants.resources(each_complete, "Foundation", ROLE, "logs:PutLogEvents")
    allowed = {arn.split(":log-group:")[1].removesuffix("*") for arn in groups}
    assert "/aws/sagemaker/TransformJobs" in allowed
    for name in config.deployed_endpoints:
        assert any(f"/aws/sagemaker/Endpoints/{name}".startswith(group) for group in allowed)
