"""Scheduler starts transform jobs of this deployment, and can do nothing else."""

from tests.support import grants, iam
from tools.assembly import Assembly

ROLE = "TransformRole"


def test_it_exists_only_where_batch_is_listed(each_assembly: Assembly) -> None:
    roles = each_assembly.template("Foundation").resources("AWS::IAM::Role")
    assert not [name for name in roles if name.startswith(ROLE)]


def test_it_creates_and_tags_jobs_of_this_deployments_name(each_complete: Assembly) -> None:
    (jobs,) = grants.resources(each_complete, "Foundation", ROLE, "sagemaker:CreateTransformJob")
    assert jobs.endswith(f":transform-job/flights-{each_complete.stage}-*")
    actions = {
        action
        for statement in grants.statements(each_complete, "Foundation", ROLE)
        for action in statement.actions
        if not action.startswith("kms:")
    }
    assert actions == {"sagemaker:AddTags", "sagemaker:CreateTransformJob"}


def test_it_grants_the_key_to_sagemaker_only(each_complete: Assembly) -> None:
    (statement,) = [
        found
        for found in grants.statements(each_complete, "Foundation", ROLE)
        if "kms:CreateGrant" in found.actions
    ]
    assert "kms:ViaService" in statement.condition["StringEquals"]


def test_only_scheduler_can_be_this_role(each_complete: Assembly) -> None:
    (trust,) = [
        statement
        for statement in iam.statements(each_complete, each_complete.template("Foundation"))
        if statement.kind == "trust" and statement.resource.startswith(ROLE)
    ]
    assert trust.principals == ("scheduler.amazonaws.com",)
