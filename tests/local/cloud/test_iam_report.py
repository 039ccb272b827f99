"""The report finds what a role used, what it may do in vain, and what was denied; its table excuses by document."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from local.cloud import decisions, iam_report, lifecycle
from local.cloud.decisions import Decision, Permission
from local.cloud.place import ACCOUNT, REGION, ROOT, Place

BUCKET = "arn:aws:s3:::recorded"
POLICIES = {
    "p": {
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{BUCKET}/*"},
            {"Effect": "Allow", "Action": "s3:Get*", "Resource": f"{BUCKET}/both/*"},
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"{BUCKET}-no-more"},
            {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"},
        ]
    }
}
WRITER = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ACCOUNT}},
            ]
        },
        "Policies": [{"PolicyName": name, "PolicyDocument": document} for name, document in POLICIES.items()],
    },
}
TABLE = """# Some document

### Permissions that no run here shows

| Permissions | Roles | Why | Required by |
|---|---|---|---|
| `sts:Assume*` | `Writer` | nothing assumes here | "A title" (A Guide) |

### Another

| `s3:*` | `*` | not a row of the table | "No title" |
"""


# --- what is known without a cloud ---------------------------------------------------------------------------------------


def decision(role: str = "r", *, action: str = "s3:GetObject", allowed: bool = True) -> Decision:
    return Decision(f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/session", action, BUCKET, {}, allowed)


def test_a_record_is_read_as_it_was_written_each_distinct_decision_once(tmp_path: Path) -> None:
    recorder = decisions.Recorder(tmp_path / "record")
    written = [decision("a"), decision("b"), decision("a", allowed=False)]
    for one in [*written, decision("a")]:
        recorder.record(one)
    assert decisions.read(tmp_path / "record") == written  # before it is closed
    recorder.close()


def test_a_decision_belongs_to_the_role_of_its_session() -> None:
    user = Decision(f"arn:aws:iam::{ACCOUNT}:user/somebody", "s3:GetObject", BUCKET, {}, allowed=True)
    found = decisions.by_role([decision("a"), user, decision("b"), decision("a", allowed=False)])
    assert {role: len(mine) for role, mine in found.items()} == {"a": 2, "b": 1}


def test_a_permission_is_one_allowed_action_of_one_statement() -> None:
    assert list(decisions.permissions(POLICIES)) == [
        Permission("p", 0, "s3:GetObject", (f"{BUCKET}/*",)),
        Permission("p", 0, "s3:PutObject", (f"{BUCKET}/*",)),
        Permission("p", 1, "s3:Get*", (f"{BUCKET}/both/*",)),
        Permission("p", 2, "sts:AssumeRole", ("*",)),
        Permission("p", 3, "s3:ListBucket", (f"{BUCKET}-no-more",)),
    ]


@pytest.mark.parametrize("permission", list(decisions.permissions(POLICIES)), ids=lambda one: one.action)
def test_taking_one_away_leaves_every_other_and_every_denial(permission: Permission) -> None:
    less = decisions.without(POLICIES, permission)
    left = [(one.action, one.resources) for one in decisions.permissions(less)]
    everything = [(one.action, one.resources) for one in decisions.permissions(POLICIES)]
    assert sorted([*left, (permission.action, permission.resources)]) == sorted(everything)
    assert less["p"]["Statement"][-1]["Effect"] == "Deny"


def test_every_row_of_our_table_names_permissions_roles_and_the_document_with_its_guide() -> None:
    rows = iam_report.excuses(iam_report.TABLE)
    assert rows
    for row in rows:
        assert row.actions, row
        assert row.roles, row
        assert re.fullmatch(r"\".+\".* (Guide|Reference)\)", row.document), row


# --- the report on a recorded run ----------------------------------------------------------------------------------------


class Report:
    """What the command printed, and its exit code."""

    def __init__(self, place: Place, table: Path, text: str) -> None:
        table.write_text(text)
        command = [
            lifecycle.PYTHON,
            "-m",
            "local.cloud.iam_report",
            "--folder",
            place.folder,
            "--table",
            table,
        ]
        self.done = subprocess.run(
            command,
            cwd=ROOT,
            env=place.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        self.lines = [line.strip() for line in self.done.stdout.splitlines()]


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Iterator[tuple[Place, Report]]:
    """A cloud, and what the report says as long as nothing is deployed there."""
    folder = tmp_path_factory.mktemp("recorded")
    with lifecycle.running(Place.on_free_port(folder)) as place:
        yield place, Report(place, folder / "table.md", TABLE)


@pytest.fixture(scope="module")
def recorded(empty: tuple[Place, Report]) -> Place:
    """A cloud in which the role of a stack has read and written objects, and was denied a deletion."""
    place, _ = empty

    def client(service: str, **keys: str) -> object:
        root = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        where = {"endpoint_url": place.url, "verify": str(place.certificate), "region_name": REGION}
        return boto3.client(service, **where, **(keys or root))

    cloudformation = client("cloudformation")
    resources = {"WriterE5BD0B04": WRITER}
    body = json.dumps({"Resources": resources})
    cloudformation.create_stack(StackName="tried", TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
    cloudformation.get_waiter("stack_create_complete").wait(StackName="tried")
    (role,) = cloudformation.describe_stack_resources(StackName="tried")["StackResources"]
    client("s3").create_bucket(Bucket="recorded")
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role['PhysicalResourceId']}"
    session = client("sts").assume_role(RoleArn=arn, RoleSessionName="run")["Credentials"]
    s3 = client(
        "s3",
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )
    for key in ("one", "both/two"):
        s3.put_object(Bucket="recorded", Key=key, Body=b"")
        s3.get_object(Bucket="recorded", Key=key)
    by_policy = {
        "Effect": "Allow",
        "Principal": {"AWS": arn},
        "Action": "s3:ListBucket",
        "Resource": BUCKET,
    }
    client("s3").put_bucket_policy(Bucket="recorded", Policy=json.dumps({"Statement": by_policy}))
    s3.list_objects_v2(Bucket="recorded")
    with pytest.raises(s3.exceptions.ClientError):
        s3.delete_object(Bucket="recorded", Key="one")
    return place


def test_where_nothing_is_deployed_the_report_says_so(empty: tuple[Place, Report]) -> None:
    _, report = empty
    assert (report.lines, report.done.returncode) == ([], 1)
    said = "No stack with a role is deployed here. In `make shell`: npx cdk deploy --all\n"
    assert report.done.stderr == said


def test_without_a_cloud_there_is_no_report(tmp_path: Path) -> None:
    report = Report(Place(tmp_path), tmp_path / "table.md", TABLE)
    assert (report.done.stderr, report.done.returncode) == ("No cloud runs here. Start one: make cloud\n", 1)


def test_what_is_neither_used_nor_explained_is_marked_and_fails(recorded: Place, tmp_path: Path) -> None:
    report = Report(recorded, tmp_path / "table.md", TABLE)
    assert report.lines == [
        "tried Writer: 5 granted, 2 used",
        "used: s3:GetObject, s3:PutObject",
        f"!   unseen: s3:Get* on {BUCKET}/both/*",  # what it allowed, the other statement allows as well
        'unseen: sts:AssumeRole (required by "A title" (A Guide))',
        f"!   unseen: s3:ListBucket on {BUCKET}-no-more",  # what was listed, the bucket's policy allows
        f"denied: s3:DeleteObject on {BUCKET}/one",
    ]
    assert report.done.returncode == 1
    assert "2 lines marked ! are not in the table" in report.done.stderr


def test_the_table_excuses_by_permission_and_role(recorded: Place, tmp_path: Path) -> None:
    excused = TABLE.replace("`sts:Assume*` |", "`sts:Assume*` `s3:Get[*]` `s3:List*` |")
    assert Report(recorded, tmp_path / "table.md", excused).done.returncode == 0
    others = excused.replace("`Writer`", "`Reader`")
    assert Report(recorded, tmp_path / "table.md", others).done.returncode == 1


@pytest.mark.parametrize(
    ("outdated", "name"),
    [
        (
            TABLE.replace("`sts:Assume*`", "`sts:Assume*` `s3:Get[*]` `s3:List*` `s3:PutObject`"),
            "s3:PutObject",
        ),
        (
            TABLE.replace("`sts:Assume*`", "`sts:Assume*` `s3:Get[*]` `s3:List*`").replace(
                "### Another",
                '| `s3:PutO*` | `Writer` | seen | "Another title" (A Guide) |\n\n### Another',
            ),
            "s3:PutO*",
        ),
    ],
    ids=["name", "row"],
)
def test_what_the_table_calls_unseen_and_the_run_has_shown_is_told(
    recorded: Place, tmp_path: Path, outdated: str, name: str
) -> None:
    report = Report(recorded, tmp_path / "table.md", outdated)
    assert [line for line in report.lines if line.startswith(f"+   seen: {name} of the row by")]
    assert report.done.returncode == 0  # who runs more than the README has shown more
