"""The cloud starts, says what is wrong, and leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from local.cloud import lifecycle
from local.cloud.place import Place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_answers_its_clients(client) -> None:
    assert client("sts").get_caller_identity()["Account"] == "000000000000"


@pytest.mark.parametrize(
    ("command", "answered"),
    [("sqs list-queues", "QueueUrls"), ("rds describe-db-instances", "DBInstances")],
)
def test_the_aws_cli_asks_the_cloud_also_where_it_has_an_endpoint_of_its_own(
    cloud: Place, command: str, answered: str
) -> None:
    done = subprocess.run(
        [
            "env",
            "aws",
            *command.split(),
            "--output",
            "json",
        ],  # as in `make shell`, PATH decides which one runs
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert answered in json.loads(done.stdout)


def test_a_second_start_says_what_runs(cloud: Place) -> None:
    running = lifecycle.process(cloud)
    with pytest.raises(lifecycle.CloudError, match=f"process {running}.*make cloud-down"):
        lifecycle.start(cloud)
    assert lifecycle.process(cloud) == running


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = Place(tmp_path, taken.getsockname()[1])
        with pytest.raises(lifecycle.CloudError, match=rf"127\.0\.0\.1:{place.port} is in use"):
            lifecycle.start(place)
    assert lifecycle.process(place) is None


def test_a_stopped_cloud_ends_by_itself(tmp_path: Path) -> None:
    place = Place(tmp_path, free_port())
    server = lifecycle.start(place)
    idle = place.client("sts")  # its connection stays open, and it reads nothing more
    idle.get_caller_identity()
    assert lifecycle.stop(place)
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 0  # it was not killed while it ended
    assert "Traceback" not in place.log.read_text()


def test_a_killed_cloud_starts_again_empty(tmp_path: Path) -> None:
    place = Place(tmp_path, free_port())
    killed = lifecycle.start(place)
    (place.folder / "s3" / "left").write_text("x")
    os.killpg(killed, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while lifecycle.process(place) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    with lifecycle.running(place):
        assert not (place.folder / "s3" / "left").exists()
    assert lifecycle.process(place) is None
    assert not lifecycle.stop(place)
