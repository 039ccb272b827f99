"""What every handler test needs: a context, no real credentials, and an in-memory AWS."""

import dataclasses
from collections.abc import Iterator

import moto
import pytest

from lambdas import check_rollout, clients, release_model
from tests.lambdas.serving_world import SETTINGS, World


@dataclasses.dataclass
class Context:
    """The part of LambdaContext that Powertools reads."""

    function_name: str = "function"
    memory_limit_in_mb: int = 128
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:function"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS as moto plays it, with clients made for this test only."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    made = clients.client
    made.cache_clear()
    with moto.mock_aws():
        yield
    made.cache_clear()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Serving, its endpoint and the registry, which answer the release functions' clients."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for module in (check_rollout, release_model):
        monkeypatch.setattr(module.metrics.provider, "namespace", "flights-sandbox")
    made = World()
    monkeypatch.setattr(clients, "client", made.client)
    return made
