"""Events twice, late and in any order: what serves in the end is the newest version that is approved."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import release_model, serving_stack
from tests.lambdas.serving_world import GROUP, ROLE, SOURCE, STACK, World, approval_event, package

VERSIONS = st.integers(1, 4)
DECISIONS = st.lists(st.tuples(VERSIONS, st.sampled_from(["Approved", "Rejected"])), min_size=1, max_size=6)
TO = release_model.Settings(STACK, ROLE, GROUP, SOURCE)


class Queue:
    """Hands one event after the other to the function; one that has to wait keeps the rest behind it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.aws = release_model.Aws(*(world.client(name) for name in release_model.Aws._fields))

    def deliver(self, event: dict[str, Any]) -> None:
        before = self.world.parameters["ModelPackageArn"]
        try:
            release_model.release(event, TO, self.aws)
        except serving_stack.StackBusyError:
            self.world.finish()
            self.deliver(event)
            return
        after = self.world.parameters["ModelPackageArn"]
        if after != before:
            assert self.world.packages[after] == "Approved"
            if self.world.packages.get(before) == "Approved":
                assert int(after.rsplit("/", 1)[1]) > int(before.rsplit("/", 1)[1])


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(decisions=DECISIONS, data=st.data())
def test_in_the_end_the_newest_approved_version_serves(
    decisions: list[tuple[int, str]], data: st.DataObject
) -> None:
    world = World(packages={package(version): "PendingManualApproval" for version in range(1, 5)})
    queue, under_way = Queue(world), []
    for moment, (version, status) in enumerate(decisions):
        world.packages[package(version)] = status
        event = approval_event(version, ModelApprovalStatus=status, time=f"2026-11-22T10:00:{moment:02}Z")
        metadata = approval_event(version, UpdatedModelPackageFields=["CustomerMetadataProperties"])
        under_way += [event, event, metadata]
        for _ in range(data.draw(st.integers(0, 2), label="delivered meanwhile")):
            queue.deliver(data.draw(st.sampled_from(under_way), label="event"))
    for event in data.draw(st.permutations(under_way), label="the rest"):
        queue.deliver(event)

    approved = [arn for arn, status in world.packages.items() if status == "Approved"]
    serves = world.parameters["ModelPackageArn"]
    if approved:
        assert serves == max(approved)
    else:
        assert world.packages.get(serves, "") in {"", "Rejected"}, "what was withdrawn last serves on"
