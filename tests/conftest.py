"""Fixtures of every test: the app is synthesized once a stage and session, and read as JSON."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import botocore.session
import pytest
from filelock import FileLock
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.synth import cached_assembly
from tools.assembly import Assembly, SynthError

# What shares a Spark session, or takes longest: started first, so that no worker is left with it at the end.
LONGEST = ("tests/pipeline/spark/", "tests/local/demo/", "tests/local/rollout/")
# What shares the deployed sandbox of tests/local/cloud; the other files there begin in an empty cloud, on any worker.
DEPLOYED = "tests/local/cloud, deployed"
_DEPLOYED = (
    *("deploy", "deployed_approvals", "deployed_stream", "glue_workflow", "pipeline_clients"),
    *("properties", "removed_permissions", "rollout_endings", "sagemaker_release"),
)


def pytest_configure() -> None:
    """One loader of AWS's service models for all sessions: each would parse the same megabytes of JSON again."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: _together(item.nodeid) not in (DEPLOYED, *LONGEST))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Tests of one file (of one folder, where they share a session) run on one worker."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _together  # made to be overridden
    return scheduler


def _together(test: str) -> str:
    file = test.split("::", maxsplit=1)[0]
    if file in {f"tests/local/cloud/test_{name}.py" for name in _DEPLOYED}:
        return DEPLOYED
    return next((folder for folder in LONGEST if file.startswith(folder)), file)


Assemblies = Callable[[str], Assembly]


def _synthesized(folders: pytest.TempPathFactory, *, complete: bool) -> Assemblies:
    base = folders.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers of this run

    @functools.cache
    def synthesized(stage: str) -> Path | SynthError:
        try:
            with FileLock(shared / f"{stage}{'-complete' if complete else ''}.lock"):
                return cached_assembly(stage, shared / "synth", complete=complete)
        except SynthError as error:  # remembered: every test says so, and only the first one waits for it
            return error

    @functools.cache
    def get(stage: str) -> Assembly:
        result = synthesized(stage)
        if isinstance(result, SynthError):
            raise result
        return Assembly(stage, result)

    return get


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assemblies:
    """`assembly("sandbox").template("Foundation").resources("AWS::S3::Bucket")`, synthesized when first asked for."""
    return _synthesized(tmp_path_factory, complete=False)


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Assemblies:
    """The same with the stack of every option that goes with the stage, as if `options` listed them all."""
    return _synthesized(tmp_path_factory, complete=True)


@pytest.fixture(scope="session", params=["sandbox", "production"])
def each_assembly(request: pytest.FixtureRequest, assembly: Assemblies) -> Assembly:
    """The assembly of each stage in turn: for facts that hold in both."""
    return assembly(request.param)


@pytest.fixture(scope="session", params=["sandbox", "production"])
def each_complete(request: pytest.FixtureRequest, complete: Assemblies) -> Assembly:
    """The assembly of each stage in turn, with its options."""
    return complete(request.param)


@pytest.fixture(
    scope="session",
    params=["sandbox", "production", "sandbox with options", "production with options"],
)
def every_assembly(request: pytest.FixtureRequest, assembly: Assemblies, complete: Assemblies) -> Assembly:
    """Each stage as `cdk.json` has it, and with its options: for checks that everything must pass."""
    stage, *options = request.param.split()
    return (complete if options else assembly)(stage)
