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


def test_what_a_model_prints_is_heard_and_never_stops_its_server(model: Path) -> None:
    printing = PROGRAM.replace("(data, model):", "(data, model):\n    print('x' * 200_000)")
    (model / "code" / "inference.py").write_text(f"print('being loaded')\n{printing}")
    heard: list[str] = []
    with endpoint.start(model, environment={}, seconds=20, on_line=heard.append) as served:
        for _ in range(3):
            served.invoke(b"[1]", content_type="application/json", accept="application/json")
    assert [line[:12] for line in heard] == ["being loaded", *["x" * 12] * 3]


def test_a_server_that_does_not_start_says_why(model: Path) -> None:
    (model / "code" / "inference.py").write_text("print('it tried')\nraise ValueError('no such thing')")
    with pytest.raises(endpoint.EndpointError, match=r"(?s)did not start .*no such thing"):
        endpoint.start(model, environment={}).__enter__()
