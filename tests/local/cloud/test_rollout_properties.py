"""Whatever happens during an update, in whatever order: all traffic goes to somebody, and somebody healthy answers.

The machine, the plan and the router's table are the embedded cloud's; servers and alarms are drawn. Commands take their
time, processes die and start again, alarms come and go.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from local.cloud import guardrails, rollout
from local.cloud.guardrails import Counts, Plan
from local.cloud.rollout import Alarmed, Command, Done, End, Failed, Phase, Route, Side, Start, State, Tick
from local.cloud.sagemaker import router
from tests.local.cloud.test_rollout_machine import (
    ALL,
    AT_ONCE,
    TIMEOUT,
    WAIT,
    canary,
    linear,
    rolling,
    size,
)

Weights = Mapping[str, float]
Update = tuple[Plan, Weights, Weights]
FORWARD = {Phase.PROVISIONING, Phase.SHIFTING, Phase.BAKING}


class Servers:
    """A fleet as the router sees it: for each instance whether it is healthy."""

    def __init__(self, name: str, weight: float) -> None:
        self.variant, self.weight = SimpleNamespace(name=name), weight
        self.healthy: list[bool] = []
        self.active: int | None = None

    @property
    def capacity(self) -> int:
        return len(self.healthy)

    def scale(self, count: int) -> None:
        self.healthy = self.healthy[:count] + [True] * (count - self.capacity)

    @property
    def answers(self) -> bool:
        """Whether any of those that may have traffic is healthy."""
        return any(self.healthy[: self.active])

    def take(self, _tried: object, _below: float) -> bool:
        return self.answers


def weights(names: list[str]) -> st.SearchStrategy[Weights]:
    given = st.fixed_dictionaries(dict.fromkeys(names, st.sampled_from([0.0, 0.1, 1.0, 3.0])))
    return given.filter(lambda it: any(it.values()))


@st.composite
def updates(draw: st.DrawFn) -> Update:
    """An update that fits one or two variants, and the old fleet's and the new fleet's weights.

    The old fleet has the instances that autoscaling may have chosen.
    """
    kind = draw(st.sampled_from(["rolling", "linear", "canary", "at once", "none"]))
    names = [ALL] if kind == "rolling" else draw(st.sampled_from([[ALL], ["a", "b"]]))
    wanted = {name: draw(st.integers(2, 12)) for name in names}
    running = {name: draw(st.integers(1, 12)) for name in names}
    least = {"linear": 10, "rolling": 5}.get(kind, 1)
    counted = st.integers(-(-max(wanted.values()) * least // 100), min(wanted.values()) // 2).map(size)
    percent = st.integers(max(least, -(-100 // min(wanted.values()))), 50)
    percents = percent.map(lambda it: size(it, "CAPACITY_PERCENT"))
    fits = (
        percents
        if -(-max(wanted.values()) * least // 100) > min(wanted.values()) // 2
        else counted | percents
    )
    config: Mapping[str, Any] | None = {"at once": AT_ONCE}.get(kind)
    if kind in {"rolling", "linear", "canary"}:
        chosen = draw(fits)
        made: Callable[..., dict[str, Any]] = {"rolling": rolling, "linear": linear, "canary": canary}[kind]
        back = {"back": draw(st.none() | fits)} if kind == "rolling" else {}
        config = made(chosen["Value"], chosen["Type"], **back)
    old = draw(weights(names))
    return guardrails.plan(config, wanted, running), old, draw(st.just(old) | weights(names))


class Updating(RuleBasedStateMachine):
    """`routing` is who has traffic, `work` what is under way; of each fleet one process at least lives.

    But for the `dead`: a fleet dies as a whole while the other one answers. A new one that is `broken` stays dead.
    """

    plan: Plan
    state: State
    work: tuple[Command, ...] = ()

    @initialize(update=updates(), restores=st.sampled_from([0, 1, 99]), bakes=st.integers(0, 3))
    def begin(self, update: Update, restores: int, bakes: int) -> None:
        """It goes well up to the bake of that number. Of the old fleet, as many batches as `restores` start again."""
        self.restores = restores
        self.plan, old, new = update
        self.same_weights = old == new
        self.fleets: dict[Side, list[Servers]] = {
            side: [Servers(name, weight) for name, weight in given.items()]
            for side, given in (("old", old), ("new", new))
        }
        self.scale("old", self.plan.old)
        self.routing = self.table(self.fleets["old"])
        self.now, self.broken, self.alarm, self.rang, self.seen = 0.0, False, "OK", False, False
        self.dead: set[Side] = set()
        self.enter(rollout.begin(self.plan, self.now))
        for number in range(min(bakes, len(self.plan.steps))):
            if number:
                self.time_passes(WAIT)
            while self.state.phase is not Phase.BAKING:
                self.work_is_done()

    def scale(self, side: Side, counts: Counts) -> None:
        for fleet in self.fleets[side]:
            fleet.scale(counts[fleet.variant.name])

    @staticmethod
    def table(*given: Any) -> router.Routing:
        return router.routing(*given)

    def enter(self, move: rollout.Move) -> None:
        """Traffic moves at once, and before anything of the same move ends; `deployment` carries out the rest, too."""
        self.state, commands = move
        for command in commands:
            if isinstance(command, Route):
                for fleet in self.fleets["new"]:
                    name = fleet.variant.name
                    forward = self.state.phase is Phase.SHIFTING
                    fleet.active = int(command.shares[name] * self.plan.new[name]) if forward else None
                self.routing = self.table(self.fleets["old"], self.fleets["new"], command.shares)
        self.work = tuple(command for command in commands if isinstance(command, Start | End))
        if self.state.phase.over:
            kept: dict[Phase, list[Side]] = {Phase.DONE: ["new"], Phase.ROLLED_BACK: ["old"]}
            self.routing = self.table(
                [fleet for side in kept.get(self.state.phase, ["old", "new"]) for fleet in self.fleets[side]]
            )

    def tell(self, event: rollout.Event) -> None:
        before = self.state
        move = rollout.advance(self.plan, before, event, self.now)
        if move[0] == before:
            assert not move[1]
            return
        self.enter(move)
        assert self.state.phase not in FORWARD or before.phase in FORWARD | {Phase.RETIRING}
        assert not (self.seen and self.state.phase in FORWARD | {Phase.RETIRING, Phase.DONE})

    def look(self) -> rollout.Event | None:
        """What a look at the alarms and at the new fleet shows, the alarm first."""
        rang, self.rang = self.rang or self.alarm == "ALARM", False
        if rang:
            self.seen = True
            return Alarmed("it rang")
        return Failed("lost") if self.broken else None

    @rule(times=st.integers(1, 4))
    def it_goes_well_for_a_while(self, times: int) -> None:
        for _ in range(times):
            self.work_is_done()
            self.time_passes(WAIT)

    @rule()
    def work_is_done(self) -> None:
        """All of what is under way; a new fleet that is broken does not start."""
        phase, event = self.state.phase, None
        if phase is Phase.BAKING or phase.over:
            return
        if phase is Phase.RESTORING:
            self.restores -= 1
            if self.restores < 0:
                self.tell(Failed("no capacity"))
                return
        for command in self.work:
            if isinstance(command, Start | End):
                self.scale(command.side, command.counts)
        if phase is Phase.PROVISIONING:
            event = self.look()
        self.tell(event or Done())

    @rule(seconds=st.sampled_from([0, 10, WAIT, WAIT, WAIT, TIMEOUT]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.tell((self.look() if self.state.phase is Phase.BAKING else None) or Tick())

    @rule(side=st.sampled_from(["old", "new"]), place=st.integers(0, 11))
    def a_process_dies(self, side: Side, place: int) -> None:
        for fleet in self.fleets[side]:
            place %= max(1, fleet.capacity)
            if any(fleet.healthy[:place] + fleet.healthy[place + 1 :]):
                fleet.healthy[place] = False

    @rule(side=st.sampled_from(["old", "new"]))
    def a_fleet_dies_while_the_other_answers(self, side: Side) -> None:
        other: Side = "new" if side == "old" else "old"
        asked = [fleets for name in self.plan.old for fleets in self.asked(name)]
        if all(fleet.answers and any(fleet in it for it in asked) for fleet in self.fleets[other]):
            self.dead.add(side)
            for fleet in self.fleets[side]:
                fleet.healthy = [False] * fleet.capacity

    @rule()
    def what_died_is_started_again(self) -> None:
        self.dead = {"new"} if self.broken else set()
        for side, fleets in self.fleets.items():
            for fleet in fleets:
                fleet.healthy = [side not in self.dead] * fleet.capacity

    @rule(dice=st.integers(1, 6))
    def the_new_fleet_breaks(self, dice: int) -> None:
        if dice == 6 and self.state.phase in FORWARD:
            self.broken = True
            self.what_died_is_started_again()

    @rule(dice=st.integers(1, 6))
    def the_alarm_goes_off(self, dice: int) -> None:
        if dice == 6:
            self.rang, self.alarm = True, "ALARM"

    @rule(state=st.sampled_from(["OK", "INSUFFICIENT_DATA"]))
    def the_alarm_calms_down(self, state: str) -> None:
        self.alarm = state

    @invariant()
    def holds(self) -> None:
        self.all_traffic_goes_somewhere_and_each_variant_s_to_its_own()
        self.the_new_fleet_has_the_share_of_its_active_instances()
        self.who_has_traffic_has_instances()
        self.somebody_healthy_answers_and_a_fleet_without_a_share_only_if_nobody_else_can()
        self.what_stays_when_an_end_is_carried_out_still_serves()
        self.the_old_fleet_is_whole_until_the_last_bake_of_blue_green_is_clean()

    def all_traffic_goes_somewhere_and_each_variant_s_to_its_own(self) -> None:
        parts: dict[str, tuple[float, float]] = {}
        for share in self.routing:
            assert share.weight >= 0
            assert share.of_variant > 0
            weight, of_variant = parts.get(share.fleet.variant.name, (0.0, 0.0))
            parts[share.fleet.variant.name] = (weight + share.weight, of_variant + share.of_variant)
        assert sum(weight for weight, _ in parts.values()) == pytest.approx(1, abs=1e-9)
        assert parts.keys() == self.plan.old.keys()
        for name, (weight, of_variant) in parts.items():
            assert of_variant == pytest.approx(1, abs=1e-9)
            if self.same_weights and self.state.phase is not Phase.STUCK:
                given = {fleet.variant.name: fleet.weight for fleet in self.fleets["old"]}
                assert weight == pytest.approx(given[name] / sum(given.values()), abs=1e-9)

    def the_new_fleet_has_the_share_of_its_active_instances(self) -> None:
        if self.state.phase in {Phase.SHIFTING, Phase.BAKING}:
            shares = {share.fleet.variant.name: share for share in self.routing if self.is_new(share.fleet)}
            for name, share in shares.items():
                assert share.of_variant == pytest.approx(share.fleet.active / self.plan.new[name])
            assert shares

    def who_has_traffic_has_instances(self) -> None:
        for share in self.routing:
            assert share.fleet.capacity

    def somebody_healthy_answers_and_a_fleet_without_a_share_only_if_nobody_else_can(self) -> None:
        for variant in (None, *self.plan.old):
            first, last = ([fleet for fleet in fleets if fleet.answers] for fleets in self.asked(variant))
            assert first or last or self.dead
            if first or last:
                fleet, _ = router.choose(self.routing, variant, None)  # NobodyError fails the test
                assert any(fleet is it for it in first or last)

    def asked(self, variant: str | None) -> tuple[list[Servers], list[Servers]]:
        """Who has a share of a request's traffic, and who is asked if all of these are dead: what a full shift left.

        A request that names a variant does not look at the weights.
        """
        first, last = [], []
        olds = {fleet.variant.name: fleet for fleet in self.fleets["old"]}
        for new in self.fleets["new"]:
            old, share = olds[new.variant.name], self.state.shares[new.variant.name]
            # After a rollback that failed, two fleets are one variant: they have one weight.
            weight = (new if self.state.phase is Phase.STUCK else old).weight
            if variant not in {None, new.variant.name}:
                continue
            if share < 1 and (variant or weight):
                first.append(old)
            if share > 0 and (variant or new.weight):
                first.append(new)
                last += [old] if share == 1 else []
        return first, last

    def what_stays_when_an_end_is_carried_out_still_serves(self) -> None:
        serving = {id(share.fleet) for share in self.routing}
        for command in self.work:
            if isinstance(command, End):
                for fleet in self.fleets[command.side]:
                    assert command.counts[fleet.variant.name] or id(fleet) not in serving

    def the_old_fleet_is_whole_until_the_last_bake_of_blue_green_is_clean(self) -> None:
        if self.plan.kind != "ROLLING" and self.state.phase not in {Phase.RETIRING, Phase.DONE}:
            assert {fleet.variant.name: fleet.capacity for fleet in self.fleets["old"]} == self.plan.old

    def is_new(self, fleet: object) -> bool:
        return any(fleet is it for it in self.fleets["new"])

    def teardown(self) -> None:
        """Left alone, it ends: with one fleet, or with both if the old one could not be restored."""
        for _ in range(200):
            if self.state.phase.over:
                break
            self.time_passes(WAIT)
            self.holds()
            self.work_is_done()
            self.holds()
        assert self.state.phase.over
        assert (self.state.phase is Phase.DONE) == (self.state.reason == "")
        assert not (self.state.phase is Phase.DONE and (self.seen or self.broken))
        nothing = dict.fromkeys(self.plan.old, 0)
        expected = {Phase.DONE: (nothing, self.plan.new), Phase.ROLLED_BACK: (self.plan.old, nothing)}
        running = [{it.variant.name: it.capacity for it in self.fleets[side]} for side in ("old", "new")]
        assert self.state.phase is Phase.STUCK or tuple(running) == expected[self.state.phase]


TestUpdating = Updating.TestCase
TestUpdating.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    stateful_step_count=25,
)
