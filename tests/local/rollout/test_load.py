"""The load is an open loop: it asks at its rate while nothing is answered, and writes down every answer."""

import sys
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from local.cloud import place as cloud
from local.rollout import load
from local.rollout.timeline import NO_ANSWER, requests
from tests.local.demo.test_demo import processes_that_know

AT_ONCE = 5


class Together:
    """Answers nobody before so many have asked."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped, self._met = stopped, threading.Barrier(AT_ONCE)

    def ask(self, number: int, due: float) -> dict:
        if number < AT_ONCE:
            self._met.wait(timeout=30)
        self._stopped.set()
        return {"number": number, "due": due, "done": due + 1, "error": "", "answer": "1"}


def test_it_goes_on_asking_while_nothing_is_answered_and_keeps_its_pace(tmp_path: Path) -> None:
    stopped = threading.Event()
    load.run(Together(stopped), 100, tmp_path / "rows", stopped)
    found, scheduled = requests((tmp_path / "rows").read_text().splitlines())
    assert [it.number for it in found] == list(range(scheduled))
    assert scheduled >= AT_ONCE
    assert [it.due - found[0].due for it in found] == pytest.approx(
        [it.number / 100 for it in found], abs=1e-5
    )


class Place:
    """A cloud whose runtime raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def client(self, service: str, config) -> "Place":
        self.config = config
        return self

    def invoke_endpoint(self, **_: object) -> None:
        raise self._error


def test_an_interruption_while_the_last_answers_are_awaited_ends_the_load(
    tmp_path: Path, monkeypatch
) -> None:
    """A slow model still owes answers then, and its cloud is about to end."""
    awaiting = tmp_path / "awaiting"
    awaiting.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys\n"
        "sys.stdin.read()\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "signal.pause()\n"
    )
    awaiting.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(awaiting))
    with (
        pytest.raises(KeyboardInterrupt),
        load.running(cloud.Place(tmp_path), "endpoint", 1, tmp_path / "body", tmp_path / "rows"),
    ):
        pass
    assert processes_that_know(tmp_path) == []


REFUSED = ClientError({"Error": {"Code": "ModelError", "Message": "no"}}, "InvokeEndpoint")


@pytest.mark.parametrize(
    ("error", "told"), [(REFUSED, "ModelError"), (EndpointConnectionError(endpoint_url="here"), NO_ANSWER)]
)
def test_a_request_that_fails_is_told_by_its_code_and_not_repeated(error: Exception, told: str) -> None:
    place = Place(error)
    row = load.Client(place, "endpoint", b"[]").ask(3, 1.5)
    assert (row["number"], row["due"], row["error"], row["answer"]) == (3, 1.5, told, "")
    assert place.config.retries == {"max_attempts": 0}
