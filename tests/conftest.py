"""Fixtures of every test: the app is synthesized once a stage and session, and read as JSON."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.synth import cached_assembly
from tools.assembly import Assembly, SynthError


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    """`assembly("sandbox").template("Foundation").resources("AWS::S3::Bucket")`, synthesized when first asked for."""
    temporary = tmp_path_factory.mktemp("synth")

    @functools.cache
    def synthesized(stage: str) -> Path | SynthError:
        try:
            return cached_assembly(stage, temporary)
        except SynthError as error:  # remembered: every test says so, and only the first one waits for it
            return error

    @functools.cache
    def get(stage: str) -> Assembly:
        result = synthesized(stage)
        if isinstance(result, SynthError):
            raise result
        return Assembly(stage, result)

    return get


@pytest.fixture(scope="session", params=["sandbox", "production"])
def each_assembly(request: pytest.FixtureRequest, assembly: Callable[[str], Assembly]) -> Assembly:
    """The assembly of each stage in turn: for facts that hold in both."""
    return assembly(request.param)
