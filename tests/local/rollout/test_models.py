"""The bad versions load and pass their ping; what is wrong with them shows when they are asked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import endpoint, registry
from local.rollout import models
from pipeline import archive
from tests.pipeline.conftest import run_train


@pytest.fixture(scope="module")
def model(prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_train(prepared, tmp_path_factory.mktemp("model") / "model", "xgboost", "--num_round=5")


@pytest.fixture(scope="module")
def versions(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, models.Version]:
    return models.versions(model, model, tmp_path_factory.mktemp("made") / "versions", 0.05)


@contextlib.contextmanager
def served(version: models.Version, folder: Path) -> Iterator[endpoint.Endpoint]:
    archive.unpack(version.archive, folder)
    with endpoint.start(folder, environment=version.environment) as running:
        yield running


def ask(running: endpoint.Endpoint, model: Path) -> bytes:
    return running.invoke(registry.probe(model), content_type="application/json", accept="application/json")


def test_the_slow_version_passes_its_ping_and_answers_what_the_model_answers(
    versions: dict[str, models.Version], model: Path, tmp_path: Path
) -> None:
    with (
        served(versions["slow"], tmp_path / "slow") as slow,
        served(versions["first"], tmp_path / "first") as first,
    ):
        slow.ping()
        assert ask(slow, model) == ask(first, model)
    assert (tmp_path / "slow" / "code" / "slow.py").read_text().count("time.sleep(0.05)") == 1


def test_the_failing_version_passes_its_ping_and_fails_each_request(
    versions: dict[str, models.Version], model: Path, tmp_path: Path
) -> None:
    with served(versions["failing"], tmp_path) as failing:
        failing.ping()
        with pytest.raises(endpoint.EndpointError, match=r"500.*a fault in the model"):
            ask(failing, model)


def test_a_step_that_fails_is_named_with_what_it_printed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "FLIGHTS", -1)
    with pytest.raises(models.ModelError, match=r"^tools\.replay failed:\n"):
        models.trained(tmp_path)
