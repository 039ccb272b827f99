"""Whoever keeps a server learns from its ping what to do with it."""

import json
from pathlib import Path

import pytest

from local import endpoint
from tests.local.test_server import PROGRAM


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory whose request [0] is never answered."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(PROGRAM)
    (tmp_path / "factor.json").write_text(json.dumps({"factor": 2, "gate": str(tmp_path / "gate")}))
    return tmp_path


def test_a_server_goes_on_after_a_prediction_that_was_never_answered_and_says_when_its_model_fails(
    model: Path,
) -> None:
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}
    with endpoint.start(model, environment=environment) as served:
        with pytest.raises(endpoint.EndpointError, match=r"500: .*cannot predict -1"):
            served.invoke(b"[-1]", content_type="application/json", accept="application/json")
        with pytest.raises(endpoint.EndpointError, match="cannot predict -1"):
            served.ping()
        with pytest.raises(endpoint.EndpointError, match=r"503: .*no answer within 1 s"):
            served.invoke(b"[0]", content_type="application/json", accept="application/json")
        assert served.invoke(b"[1]", content_type="application/json", accept="application/json")
        served.ping()
