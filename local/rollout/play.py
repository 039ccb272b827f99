"""Deploys, approves one version after the other, and waits: everything else happens by itself."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lambdas import registry, serving_stack
from local import registry as packages
from local.cloud import lifecycle
from local.demo import account as accounts
from local.demo import synthesis
from local.demo.progress import Progress
from local.rollout import load, models, timeline
from local.rollout.played import Setting
from local.rollout.stage import ERRORS, LATENCY, Stage
from local.rollout.timeline import Deployment, State, Timeline
from local.rollout.watch import Watch
from stacks import config as configuration
from stacks.rollout_config import shares
from tools.assembly import Assembly, context

STAGE = "sandbox"
# Who is deployed, how that is to end, and by which alarm.
GOOD, SLOW, FAILING = "good", "slow", "failing"
ALL = (GOOD, SLOW, FAILING)
STEPS = 4 + len(ALL)  # of `run`, as a person sees them
EXPECTED = {
    GOOD: (registry.IN_SERVICE, ""),
    SLOW: (registry.ROLLED_BACK, LATENCY),
    FAILING: (registry.ROLLED_BACK, ERRORS),
}
_SLOWER = 1.5  # times the alarm's threshold: far from noise
_SECONDS_TO_END = 240.0
_QUIET_SECONDS = 2.0  # before an approval and after its end: how it was, and that it stays so


class RolloutError(Exception):
    """A deployment did not end; the message says what was waited for."""


FAILURES = (
    RolloutError,
    models.ModelError,
    configuration.ConfigError,
    synthesis.SynthesisError,
    lifecycle.CloudError,
    accounts.DeploymentError,
    packages.PackageError,
)


def run(options: Namespace, work: Path, progress: Progress) -> tuple[Timeline, Setting]:
    """Play every deployment, and what to judge it by; `work` is an empty folder. Raises one of FAILURES."""
    config = configuration.load(context(STAGE))
    if options.app and not (options.app / "manifest.json").is_file():
        raise RolloutError(
            f"--app = {options.app}: holds no manifest.json. Name a folder that `cdk synth` wrote."
        )
    with progress.during("Synthesize the templates"):
        assembly = (
            Assembly(STAGE, options.app) if options.app else synthesis.synthesize(STAGE, work / "cdk.out")
        )
    with progress.during("Train two models on real flights"):
        first, second = models.trained(work / "models")
    with accounts.account(work / "cloud", options.rollback) as cloud:
        with progress.during("Deploy into the embedded cloud"):
            cloud.deploy(assembly)
        slower = _SLOWER * config.serving.alarms.latency_milliseconds / 1000
        versions = models.versions(first, second, work / "versions", slower)
        request = work / "request.json"
        request.write_bytes(packages.probe(first))
        stage = Stage.of(cloud, config.prefix)
        return play(stage, versions, ALL, request, options.rate, work, progress), setting(config)


def setting(config: configuration.Config) -> Setting:
    """What the configuration says of the canary and the latency."""
    serving = config.serving
    canary, _ = shares(serving.rollout, serving.instance_count)[0]
    return Setting(accounts.FACTOR, float(canary), serving.alarms.latency_milliseconds / 1000)


def play(
    stage: Stage,
    versions: dict[str, models.Version],
    names: Sequence[str],
    request: Path,
    rate: float,
    work: Path,
    progress: Progress,
) -> Timeline:
    """The first version in service, and then the named ones, one after the other, under load; `request` is its body."""
    with progress.during("Approve the first version, without load"):
        package = stage.register(versions["first"])
        stage.approve(package)
        _until(lambda: stage.result(package), f"the result of {package}")
    rows, played = work / "requests.jsonl", []
    with ExitStack() as ending:
        watch = ending.enter_context(Watch(stage.account, stage.endpoint, stage.alarms))
        ending.enter_context(load.running(stage.account.place, stage.endpoint, rate, request, rows))
        _until(lambda: rows.exists() and rows.stat().st_size, "the first answer")
        for name in names:
            time.sleep(_QUIET_SECONDS)
            with progress.during(f"Approve the {name} model, under {rate:g} requests a second"):
                played.append(_deploy(stage, versions[name], watch, progress))
                progress.detail(f"{played[-1].result}: {played[-1].reason}")
    with rows.open() as lines:
        requests, scheduled = timeline.requests(lines)
    return Timeline(requests, watch.states, played, scheduled)


def _deploy(stage: Stage, version: models.Version, watch: Watch, progress: Progress) -> Deployment:
    """One deployment, from the approval until the result is told and all is quiet."""
    config, repaired, before = watch.states[-1].config, stage.repairs(), _version(stage.serving())
    package = stage.register(version)
    approved = time.time()
    stage.approve(package)
    told = ""

    def last() -> State:
        """The last look; what is new in it is said."""
        nonlocal told
        told = _tell(watch.states[-1], told, progress)
        return watch.states[-1]

    def result() -> registry.Version | None:
        last()
        return stage.result(package)

    found = _until(result, f"the result of {package}")
    serving = _until(lambda: _quiet(stage, last()), f"{stage.stack} and its alarms to be quiet")
    time.sleep(_QUIET_SECONDS)
    expected, alarm = EXPECTED[version.name]
    return Deployment(
        name=version.name,
        version=found.number,
        expected=expected,
        alarm=alarm,
        approved=approved,
        ended=time.time(),
        config=config,
        result=found.result,
        reason=found.reason,
        stack=serving.status,
        repairs=stage.repairs() - repaired,
        before=before,
        after=_version(serving),
    )


def _version(serving: serving_stack.ServingStack) -> int:
    """The number of the version that the stack serves."""
    return int(serving.model_package.rsplit("/", 1)[-1])


def _quiet(stage: Stage, state: State) -> serving_stack.ServingStack | None:
    """The stack, once nothing changes any more, no alarm rings, and it believes in what the endpoint runs."""
    if state.status != "InService" or "ALARM" in state.alarms.values():
        return None
    serving = stage.serving()
    believed = serving.outputs.get(serving_stack.CONFIG_OUTPUT)
    return serving if not serving.busy and believed == state.config else None


def _tell(state: State, told: str, progress: Progress) -> str:
    """Say what is new; what was said."""
    ringing = [name for name, value in state.alarms.items() if value == "ALARM"]
    now = "; ".join(filter(None, [state.doing, *(f"alarm {name} rings" for name in ringing)]))
    if now and now != told:
        progress.detail(now)
    return now or told


def _until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < deadline:
        if it := found():
            return it
        time.sleep(0.2)
    raise RolloutError(f"{what}: waited {_SECONDS_TO_END:.0f} s.")
