"""Who may use the one key, and for what."""

from stacks.config import load
from tests.support import iam
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, context


def _services(assembly: Assembly) -> list[iam.Statement]:
    return [
        statement
        for statement in iam.statements(assembly, assembly.template("Foundation"))
        if statement.resource.startswith("Key") and not statement.principals[0].endswith(":root")
    ]


def test_a_service_uses_the_key_only_for_this_apps_log_groups_topics_and_queues(
    each_assembly: Assembly,
) -> None:
    resolver = Resolver(each_assembly, each_assembly.template("Foundation"))
    prefix = load(context(each_assembly.stage)).prefix
    found = _services(each_assembly)
    assert found
    for statement in found:
        ((key, arns),) = statement.condition["ArnLike"].items()
        assert key.startswith("kms:EncryptionContext:aws:")
        for arn in resolver.strings(arns):
            # Glue's groups are named after the kind of job, not after the app.
            assert ":111122223333:" in arn
            assert prefix in arn or ":log-group:/aws-glue/" in arn


def test_only_publishers_and_log_groups_need_the_key_in_their_own_name(each_assembly: Assembly) -> None:
    principals = {principal for statement in _services(each_assembly) for principal in statement.principals}
    assert principals == {
        "logs.us-east-1.amazonaws.com",
        "budgets.amazonaws.com",
        "cloudwatch.amazonaws.com",
        "events.amazonaws.com",
    }


def test_eventbridge_is_not_asked_for_an_account_it_does_not_send(each_assembly: Assembly) -> None:
    """AWS: aws:SourceAccount in a key policy is not supported for EventBridge to encrypted topics."""
    for statement in _services(each_assembly):
        if "events.amazonaws.com" in statement.principals:
            assert statement.condition.keys() == {"ArnLike"}
