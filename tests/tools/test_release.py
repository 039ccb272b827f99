"""`make release`: asks the function that releases, waits for the end, says what became of it, and explains refusals."""

import dataclasses
import json
from typing import Any

import pytest

from lambdas import check_rollout, release_model
from lambdas.completion import Completion
from tests.lambdas.serving_world import (
    APPROVED_AT,
    ENDED_AT,
    ENDPOINT,
    GROUP,
    ROLE,
    SOURCE,
    STACK,
    World,
    completion_event,
    package,
)
from tools import release

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/approvals.fifo"


@dataclasses.dataclass
class Account(World):
    """A deployed system: what is sent to the queue is handled at the next wait, and the rollout ends at the one after."""

    queue: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    outputs: dict[str, str] = dataclasses.field(default_factory=lambda: {release.QUEUE_OUTPUT: QUEUE})
    missing: set[str] = dataclasses.field(default_factory=set)
    ending: str = "in service"
    ended_at: str = ENDED_AT
    waits: int = 0

    def _DescribeStacks(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if asked["StackName"] in self.missing:
            return super()._DescribeStacks({"StackName": "missing"})
        if asked["StackName"] != "flights-sandbox-release":
            return super()._DescribeStacks(asked)
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs.items()]
        return {"Stacks": [{"StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]}

    def _SendMessage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert (asked["QueueUrl"], asked["MessageGroupId"]) == (QUEUE, "serving")
        self.queue.append(json.loads(asked["MessageBody"]))
        return {"MessageId": "m-1"}

    def wait(self, _seconds: float) -> None:
        self.waits += 1
        if self.queue:
            to = release_model.Settings(STACK, ENDPOINT, ROLE, GROUP, SOURCE)
            aws = release_model.Aws(*(self.client(name) for name in release_model.Aws._fields))
            release_model.release(self.queue.pop(0), to, aws)
        elif self.status == "UPDATE_IN_PROGRESS":
            token = self.updates[-1]["ClientRequestToken"]
            status = "UPDATE_COMPLETE"
            if self.ending == "in service":
                self.finish()
            else:
                self.fail("AWS::SageMaker::Model", "CREATE_FAILED", "no such artifact", time=self.ended_at)
                status = self.status
            check = check_rollout.Settings(STACK, "[]", ENDPOINT, ROLE, GROUP, SOURCE)
            clients = check_rollout.Aws(*(self.client(name) for name in check_rollout.Aws._fields))
            end = completion_event(status, token=token, time=self.ended_at)
            check_rollout.check(Completion.parse(end, GROUP), check, clients)


@pytest.fixture
def account() -> Account:
    return Account()


def approve(account: Account, *versions: int) -> None:
    account.packages |= {package(version): "Approved" for version in versions}


def make_release(account: Account, *arguments: str) -> int:
    return release.main(list(arguments), clients=account.client, wait=account.wait)


def refusal(account: Account, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        make_release(account, *arguments)
    assert account.queue == []
    return str(stopped.value.code)


def test_after_serving_was_made_anew_the_newest_approved_version_is_restored(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(account, 1, 2)
    account.packages[package(3)] = "Rejected"
    assert make_release(account) == 0
    assert account.parameters["ModelPackageArn"] == package(2)
    printed = capsys.readouterr().out
    assert f"{package(2)} Approved" in printed
    assert "nothing serves" in printed
    assert f"Version 2: in service since {ENDED_AT}: it took over the endpoint" in printed


def test_a_release_that_fails_says_why_and_ends_with_an_error(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(account.serving(1), 2)
    account.ending = "not released"
    assert make_release(account) == 1
    assert f"Version 2: not released since {ENDED_AT}: no such artifact" in capsys.readouterr().out


def test_what_failed_is_left_out_unless_it_is_asked_for(account: Account) -> None:
    approve(account, 1, 2)
    account.metadata[package(2)] = {
        "rollout": "rolled back",
        "rollout-at": APPROVED_AT,
        "rollout-reason": "alarm",
    }
    assert make_release(account) == 0
    assert account.parameters["ModelPackageArn"] == package(1)
    account.ended_at = "2099-01-01T00:00:00Z"
    assert make_release(account, "--package", package(2)) == 0
    assert account.parameters["ModelPackageArn"] == package(2)


def test_what_cloudformation_took_back_is_tried_again_by_name(account: Account) -> None:
    approve(account.serving(1), 2)
    account.ending = "not released"
    assert make_release(account) == 1
    account.ending, account.ended_at = "in service", "2099-01-01T00:00:00Z"
    assert make_release(account, "--package", package(2)) == 0
    assert account.parameters["ModelPackageArn"] == package(2)


def test_what_serves_already_is_not_asked_for(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.serving(2)
    assert make_release(account) == 0
    assert "Nothing to do: version 2 is already in service." in capsys.readouterr().out
    assert make_release(account, "--package", package(2)) == 0
    assert account.waits == 0


@pytest.mark.parametrize("arguments", [[], ["--package", package(1)], ["--none"]])
def test_a_dry_run_only_says_what_would_be_done(
    account: Account, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    approve(account, 1)
    account.metadata[package(1)] = (
        {"rollout": "stuck", "rollout-at": "t", "rollout-reason": "alarm"} if "--package" in arguments else {}
    )
    if "--none" in arguments:
        account.serving(1)
    before = json.dumps(account.metadata)
    assert make_release(account, "--dry-run", *arguments) == 0
    assert "Would ask" in capsys.readouterr().out
    assert (account.queue, account.waits, json.dumps(account.metadata)) == ([], 0, before)


def test_none_empties_serving(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.serving(1)
    assert make_release(account, "--none") == 0
    assert account.parameters["ModelPackageArn"] == ""
    assert capsys.readouterr().out.endswith("Nothing is in service.\n")
    assert make_release(account, "--none") == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_version_that_was_deleted_and_still_serves_is_shown(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    del account.serving(2).packages[package(2)]
    approve(account, 1)
    assert make_release(account) == 0
    assert f"{package(2)} serves, and was deleted" in capsys.readouterr().out
    assert account.parameters["ModelPackageArn"] == package(1)


def test_an_end_that_does_not_come_ends_the_program_and_says_where_to_look(account: Account) -> None:
    approve(account, 1)
    with pytest.raises(
        SystemExit, match=r"No end after 7200 s\. See the log of the function in flights-sandbox-release"
    ):
        release.main([], clients=account.client, wait=lambda _: None)


def test_a_version_deleted_meanwhile_ends_the_program(account: Account) -> None:
    approve(account, 1)
    with pytest.raises(SystemExit, match="was deleted meanwhile"):
        release.main([], clients=account.client, wait=lambda _: account.packages.clear())


def test_without_an_approved_version_it_says_so(account: Account) -> None:
    account.packages[package(1)] = "Rejected"
    assert "No version of flights-sandbox is approved" in refusal(account)


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        (package(9), "no version of flights-sandbox"),
        (package(1), "version 2 is newer and approved"),
        (package(3), "it is Rejected. Approve it first: aws sagemaker update-model-package"),
    ],
)
def test_a_version_that_could_not_serve_is_refused_with_the_remedy(
    account: Account, arn: str, said: str
) -> None:
    approve(account, 1, 2)
    account.packages[package(3)] = "Rejected"
    assert said in refusal(account, "--package", arn)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (STACK, f"{STACK} is not deployed. Run: make deploy STAGE=sandbox"),
        ("flights-sandbox-release", "flights-sandbox-release is not deployed. Run: make deploy"),
    ],
)
def test_a_stack_that_is_not_deployed_is_named(account: Account, missing: str, said: str) -> None:
    approve(account, 1)
    account.missing = {missing}
    assert said in refusal(account)


def test_a_release_stack_from_before_this_command_is_to_be_deployed_again(account: Account) -> None:
    approve(account, 1)
    account.outputs = {}
    assert "has no output ApprovalsQueueUrl. Deploy it again" in refusal(account)


def test_a_stack_that_is_stuck_is_told_with_its_remedy(account: Account) -> None:
    account.serving(1).status = "UPDATE_ROLLBACK_FAILED"
    assert f"continue-update-rollback --stack-name {STACK}" in refusal(account)


def test_a_stack_whose_creation_failed_is_to_be_deployed_again(account: Account) -> None:
    account.status = "ROLLBACK_FAILED"
    said = f"{STACK} has never been created (ROLLBACK_FAILED). Run: make deploy STAGE=sandbox"
    assert said in refusal(account)


def test_a_newer_version_that_is_approved_meanwhile_serves_instead(account: Account) -> None:
    approve(account, 1)

    def wait(seconds: float) -> None:
        approve(account, 2)
        account.wait(seconds)

    with pytest.raises(SystemExit, match=r"/2 was approved meanwhile, and serves instead"):
        release.main([], clients=account.client, wait=wait)
