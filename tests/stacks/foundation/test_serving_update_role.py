"""The role that releases a model may change the endpoint and nothing else."""

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from stacks.config import load
from tests.support import grants, iam
from tools.assembly import Assembly, context

ROLE = "ServingUpdateRole"
CREATE_AND_DELETE = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "application-autoscaling:RegisterScalableTarget application-autoscaling:DeregisterScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "application-autoscaling:PutScalingPolicy application-autoscaling:DeleteScalingPolicy",
    "AWS::CDK::Metadata": "",
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms",
    "AWS::SageMaker::Endpoint": "sagemaker:CreateEndpoint sagemaker:UpdateEndpoint sagemaker:DeleteEndpoint",
    "AWS::SageMaker::EndpointConfig": "sagemaker:CreateEndpointConfig sagemaker:DeleteEndpointConfig",
    "AWS::SageMaker::Model": "sagemaker:CreateModel sagemaker:DeleteModel",
    "AWS::Scheduler::Schedule": "scheduler:CreateSchedule scheduler:UpdateSchedule scheduler:DeleteSchedule",
}


def _actions(assembly: Assembly) -> set[str]:
    found = grants.statements(assembly, "Foundation", ROLE)
    return {action for statement in found for action in statement.actions}


def test_it_can_pass_only_the_model_role_and_only_to_sagemaker(each_assembly: Assembly) -> None:
    (statement,) = [
        found
        for found in grants.statements(each_assembly, "Foundation", ROLE)
        if "iam:PassRole" in found.actions
    ]
    assert [arn.split(":role/")[1][:9] for arn in statement.resources] == ["modelrole"]
    assert statement.condition == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_it_may_change_no_permission(each_assembly: Assembly) -> None:
    changes = {action for action in _actions(each_assembly) if action.startswith("iam:")} - {"iam:PassRole"}
    # AWS defines this role's permissions; whoever creates it chooses nothing.
    assert changes == {"iam:CreateServiceLinkedRole"}
    (role,) = grants.resources(each_assembly, "Foundation", ROLE, "iam:CreateServiceLinkedRole")
    assert role.endswith("/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")


def test_it_names_every_action(each_assembly: Assembly) -> None:
    assert [action for action in _actions(each_assembly) if "*" in action] == []


def test_it_can_create_and_delete_what_serving_consists_of(each_assembly: Assembly) -> None:
    types = {resource["Type"] for resource in each_assembly.template("Serving").resources().values()}
    needed = {action for kind in types for action in CREATE_AND_DELETE[kind].split()}
    assert needed - _actions(each_assembly) == set()


def test_it_can_create_and_delete_what_an_option_has_while_there_is_a_model(each_complete: Assembly) -> None:
    types = {
        resource["Type"]
        for option in ("Serverless", "Asynchronous", "Batch", "Experiment")
        if option in each_complete.templates
        for resource in each_complete.template(option).resources().values()
        if "Condition" in resource
    }
    assert "AWS::Scheduler::Schedule" in types
    needed = {action for kind in types for action in CREATE_AND_DELETE[kind].split()}
    assert needed - _actions(each_complete) == set()


# What a handler calls for other users of its type.
FOR_OTHERS = {
    "cloudwatch:GetMetricData": "predictive scaling",
    "iam:PassRole": "bound to a role; has tests of its own",
    "sagemaker:DeleteTags": "tags do not change with a release",
    "application-autoscaling:UntagResource": "tags do not change with a release",
    **{f"lambda:{verb}ProvisionedConcurrencyConfig": "functions" for verb in ("Get", "Put", "Delete")},
}


def test_it_may_do_what_cloudformation_does_to_make_change_and_remove_them(
    every_assembly: Assembly,
) -> None:
    """Sources: the handlers' permissions in the resource types' schemas."""
    config = load(context(every_assembly.stage))
    for stack in {
        "Serving",
        "Serverless",
        "Asynchronous",
        "Batch",
        "Experiment",
    } & every_assembly.templates.keys():
        resources = every_assembly.template(stack).resources().values()
        for kind in {resource["Type"] for resource in resources if "Condition" in resource}:
            handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
            needed = {
                action
                for name in ("create", "read", "update", "delete")
                for action in handlers.get(name, {}).get("permissions", [])
            }
            if not config.serving.autoscaling.scheduled:
                needed -= {f"application-autoscaling:{verb}ScheduledAction" for verb in ("Put", "Delete")}
            assert needed - _actions(every_assembly) - FOR_OTHERS.keys() == set(), (stack, kind)


def test_with_options_it_may_change_their_endpoints_too_and_no_other(each_complete: Assembly) -> None:
    names = {
        template.only("AWS::SageMaker::Endpoint")["Properties"]["EndpointName"]
        for template in each_complete.templates.values()
        if template.resources("AWS::SageMaker::Endpoint")
    }
    for action in ("CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "DescribeEndpoint"):
        resources = grants.resources(each_complete, "Foundation", ROLE, f"sagemaker:{action}")
        assert {arn.split(":endpoint/")[1] for arn in resources if ":endpoint/" in arn} == names


def test_the_schedule_of_batch_gets_the_role_of_transform_jobs_and_nothing_else(
    each_complete: Assembly,
) -> None:
    (schedules,) = grants.resources(each_complete, "Foundation", ROLE, "scheduler:UpdateSchedule")
    assert schedules.endswith(f":schedule/default/flights-{each_complete.stage}-batch-*")
    passed = {
        tuple(statement.condition["StringEquals"].values()): statement.resources
        for statement in grants.statements(each_complete, "Foundation", ROLE)
        if "iam:PassRole" in statement.actions
    }
    (role,) = passed[("scheduler.amazonaws.com",)]
    assert role.split(":role/")[1].startswith("transformrole")
    assert len(passed) == 2


@pytest.mark.parametrize("action", ["CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint"])
def test_it_may_change_one_endpoint(each_assembly: Assembly, action: str) -> None:
    name = load(context(each_assembly.stage)).endpoint_name
    resources = grants.resources(each_assembly, "Foundation", ROLE, f"sagemaker:{action}")
    endpoints = {arn.split(":endpoint/")[1] for arn in resources if ":endpoint/" in arn}
    assert endpoints == {name}


@pytest.mark.parametrize(
    "action", ["CreateModel", "CreateEndpointConfig", "DeleteModel", "DeleteEndpointConfig"]
)
def test_models_and_configs_of_others_are_out_of_reach(each_assembly: Assembly, action: str) -> None:
    key = "aws:RequestTag" if action.startswith("Create") else "aws:ResourceTag"
    for statement in grants.statements(each_assembly, "Foundation", ROLE):
        if f"sagemaker:{action}" in statement.actions:
            wanted = {f"{key}/deployment": f"flights-{each_assembly.stage}"}
            assert statement.condition == {"StringEquals": wanted}


def test_it_tags_a_model_or_a_config_only_while_it_makes_it(each_assembly: Assembly) -> None:
    """Or it could give another deployment's model the tag by which it may delete it."""
    (statement,) = [
        found
        for found in grants.statements(each_assembly, "Foundation", ROLE)
        if "sagemaker:AddTags" in found.actions and any(":model/" in arn for arn in found.resources)
    ]
    assert statement.actions == ("sagemaker:AddTags",)
    assert statement.condition == {
        "StringEquals": {
            "aws:RequestTag/deployment": f"flights-{each_assembly.stage}",
            "sagemaker:TaggingAction": ["CreateModel", "CreateEndpointConfig"],
        }
    }


def test_it_scales_variants_of_endpoints_and_nothing_else(every_assembly: Assembly) -> None:
    changes = {
        action: statement.condition
        for statement in grants.statements(every_assembly, "Foundation", ROLE)
        for action in statement.actions
        if action.startswith("application-autoscaling:")
        and not action.split(":")[1].startswith(("Describe", "List"))
    }
    tags = {"aws:RequestTag/deployment": f"flights-{every_assembly.stage}"}
    assert changes.pop("application-autoscaling:TagResource") == {"StringEquals": tags}
    variants = {
        "application-autoscaling:service-namespace": "sagemaker",
        "application-autoscaling:scalable-dimension": "sagemaker:variant:DesiredInstanceCount",
    }
    assert "application-autoscaling:RegisterScalableTarget" in changes
    assert {action: {"StringEquals": variants} for action in changes} == changes


def test_its_alarms_are_those_of_serving_and_of_target_tracking(each_assembly: Assembly) -> None:
    config = load(context(each_assembly.stage))
    resources = grants.resources(each_assembly, "Foundation", ROLE, "cloudwatch:PutMetricAlarm")
    names = {arn.split(":alarm:")[1] for arn in resources}
    assert names == {
        f"{config.stack_name('Serving')}-*",
        f"TargetTracking-endpoint/{config.endpoint_name}/*",
    }


def test_only_cloudformation_can_be_this_role(each_assembly: Assembly) -> None:
    (trust,) = [
        statement
        for statement in iam.statements(each_assembly, each_assembly.template("Foundation"))
        if statement.kind == "trust" and statement.resource.startswith(ROLE)
    ]
    assert (trust.principals, trust.actions) == (("cloudformation.amazonaws.com",), ("sts:AssumeRole",))
