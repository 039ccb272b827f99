"""Every statement of every policy: real actions, on resources they act on, under conditions they know, no loose star."""

import re
from collections.abc import Callable

import pytest

from local.cloud import iam_report
from tests.support import iam, static
from tools.assembly import Assembly


def test_every_statement_does_what_it_says(every_assembly: Assembly) -> None:
    problems = [
        problem
        for template in every_assembly.templates.values()
        for statement in iam.statements(every_assembly, template)
        for problem in iam.findings(statement)
    ]
    assert problems == []


def test_every_wildcard_of_a_role_has_a_written_reason(every_assembly: Assembly) -> None:
    report = every_assembly.read("validation-report.json")
    accepted = {
        (path, rule.removeprefix("AwsSolutions::AwsSolutions-IAM5[").removesuffix("]"))
        for (_, rule), paths in static.suppressed(report)
        for path in paths
    }
    unexplained = [
        f"{statement.where}: {star}"
        for template in every_assembly.templates.values()
        for statement in iam.statements(every_assembly, template)
        for star in iam.stars(statement)
        if (static.construct_path(every_assembly, statement.stack, statement.resource), star) not in accepted
    ]
    assert unexplained == []


def test_no_role_takes_a_policy_that_aws_manages(every_assembly: Assembly) -> None:
    """AWS changes its managed policies at will, and none of them names our resources."""
    managed = [
        f"{template.stack}/{name}"
        for template in every_assembly.templates.values()
        for name, role in template.resources("AWS::IAM::Role").items()
        if "ManagedPolicyArns" in role["Properties"]
    ]
    assert managed == []


def test_roles_are_assumed_by_one_aws_service_each(every_assembly: Assembly) -> None:
    for template in every_assembly.templates.values():
        for statement in iam.statements(every_assembly, template):
            if statement.kind == "trust":
                assert len(statement.principals) == 1, statement.where
                assert statement.principals[0].endswith(".amazonaws.com"), statement.where


def test_serving_holds_no_iam(every_assembly: Assembly) -> None:
    """An update of Serving must not be able to widen a permission: its roles come from Foundation."""
    types = {resource["Type"] for resource in every_assembly.template("Serving").resources().values()}
    assert not {kind for kind in types if kind.startswith("AWS::IAM::")}


def test_every_name_in_the_table_of_unseen_permissions_is_granted_by_a_template(
    assembly: Callable[[str], Assembly],
) -> None:
    granted = {
        (re.sub(r"(DefaultPolicy)?[0-9A-F]{8}$", "", statement.resource), action)
        for stage in ("sandbox", "production")
        for template in assembly(stage).templates.values()
        for statement in iam.statements(assembly(stage), template)
        if statement.kind == "identity"
        for action in statement.actions
    }
    for row in iam_report.excuses(iam_report.TABLE):
        names = set().union(*(row.names(role, action) for role, action in granted))
        assert names == {*row.actions, *row.roles}, row


def statement(action: str, resource: str, **changes: object) -> iam.Statement:
    values: dict[str, object] = {
        "stack": "S",
        "resource": "Role",
        "where": "here",
        "kind": "identity",
        "allow": True,
        "actions": (action,),
        "resources": (resource,),
        "condition": {},
        "principals": (),
        "negations": (),
    }
    return iam.Statement(**{**values, **changes})  # type: ignore[arg-type]


KEY = "arn:aws:kms:us-east-1:111122223333:key/k"
ROLE = "arn:aws:iam::111122223333:role/r"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (statement("s3:GetObjekt", "arn:aws:s3:::b/*"), "s3:GetObjekt is no action of AWS"),
        (statement("s4:GetObject", "arn:aws:s3:::b/*"), "s4:GetObject is no action of AWS"),
        (statement("s3:ListBucket", "arn:aws:s3:::b/*"), "s3:ListBucket does not act on arn:aws:s3:::b/*"),
        (statement("s3:GetObject", "arn:aws:s3:::b"), "s3:GetObject does not act on arn:aws:s3:::b"),
        (statement("kms:Decrypt", "arn:aws:s3:::b"), "kms:Decrypt does not act on"),
        (statement("xray:PutTraceSegments", KEY), "xray:PutTraceSegments does not act on"),
        (
            statement("s3:GetObject", "", resources=("arn:aws:s3:::b/*", KEY)),
            f"no action of the statement acts on {KEY}",
        ),
        (
            statement("kms:Decrypt", KEY, condition={"StringEquals": {"kms:ViaServise": "x"}}),
            "kms:Decrypt has no condition key kms:ViaServise: the statement never allows it",
        ),
        (
            statement(
                "cloudformation:GetTemplate", "*", condition={"StringEquals": {"cloudformation:RoleArn": "x"}}
            ),
            "has no condition key cloudformation:RoleArn",
        ),
        (statement("s3:*", "arn:aws:s3:::b/*"), "s3:* allows everything"),
        (statement("kms:Decrypt", KEY, kind="resource", principals=("*",)), "anybody is allowed"),
        (statement("iam:PassRole", ROLE), "iam:PassRole without iam:PassedToService"),
        (statement("iam:PassRole", "arn:aws:iam::111122223333:role/*"), "iam:PassRole on a wildcard"),
        (statement("s3:GetObject", "*", negations=("NotAction",)), "NotAction with Allow"),
        (statement("*", "*", kind="endpoint", principals=("*",)), "principals of other accounts may pass"),
        (statement("s3:GetObject", "*", kind="endpoint", principals=("*",)), "principals of other accounts"),
        (
            statement("s3:GetObject", "arn:aws:s3:::*/*", kind="endpoint", principals=("*",)),
            "principals of other accounts",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_statement_is_reported(wrong: iam.Statement, said: str) -> None:
    assert any(said in finding for finding in iam.findings(wrong)), iam.findings(wrong)


@pytest.mark.parametrize(
    "right",
    [
        statement("s3:GetObject*", "", resources=("arn:aws:s3:::b", "arn:aws:s3:::b/*")),
        statement(
            "kms:Decrypt", KEY, condition={"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
        ),
        statement(
            "iam:PassRole", ROLE, condition={"StringEquals": {"iam:PassedToService": "glue.amazonaws.com"}}
        ),
        statement("logs:PutLogEvents", "arn:aws:logs:us-east-1:111122223333:log-group:g:*"),
        statement("xray:PutTraceSegments", "*"),
    ],
    ids=lambda right: right.actions[0],
)
def test_a_right_statement_is_not_reported(right: iam.Statement) -> None:
    assert iam.findings(right) == []


def test_a_star_counts_only_where_the_action_could_name_its_resource() -> None:
    assert iam.stars(statement("xray:PutTraceSegments", "*")) == []
    assert iam.stars(statement("s3:GetObject", "*")) == ["Resource::*"]
    assert iam.stars(statement("s3:Get*", "arn:aws:s3:::b/*")) == ["Action::s3:Get*"]
