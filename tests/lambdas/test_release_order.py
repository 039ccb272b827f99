"""Events twice, late and in any order: what serves in the end is the newest version that is approved."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import check_rollout, registry, release_model, serving_stack
from lambdas.completion import Completion
from lambdas.difference import AlarmsRingError, UnsettledError
from tests.lambdas.serving_world import (
    ENDPOINT,
    ERRORS_ALARM,
    GROUP,
    ROLE,
    SOURCE,
    STACK,
    World,
    approval_event,
    completion_event,
    hourly_event,
    package,
)

VERSIONS = st.integers(1, 4)
DECISIONS = st.lists(st.tuples(VERSIONS, st.sampled_from(["Approved", "Rejected"])), min_size=1, max_size=6)
TO = release_model.Settings(STACK, ENDPOINT, ROLE, GROUP, SOURCE)


class Queue:
    """Hands one event after the other to the function; one that has to wait keeps the rest behind it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.aws = release_model.Aws(*(world.client(name) for name in release_model.Aws._fields))

    def deliver(self, event: dict[str, Any]) -> None:
        before = self.world.parameters["ModelPackageArn"]
        try:
            release_model.release(event, TO, self.aws)
        except (serving_stack.StackBusyError, UnsettledError):
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


ENDINGS = st.sampled_from(["good", "good", "told", "silent"])
CHECK = check_rollout.Settings(STACK, "[]", ENDPOINT, ROLE, GROUP, SOURCE)


class System:
    """Both functions on one account, in which some versions are taken back: CloudFormation is told, or it is not.

    Time passes with each step; what was handled may be handled once more at any later time, and an end is checked before
    or after the next event is handled.
    """

    def __init__(self, endings: dict[str, str]) -> None:
        self.world = World(packages=dict.fromkeys(endings, "PendingManualApproval"))
        self.endings, self.seconds = endings, 0
        self.ends: list[dict[str, Any]] = []
        self.unchecked: list[dict[str, Any]] = []
        self.release = release_model.Aws(*(self.world.client(name) for name in release_model.Aws._fields))
        self.checks = check_rollout.Aws(*(self.world.client(name) for name in check_rollout.Aws._fields))

    def now(self) -> str:
        for module in (release_model, check_rollout):
            module.metrics.clear_metrics()  # a handler would have published them
        self.seconds += 10
        now = datetime(2026, 11, 22, 10, tzinfo=UTC) + timedelta(seconds=self.seconds)
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def decide(self, version: int, status: str) -> dict[str, Any]:
        self.world.packages[package(version)] = status
        return approval_event(version, ModelApprovalStatus=status, time=self.now())

    def deliver(self, event: dict[str, Any]) -> None:
        for _ in range(30):
            try:
                release_model.release(event, TO, self.release)
            except AlarmsRingError:
                return  # asked again in vain, until SQS gives it up
            except (serving_stack.StackBusyError, UnsettledError):
                self.step()
            else:
                return
        raise AssertionError("it waits for ever")

    def step(self) -> bool:
        """Whatever comes next by itself: an end is checked, which takes less time than the next update; or that ends."""
        if self.unchecked:
            self.check(self.unchecked.pop(0))
        elif self.world.status.endswith("_IN_PROGRESS"):
            self.end()
        else:
            return False
        return True

    def end(self) -> None:
        """The update that runs ends."""
        ending = self.endings[self.world.parameters["ModelPackageArn"]]
        status, time = "UPDATE_COMPLETE", self.now()
        if ending == "good":
            self.world.finish()
        elif ending == "silent" and self.world.running is not None:
            self.world.finish(rolled_back=True)
        else:
            status = "UPDATE_ROLLBACK_COMPLETE"
            self.world.fail("AWS::SageMaker::Endpoint", "UPDATE_FAILED", "an alarm went off", time=time)
        token = self.world.updates[-1]["ClientRequestToken"]
        self.ends.append(completion_event(status, token=token, time=time))
        self.ring(self.world.alarms[ERRORS_ALARM])
        self.unchecked.append(self.ends[-1])

    def check(self, end: dict[str, Any]) -> None:
        try:
            check_rollout.check(Completion.parse(end, GROUP), CHECK, self.checks)
        except AlarmsRingError:  # a repair waits in the queue of checks
            self.ring("OK")
            self.check(end)

    def ring(self, state: str) -> None:
        """An alarm rings, or is quiet; where nothing serves, there is nothing to ring for."""
        self.world.alarms[ERRORS_ALARM] = state if self.world.parameters["ModelPackageArn"] else "OK"

    def settle(self) -> None:
        for _ in range(40):
            if not self.step():
                return
        raise AssertionError("one update leads to the next, for ever")


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    endings=st.lists(ENDINGS, min_size=4, max_size=4),
    decisions=st.lists(
        st.tuples(VERSIONS, st.sampled_from(["Approved", "Rejected"])), min_size=1, max_size=7
    ),
    data=st.data(),
)
def test_in_the_end_the_newest_approved_version_that_is_not_taken_back_serves_and_each_end_is_told_once(
    endings: list[str], decisions: list[tuple[int, str]], data: st.DataObject
) -> None:
    ends_as = {package(number): ending for number, ending in enumerate(endings, start=1)}
    system, under_way = System(ends_as), []
    for version, status in decisions:
        under_way.append(system.decide(version, status))
        system.ring(data.draw(st.sampled_from(["OK", "ALARM"]), label="an alarm"))
        for _ in range(data.draw(st.integers(0, 2), label="delivered meanwhile")):
            system.deliver(data.draw(st.sampled_from(under_way), label="event"))
            if data.draw(st.booleans(), label="it goes on before the next event"):
                system.step()
        if system.ends and data.draw(st.booleans(), label="an end comes again"):
            system.check(data.draw(st.sampled_from(system.ends), label="end"))
    system.ring(data.draw(st.sampled_from(["OK", "ALARM"]), label="an alarm"))
    for event in data.draw(st.permutations(under_way), label="the rest"):
        system.deliver(event)
    system.ring("OK")
    for hour in range(4):
        system.settle()
        system.deliver({**hourly_event(), "id": f"hour-{hour}", "time": system.now()})
    system.settle()

    world = system.world
    good = [arn for arn, status in world.packages.items() if status == "Approved" and ends_as[arn] == "good"]
    serves = world.parameters["ModelPackageArn"]
    if good:
        assert serves == max(good)
    assert ends_as.get(serves, "good") == "good"
    assert world.running == world.believed or not serves
    tried = [serving_stack.released_version(it["ClientRequestToken"]) for it in world.updates]
    for arn, ending in ends_as.items():
        number = int(arn.rsplit("/", 1)[-1])
        if ending != "good":
            assert tried.count(number) <= decisions.count((number, "Approved")), "one try an approval"
    told = [(it["package"], it["result"], it["at"]) for it in world.results]
    assert len(told) == len(set(told))
    assert registry.DIFFERS not in {it["result"] for it in world.results}
