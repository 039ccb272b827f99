"""An update of an endpoint as it happens: fleets start, traffic moves, alarms are read, and what is left ends.

`rollout` decides, this carries out: a thread an update. Waits are the API's seconds at the cloud's speed; servers start
and end as fast as they do.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent import futures

from local.cloud import alarms, background, clock, roles, rollout
from local.cloud.guardrails import Counts, Plan
from local.cloud.rollout import Alarmed, Command, Done, End, Event, Failed, Phase, Route, Start, State, Tick
from local.cloud.sagemaker import router, store
from local.cloud.sagemaker.asynchronous_queue import Queue
from local.cloud.sagemaker.fleet import Fleet, FleetError
from local.cloud.sagemaker.provision import FAILED

POLL_SECONDS = 10.0  # of AWS, between two looks at the alarms; it does not say how often it looks


class Service:
    """What answers for one endpoint: its fleets, how its traffic is shared, and the update under way.

    `queue` is that of an asynchronous endpoint.
    """

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        self.fleets = list(fleets)
        self.routing = router.routing(self.fleets)
        self.deployment: Deployment | None = None
        self.queue: Queue | None = None

    @property
    def running(self) -> dict[str, int]:
        """How many instances of each variant run."""
        counts: dict[str, int] = {}
        for fleet in self.fleets:
            counts[fleet.variant.name] = counts.get(fleet.variant.name, 0) + fleet.capacity
        return counts

    @property
    def shadows(self) -> list[Fleet]:
        """The shadow variant's fleets."""
        return [fleet.mirror.fleet for fleet in self.fleets if fleet.mirror]

    def rebalance(self) -> None:
        """Share the traffic by the weights that the fleets have now."""
        self.routing = router.routing(self.fleets)


class Deployment:
    """One update of a service. `make` makes the new fleets, without instances; `changed` hears of each new state."""

    def __init__(
        self,
        service: Service,
        plan: Plan,
        *,
        make: Callable[[], Sequence[Fleet]],
        changed: Callable[[], None],
        stopped: threading.Event,
    ) -> None:
        self.plan = plan
        self.started = self.since = store.now()
        self.state, self._commands = rollout.begin(plan, _now())
        self.fleets: Sequence[Fleet] = ()
        self._service, self._make, self._changed, self._stopped = service, make, changed, stopped
        self._work: futures.Future[None] = _ready()
        self._looked = time.time()

    def run(self) -> State | None:
        """Carry the update out to its end, which is its last state; None if the cloud ends before."""
        while not self._stopped.is_set():
            for command in self._commands:
                self._carry_out(command)
            if self.state.phase.over:
                self._settle()
                return self.state
            self._changed()
            self._commands = self._move()
        return None

    def _move(self) -> tuple[Command, ...]:
        """Wait until something changes the state; what is to do then."""
        while not self._stopped.is_set():
            state, commands = rollout.advance(self.plan, self.state, self._event(), _now())
            if state is not self.state:
                self.since, self.state = store.now(), state
                return commands
        return ()

    def _event(self) -> Event:
        poll = max(0.1, clock.scaled(POLL_SECONDS))
        if self.state.phase is Phase.SHIFTING:
            return Done()
        if self.state.phase is Phase.BAKING:
            left = self.plan.steps[self.state.step].bake - (_now() - self.state.since)
            self._stopped.wait(max(0.0, min(poll, clock.scaled(left))))
            return self._alarm() or self._loss() or Tick()
        if not futures.wait([self._work], poll).done:
            return Tick()
        try:
            self._work.result()
        except FleetError as error:
            return Failed(str(error))
        except Exception:  # noqa: BLE001 - as the API answers what it cannot explain
            traceback.print_exc()
            return Failed(FAILED)
        return (self._alarm() if self.state.phase is Phase.PROVISIONING else None) or Done()

    def _alarm(self) -> Alarmed | None:
        """What the alarms say, read as the new model's role; one that went off and came back since the last look counts.

        AWS does not say what an alarm does that cannot be read: here it is the safe reading, back.
        """
        since, self._looked = self._looked, time.time()
        rang = []
        for name in self.plan.alarms:
            try:
                self.fleets[0].session.authorize("cloudwatch:DescribeAlarms", alarms.arn(name))
            except roles.AccessDeniedError as denied:
                return Alarmed(str(denied))
            if alarms.state(name) is None:
                return Alarmed(f"Rollback alarm {name} does not exist any more.")
            if alarms.rang(name, since):
                rang.append(name)
        if not rang:
            return None
        return Alarmed(f"Rollback alarm {' and '.join(rang)} went off: the endpoint was rolled back.")

    def _loss(self) -> Failed | None:
        """An instance that ended is started again; one that cannot be is no instance to go on with."""
        for fleet in self.fleets:
            if fleet.lost:
                return Failed(
                    f"An instance of production variant {fleet.variant.name} ended and cannot be started again."
                )
        return None

    def _carry_out(self, command: Command) -> None:
        match command:
            case Route(shares):
                for fleet in self.fleets:
                    name = fleet.variant.name
                    forward = self.state.phase is Phase.SHIFTING
                    fleet.activate(int(shares[name] * self.plan.new[name]) if forward else None)
                self._service.routing = router.routing(self._service.fleets, self.fleets, shares)
            case Start(side, counts):
                self._work = _begin(functools.partial(self._start, side, counts))
            case End(side, counts):
                self._work = _begin(functools.partial(self._end, side, counts, self._work))

    def _start(self, side: rollout.Side, counts: Counts) -> None:
        if side == "new" and not self.fleets:
            self.fleets = self._make()
        _scale(self._side(side), counts)

    def _end(self, side: rollout.Side, counts: Counts, before: futures.Future[None]) -> None:
        with contextlib.suppress(Exception):
            before.result()  # what still starts is ended, too
        _scale(self._side(side), counts)

    def _side(self, side: rollout.Side) -> Sequence[Fleet]:
        return self.fleets if side == "new" else self._service.fleets

    def _settle(self) -> None:
        """Keep what serves, end the rest."""
        old, new = self._service.fleets, list(self.fleets)
        kept, gone = {
            Phase.DONE: (new, old),
            Phase.ROLLED_BACK: (old, new),
            Phase.STUCK: (old + new, []),
        }[self.state.phase]
        for fleet in kept:
            fleet.activate(None)
        self._service.fleets = kept
        self._service.rebalance()
        for fleet in gone:
            fleet.close()


def _scale(fleets: Sequence[Fleet], counts: Counts) -> None:
    """Let so many instances of each variant run; of two fleets of a variant the first one grows, the last one shrinks."""
    for name, count in counts.items():
        left, wanted = count, {}
        for fleet in [fleet for fleet in fleets if fleet.variant.name == name]:
            wanted[fleet] = min(fleet.capacity, left)
            left -= wanted[fleet]
        for place, (fleet, kept) in enumerate(wanted.items()):
            fleet.scale(kept if place else kept + left)


def _now() -> float:
    """Seconds of AWS."""
    return time.monotonic() / clock.scaled(1)


def _ready() -> futures.Future[None]:
    done: futures.Future[None] = futures.Future()
    done.set_result(None)
    return done


def _begin(work: Callable[[], None]) -> futures.Future[None]:
    """Run in the background."""
    result: futures.Future[None] = futures.Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            result.set_exception(error)
        else:
            result.set_result(None)

    background.start(run, name="deployment")
    return result
