"""The sandbox, deployed by the real CLI into the embedded cloud."""

from tests.local.cloud.conftest import Cdk


def test_every_stack_is_created(deployed: Cdk, client) -> None:
    stacks = client("cloudformation").describe_stacks()["Stacks"]
    assert {stack["StackStatus"] for stack in stacks} == {"CREATE_COMPLETE"}
    assert len(stacks) == len(deployed.assembly.templates) + 1  # and CDKToolkit


def test_the_difference_is_empty(deployed: Cdk) -> None:
    assert "Number of stacks with differences: 0" in deployed("diff", "--all")


def test_a_second_deploy_changes_nothing(deployed: Cdk) -> None:
    told = deployed("deploy", "--all", "--require-approval", "never")
    assert told.count("(no changes)") == len(deployed.assembly.templates)
