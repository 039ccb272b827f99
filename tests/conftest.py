"""Fixtures of every test: the app is synthesized once a stage and session, and read as JSON."""

import functools
from collections.abc import Callable

import pytest

from tests.support.synth import cached_assembly
from tools.assembly import Assembly


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    """`assembly("sandbox").template("Foundation").resources("AWS::S3::Bucket")`, synthesized when first asked for."""
    temporary = tmp_path_factory.mktemp("synth")
    return functools.cache(lambda stage: Assembly(stage, cached_assembly(stage, temporary)))


@pytest.fixture(scope="session", params=["sandbox", "production"])
def each_assembly(request: pytest.FixtureRequest, assembly: Callable[[str], Assembly]) -> Assembly:
    """The assembly of each stage in turn: for facts that hold in both."""
    return assembly(request.param)
