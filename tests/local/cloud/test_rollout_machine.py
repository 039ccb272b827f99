"""The update of an endpoint as a state machine: which share at which time, the way back from everywhere, and time."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from local.cloud import guardrails, rollout, rollout_status
from local.cloud.guardrails import RefusedError
from local.cloud.rollout import Alarmed, Done, End, Failed, Phase, Route, Start, Tick

ALL = "AllTraffic"
WAIT, TERMINATION, TIMEOUT = 300, 180, 3600


def size(value: int, unit: str = "INSTANCE_COUNT") -> dict[str, Any]:
    return {"Type": unit, "Value": value}


def blue_green(kind: str, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": WAIT, **sizes}
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": TERMINATION}
    return {"BlueGreenUpdatePolicy": policy | {"MaximumExecutionTimeoutInSeconds": TIMEOUT}}


def canary(value: int, unit: str = "INSTANCE_COUNT") -> dict[str, Any]:
    return blue_green("CANARY", CanarySize=size(value, unit))


def linear(value: int, unit: str = "INSTANCE_COUNT") -> dict[str, Any]:
    return blue_green("LINEAR", LinearStepSize=size(value, unit))


def rolling(value: int, unit: str = "INSTANCE_COUNT", back: dict[str, Any] | None = None) -> dict[str, Any]:
    policy = {"MaximumBatchSize": size(value, unit), "WaitIntervalInSeconds": WAIT}
    policy["MaximumExecutionTimeoutInSeconds"] = TIMEOUT
    return {"RollingUpdatePolicy": policy | ({"RollbackMaximumBatchSize": back} if back else {})}


AT_ONCE = blue_green("ALL_AT_ONCE")


class Update:
    """An update whose commands are carried out at once; `running` is what really runs, `log` what was seen."""

    def __init__(self, config: Mapping[str, Any] | None, instances: int = 4, old: int | None = None) -> None:
        self.plan = guardrails.plan(config, {ALL: instances}, {ALL: instances if old is None else old})
        self.now = 0.0
        self.running = {"new": 0, "old": self.plan.old[ALL]}
        self.most = 0
        self.log: list[tuple[Fraction, float]] = []
        self.state, self.commands = rollout.begin(self.plan, self.now)

    def tell(self, event: rollout.Event) -> None:
        self.state, self.commands = rollout.advance(self.plan, self.state, event, self.now)

    def carry_out(self) -> None:
        for command in self.commands:
            if isinstance(command, Start | End):
                self.running[command.side] = command.counts[ALL]
        self.most = max(self.most, sum(self.running.values()))
        self.tell(Done())

    def until(self, phase: Phase, times: int = 1) -> "Update":
        """Go on until the phase is reached for the n-th time."""
        while True:
            if self.state.phase is phase:
                times -= 1
                if not times:
                    return self
            assert not self.state.phase.over, self.state
            self.go_on()

    def go_on(self) -> None:
        """Carry out what is to do; a bake lasts until its last second, and ends with it."""
        if self.state.phase is Phase.BAKING:
            bake, baking = self.plan.steps[self.state.step].bake, self.state
            self.log.append((baking.shares[ALL], bake))
            if bake:
                self.now += bake - 1
                self.tell(Tick())
                assert self.state == baking
                self.now += 1
            self.tell(Tick())
            assert self.state != baking
        else:
            self.carry_out()

    def end(self) -> "Update":
        while not self.state.phase.over:
            self.go_on()
        return self


def shares(*pairs: tuple[str, float]) -> list[tuple[Fraction, float]]:
    return [(Fraction(share), seconds) for share, seconds in pairs]


@pytest.mark.parametrize(
    ("config", "instances", "expected"),
    [
        (None, 1, [("1", 0)]),
        (None, 4, [("1", 0)]),
        (AT_ONCE, 1, [("1", TERMINATION)]),
        (canary(1), 2, [("1/2", WAIT), ("1", TERMINATION)]),
        (canary(1), 3, [("1/3", WAIT), ("1", TERMINATION)]),
        (canary(50, "CAPACITY_PERCENT"), 4, [("1/2", WAIT), ("1", TERMINATION)]),
        (canary(30, "CAPACITY_PERCENT"), 10, [("3/10", WAIT), ("1", TERMINATION)]),
        (canary(33, "CAPACITY_PERCENT"), 10, [("3/10", WAIT), ("1", TERMINATION)]),
        (canary(10, "CAPACITY_PERCENT"), 4, [("1/4", WAIT), ("1", TERMINATION)]),
        (linear(1), 2, [("1/2", WAIT), ("1", TERMINATION)]),
        (linear(1), 3, [("1/3", WAIT), ("2/3", WAIT), ("1", TERMINATION)]),
        (linear(3), 10, [("3/10", WAIT), ("6/10", WAIT), ("9/10", WAIT), ("1", TERMINATION)]),
        (linear(50, "CAPACITY_PERCENT"), 4, [("1/2", WAIT), ("1", TERMINATION)]),
        (rolling(1), 2, [("1/2", WAIT), ("1", WAIT)]),
        (rolling(2), 4, [("1/2", WAIT), ("1", WAIT)]),
        (rolling(1), 3, [("1/3", WAIT), ("2/3", WAIT), ("1", WAIT)]),
        (rolling(40, "CAPACITY_PERCENT"), 10, [("4/10", WAIT), ("8/10", WAIT), ("1", WAIT)]),
    ],
)
def test_each_strategy_gives_the_new_fleet_its_share_for_its_time(config, instances, expected) -> None:
    update = Update(config, instances).end()
    assert update.log == shares(*expected)
    assert update.state.phase is Phase.DONE
    assert update.running == {"new": instances, "old": 0}


@pytest.mark.parametrize(
    ("back", "old", "refused"),
    [
        (size(4), 4, False),
        (size(100, "CAPACITY_PERCENT"), 4, False),
        (size(5), 4, True),
        (size(101, "CAPACITY_PERCENT"), 4, True),
    ],
)
def test_the_way_back_is_at_most_the_whole_old_fleet(back, old, refused) -> None:
    if refused:
        with pytest.raises(RefusedError, match="RollbackMaximumBatchSize must be 1 to 100 %"):
            Update(rolling(1, back=back), 4, old)
    else:
        assert Update(rolling(1, back=back), 4, old).end().state.phase is Phase.DONE


@pytest.mark.parametrize(("config", "instances"), [(canary(1), 4), (linear(1), 4), (AT_ONCE, 4)])
def test_blue_green_starts_the_whole_new_fleet_first_and_ends_the_old_one_last(config, instances) -> None:
    update = Update(config, instances)
    assert update.commands == (Start("new", {ALL: instances}),)
    update.until(Phase.RETIRING)
    assert update.running == {"new": instances, "old": instances}
    assert update.commands == (End("old", {ALL: 0}),)


@pytest.mark.parametrize(("batch", "instances"), [(1, 2), (1, 4), (2, 4), (2, 5), (5, 10)])
def test_rolling_never_runs_more_than_one_batch_beside_the_instances(batch, instances) -> None:
    assert Update(rolling(batch), instances).end().most == instances + batch


def test_rolling_leaves_the_old_fleet_an_instance_as_long_as_it_has_traffic() -> None:
    """Autoscaling had the old fleet at one instance; the new configuration starts with four."""
    update = Update(rolling(1), 4, old=1)
    while not update.state.phase.over:
        assert update.running["old"] or update.state.shares[ALL] == 1
        update.go_on()


STRATEGIES = {"canary": canary(1), "linear": linear(1), "at once": AT_ONCE, "rolling": rolling(1)}
STAGES = [
    *(
        (name, phase, 1)
        for name in STRATEGIES
        for phase in (Phase.PROVISIONING, Phase.SHIFTING, Phase.BAKING)
    ),
    *(("canary", phase, 2) for phase in (Phase.SHIFTING, Phase.BAKING)),
    *(("linear", phase, number) for phase in (Phase.SHIFTING, Phase.BAKING) for number in (2, 3, 4)),
    *(("rolling", phase, 2) for phase in (Phase.PROVISIONING, Phase.SHIFTING, Phase.BAKING)),
    *(("rolling", phase, 4) for phase in (Phase.PROVISIONING, Phase.SHIFTING, Phase.BAKING)),
]


@pytest.mark.parametrize("event", [Alarmed("it rang"), Failed("it died")], ids=["alarm", "failure"])
@pytest.mark.parametrize(("name", "phase", "number"), STAGES)
def test_every_stage_has_a_way_back_to_the_whole_old_fleet(name, phase, number, event) -> None:
    update = Update(STRATEGIES[name]).until(phase, number)
    update.tell(event)
    assert update.state.phase in {Phase.RETURNING, Phase.RESTORING}
    update.end()
    assert (update.state.phase, update.state.reason) == (Phase.ROLLED_BACK, event.reason)
    assert update.state.shares == {ALL: 0}
    assert update.running == {"new": 0, "old": 4}


def test_the_way_back_of_blue_green_moves_all_traffic_before_anything_ends() -> None:
    update = Update(linear(1)).until(Phase.BAKING, 3)
    update.tell(Alarmed("it rang"))
    assert update.commands == (Route({ALL: Fraction(0)}), End("new", {ALL: 0}))


@pytest.mark.parametrize(
    ("back", "restored"),
    [
        (None, [(4, 0)]),
        (size(100, "CAPACITY_PERCENT"), [(4, 0)]),
        (size(1), [(2, 2), (3, 1), (4, 0)]),
        (size(50, "CAPACITY_PERCENT"), [(3, 1), (4, 0)]),
    ],
)
def test_rolling_goes_back_in_the_batches_it_is_given(back, restored) -> None:
    """After three of four instances are replaced: old and new instances after each batch of the way back."""
    update = Update(rolling(1, back=back)).until(Phase.PROVISIONING, 4)
    assert update.running == {"new": 3, "old": 1}
    update.tell(Alarmed("it rang"))
    seen = []
    while not update.state.phase.over:
        assert update.state.phase in {Phase.RESTORING, Phase.RETURNING}
        if update.state.phase is Phase.RETURNING:
            seen.append((update.running["old"], update.state.back[0].kept[ALL]))
        update.go_on()
    assert seen == restored


def test_an_old_fleet_that_cannot_be_restored_leaves_both_serving_by_their_instances() -> None:
    update = Update(rolling(1)).until(Phase.BAKING, 3)
    update.tell(Alarmed("it rang."))
    update.tell(Failed("No capacity."))
    assert update.state.phase is Phase.STUCK
    assert update.state.reason == "it rang. The rollback failed: No capacity."
    assert update.state.shares == {ALL: Fraction(3, 5)}  # three new instances, two old ones
    assert update.running == {"new": 3, "old": 2}


@pytest.mark.parametrize("phase", [Phase.PROVISIONING, Phase.BAKING])
@pytest.mark.parametrize("name", STRATEGIES)
def test_too_late_is_a_way_back_from_every_wait(name, phase) -> None:
    update = Update(STRATEGIES[name]).until(phase)
    update.now = TIMEOUT
    if phase is Phase.PROVISIONING:
        update.tell(Tick())
        assert update.state.phase is phase  # not yet
    update.now = TIMEOUT + 1
    update.tell(Tick())
    update.end()
    assert update.state.phase is Phase.ROLLED_BACK
    assert update.state.reason == "The deployment exceeded its 3600 seconds."


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_comes_after_the_last_bake_stops_nothing(name) -> None:
    update = Update(STRATEGIES[name])
    update.until(Phase.RETIRING, 4 if name == "rolling" else 1)
    for event in (Alarmed("late"), Failed("late"), Tick()):
        update.now += TIMEOUT
        update.tell(event)
    assert update.state.phase is Phase.RETIRING
    assert update.end().state.phase is Phase.DONE


ON = "capacity of {} instance(s)."
CANARY_BAKE = "Baking for 300 seconds (WaitIntervalInSeconds) with traffic enabled on canary " + ON.format(1)
FULL_BAKE = "Baking for 180 seconds (TerminationWaitInSeconds) with traffic enabled on full " + ON.format(4)


@pytest.mark.parametrize(
    ("name", "phase", "number", "new", "old", "active"),
    [
        ("canary", Phase.PROVISIONING, 1, ("Creating", "Launching 4 instance(s)."), None, 0),
        (
            "canary",
            Phase.SHIFTING,
            1,
            ("ActivatingTraffic", "Activating traffic on canary " + ON.format(1)),
            None,
            1,
        ),
        ("canary", Phase.BAKING, 1, ("Baking", CANARY_BAKE), None, 1),
        (
            "linear",
            Phase.SHIFTING,
            2,
            ("ActivatingTraffic", "Activating traffic on step " + ON.format(2)),
            None,
            2,
        ),
        ("linear", Phase.BAKING, 4, ("Baking", FULL_BAKE), None, 4),
        ("rolling", Phase.PROVISIONING, 2, ("Creating", "Launching 1 instance(s)."), None, 1),
        (
            "rolling",
            Phase.SHIFTING,
            1,
            ("ActivatingTraffic", "Activating traffic on batch " + ON.format(1)),
            None,
            1,
        ),
        ("rolling", Phase.RETIRING, 1, None, ("Deleting", "Terminating 1 instance(s)."), 1),
        ("at once", Phase.RETIRING, 1, None, ("Deleting", "Terminating 4 instance(s)."), 4),
    ],
)
def test_each_phase_is_told_in_the_words_of_aws(name, phase, number, new, old, active) -> None:
    update = Update(STRATEGIES[name]).until(phase, number)
    seen = (update.plan, update.state, ALL)
    told = rollout_status.of_new(*seen), rollout_status.of_old(*seen), rollout_status.active(*seen)
    assert told == (new, old, active)


def test_the_way_back_is_told_too() -> None:
    update = Update(rolling(1)).until(Phase.BAKING, 3)
    update.tell(Alarmed("it rang"))
    seen = (update.plan, update.state, ALL)
    assert rollout_status.of_old(*seen) == ("Creating", "Launching 2 instance(s).")
    assert (rollout_status.of_new(*seen), rollout_status.active(*seen)) == (None, 3)
    update.until(Phase.RETURNING)
    seen = (update.plan, update.state, ALL)
    assert rollout_status.of_new(*seen) == ("Deleting", "Terminating 3 instance(s).")
    assert (rollout_status.of_old(*seen), rollout_status.active(*seen)) == (None, 0)


def test_variants_move_together_each_by_its_own_instances() -> None:
    counts = {"a": 2, "b": 6}
    plan = guardrails.plan(linear(1), counts, counts)
    assert [dict(step.active) for step in plan.steps] == [
        {"a": min(2, number), "b": number} for number in range(1, 7)
    ]


def test_a_variant_that_is_gone_keeps_its_traffic_until_the_new_ones_take_all() -> None:
    plan = guardrails.plan(None, {"new": 1}, {"old": 1})
    state, _ = rollout.begin(plan, 0)
    assert rollout.traffic(state.shares, {"old": 1.0}, {"new": 3.0}) == ({"old": 1.0}, {"new": 0.0})
    state, _ = rollout.advance(plan, state, Done(), 0)
    assert rollout.traffic(state.shares, {"old": 1.0}, {"new": 3.0}) == ({"old": 0.0}, {"new": 1.0})


@pytest.mark.parametrize("config", [canary(1), linear(1), rolling(1), None])
def test_without_an_instance_there_is_nothing_to_split(config: Mapping[str, Any] | None) -> None:
    """An asynchronous endpoint that is scaled to zero changes at once, whatever its strategy."""
    plan = guardrails.plan(config, {ALL: 0}, {ALL: 0})
    assert [dict(step.active) for step in plan.steps] == [{ALL: 0}]


@pytest.mark.parametrize(
    ("config", "instances", "reason"),
    [
        (canary(1) | rolling(1), 4, "only one update policy"),
        (canary(3), 4, "CanarySize must be at most 50 %"),
        (canary(51, "CAPACITY_PERCENT"), 4, "CanarySize must be at most 50 %"),
        (canary(1), 1, "CanarySize must be at most 50 %"),
        (canary(50, "CAPACITY_PERCENT"), 1, "CanarySize must be at most 50 %"),
        (linear(9, "CAPACITY_PERCENT"), 4, "LinearStepSize must be 10 to 50 %"),
        (linear(51, "CAPACITY_PERCENT"), 4, "LinearStepSize must be 10 to 50 %"),
        (linear(3), 4, "LinearStepSize must be 10 to 50 %"),
        (rolling(4, "CAPACITY_PERCENT"), 4, "MaximumBatchSize must be 5 to 50 %"),
        (rolling(3), 4, "MaximumBatchSize must be 5 to 50 %"),
        (blue_green("CANARY"), 4, "CanarySize belongs to Type CANARY, and only to it"),
        (blue_green("LINEAR", CanarySize=size(1)), 4, "CanarySize belongs to Type CANARY, and only to it"),
    ],
)
def test_what_aws_refuses_is_refused(config, instances, reason) -> None:
    with pytest.raises(RefusedError, match=reason):
        Update(config, instances)


@pytest.mark.parametrize("config", [canary(1), rolling(1)])
def test_other_variant_names_are_refused_with_a_policy_only(config) -> None:
    with pytest.raises(RefusedError, match="the same variant names"):
        guardrails.plan(config, {"a": 2}, {"b": 2})


def test_rolling_is_refused_for_several_variants() -> None:
    with pytest.raises(RefusedError, match="multi-variant"):
        guardrails.plan(rolling(1), {"a": 2, "b": 2}, {"a": 2, "b": 2})
