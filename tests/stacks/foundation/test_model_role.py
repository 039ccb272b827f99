"""The model in service can read itself and write what it was asked; that is all."""

from collections.abc import Callable

from tests.support import grants
from tools.assembly import Assembly

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
