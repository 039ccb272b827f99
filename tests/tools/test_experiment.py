"""A challenger is set beside the champion by one parameter, and taken away by it; what cannot be is named."""

from typing import Any

import botocore.exceptions
import pytest

from tools import experiment

STACK, ENDPOINT = "flights-sandbox-experiment", "flights-sandbox-experiment"
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package/flights-sandbox"


class Account:
    """CloudFormation with one stack, and SageMaker with its endpoint and versions."""

    def __init__(self, champion: str = f"{GROUP}/1", challenger: str = "") -> None:
        self.parameters = {"ModelPackageArn": champion, "ChallengerPackageArn": challenger}
        self.status, self.approval, self.fails = "UPDATE_COMPLETE", "PendingManualApproval", False
        self.updates: list[dict[str, Any]] = []

    def __call__(self, service: str) -> Any:
        return self

    def describe_stacks(self, **request: str) -> Any:
        if request["StackName"] != STACK:
            error = {
                "Code": "ValidationError",
                "Message": f"Stack with id {request['StackName']} does not exist",
            }
            raise botocore.exceptions.ClientError({"Error": error}, "DescribeStacks")
        listed = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
        return {"Stacks": [{"StackStatus": self.status, "Parameters": listed}]}

    def update_stack(self, **request: Any) -> None:
        values = {it["ParameterKey"]: it.get("ParameterValue") for it in request["Parameters"]}
        if values["ChallengerPackageArn"] == self.parameters["ChallengerPackageArn"]:
            error = {"Code": "ValidationError", "Message": "No updates are to be performed."}
            raise botocore.exceptions.ClientError({"Error": error}, "UpdateStack")
        self.updates.append(request)
        if not self.fails:
            self.parameters["ChallengerPackageArn"] = values["ChallengerPackageArn"]

    def get_waiter(self, name: str) -> Any:
        assert name == "stack_update_complete"
        return self

    def wait(self, **request: Any) -> None:
        if self.fails:
            raise botocore.exceptions.WaiterError("stack_update_complete", "failed", {})

    def describe_model_package(self, **request: str) -> Any:
        return {"ModelApprovalStatus": self.approval}

    def describe_endpoint(self, **request: str) -> Any:
        assert request == {"EndpointName": ENDPOINT}
        variant = {"VariantName": "Champion", "CurrentWeight": 80.0, "CurrentInstanceCount": 1}
        shadow = {"VariantName": "Challenger", "CurrentWeight": 20.0, "CurrentInstanceCount": 2}
        return {
            "EndpointStatus": "InService",
            "ProductionVariants": [variant],
            "ShadowProductionVariants": [shadow],
        }


def run(account: Account, *arguments: str) -> int:
    return experiment.main([*arguments, "--stage", "sandbox"], clients=account)


def test_start_sets_the_challenger_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account()
    assert run(account, "start", "--challenger", f"{GROUP}/2") == 0
    (update,) = account.updates
    assert update == {
        "StackName": STACK,
        "UsePreviousTemplate": True,
        "Parameters": [
            {"ParameterKey": "ChallengerPackageArn", "ParameterValue": f"{GROUP}/2"},
            {"ParameterKey": "ModelPackageArn", "UsePreviousValue": True},
        ],
    }
    assert "the experiment runs" in capsys.readouterr().out


def test_stop_empties_it_and_a_second_stop_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account(challenger=f"{GROUP}/2")
    assert run(account, "stop") == run(account, "stop") == 0
    assert len(account.updates) == 1
    assert account.parameters["ChallengerPackageArn"] == ""
    assert "the experiment has ended" in (told := capsys.readouterr().out)
    assert "is so already" in told


def test_status_shows_versions_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    run(Account(challenger=f"{GROUP}/2"), "status")
    told = capsys.readouterr().out
    assert f"champion   {GROUP}/1" in told
    assert f"challenger {GROUP}/2" in told
    assert "Champion: weight 80, 1 instance(s)" in told
    assert "Challenger (shadow): weight 20, 2 instance(s)" in told
    run(Account(), "status")
    assert "No experiment runs." in capsys.readouterr().out


def test_after_a_promotion_status_says_why_nothing_runs_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    promoted = Account(champion=f"{GROUP}/2", challenger=f"{GROUP}/2")
    assert run(promoted, "status") == 0
    told = capsys.readouterr().out
    assert "No experiment runs: the challenger was released and is the champion now." in told
    assert "start --challenger" in told


def test_after_a_promotion_the_next_challenger_starts_and_the_same_one_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    promoted = Account(champion=f"{GROUP}/2", challenger=f"{GROUP}/2")
    with pytest.raises(SystemExit, match="is the champion"):
        run(promoted, "start", "--challenger", f"{GROUP}/2")
    assert run(promoted, "start", "--challenger", f"{GROUP}/3") == 0
    assert promoted.parameters["ChallengerPackageArn"] == f"{GROUP}/3"


@pytest.mark.parametrize(
    ("changes", "challenger", "reason"),
    [
        ({"parameters": {"ModelPackageArn": ""}}, f"{GROUP}/2", "Approve a version first"),
        ({}, f"{GROUP}/1", "is the champion"),
        ({"approval": "Rejected"}, f"{GROUP}/2", "is rejected"),
        ({"status": "UPDATE_IN_PROGRESS"}, f"{GROUP}/2", "Try again when that has ended"),
        ({"fails": True}, f"{GROUP}/2", "describe-stack-events"),
    ],
    ids=["no champion", "champion", "rejected", "busy", "rolled back"],
)
def test_what_cannot_be_started_says_why(changes: dict[str, Any], challenger: str, reason: str) -> None:
    account = Account()
    for name, value in changes.items():
        setattr(account, name, account.parameters | value if name == "parameters" else value)
    with pytest.raises(SystemExit, match=reason):
        run(account, "start", "--challenger", challenger)


def test_a_stack_that_is_not_deployed_is_named_with_the_remedy() -> None:
    with pytest.raises(experiment.ExperimentError, match='Add "experiment" to the stage'):
        experiment.parameters(Account(), "another")


@pytest.mark.parametrize("arguments", [["start"], ["stop", "--challenger", "x"]])
def test_only_start_takes_a_challenger(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        run(Account(), *arguments)
