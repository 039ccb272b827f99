"""The cloud starts, says what is wrong, and leaves nothing."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.cloud import lifecycle
from local.cloud.place import ROOT, Place


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


def command(*arguments: object) -> str:
    """What `python -m local.cloud` printed, on both streams, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "local.cloud", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.returncode}"


def test_whoever_names_the_folder_finds_port_and_factor(tmp_path: Path) -> None:
    with lifecycle.running(Place.on_free_port(tmp_path, 30)) as place:
        assert lifecycle.found(tmp_path) == place
        assert f"export AWS_ENDPOINT_URL={place.url}\n" in command("env", "--folder", tmp_path)
        assert f"runs already: process {lifecycle.process(place)}, {place.url}." in command(
            "up", "--folder", tmp_path, "--port", Place.on_free_port(tmp_path).port
        )
    assert command("env", "--folder", tmp_path) == "No cloud runs here. Start one: make cloud\n1"


@pytest.mark.parametrize("settings", ["", "[]", '{"port": 1, "colour": 2}', None])
def test_settings_that_nobody_can_read_are_one_line(tmp_path: Path, settings: str | None) -> None:
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    with Place(tmp_path).pid_file.open("w") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        print(os.getpid(), file=running, flush=True)
        with pytest.raises(lifecycle.CloudError, match=r"settings\.json .*make cloud-down, then make cloud"):
            lifecycle.found(tmp_path)


def test_of_two_that_start_in_one_folder_one_runs_and_the_other_names_it(tmp_path: Path) -> None:
    ports = [Place.on_free_port(tmp_path).port for _ in range(2)]
    started = [start(tmp_path, port) for port in ports]
    said = [it.communicate()[0] for it in started]
    try:
        (winner,) = (port for port, it in zip(ports, started, strict=True) if it.returncode == 0)
        process = lifecycle.process(Place(tmp_path))
        (loser,) = (text for text, it in zip(said, started, strict=True) if it.returncode == 1)
        assert loser == (
            f"The cloud runs already: process {process}, https://127.0.0.1:{winner}. Stop it: make cloud-down.\n"
        )
        assert lifecycle.found(tmp_path).port == winner
        assert lifecycle.ready(lifecycle.found(tmp_path))
    finally:
        lifecycle.stop(Place(tmp_path))


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    """`make cloud`, in a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "local.cloud", "up", "--folder", str(folder), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def makes_its_certificate(folder: Path) -> bool:
    listed = subprocess.run(["ps", "-axwwo", "args="], capture_output=True, text=True, check=True).stdout
    return any("certificate.make" in line and str(folder) in line for line in listed.splitlines())


def waits_for_its_server(folder: Path) -> bool:
    return Place(folder).pid_file.exists()


@pytest.mark.parametrize("moment", [makes_its_certificate, waits_for_its_server])
def test_a_start_that_is_interrupted_says_so_and_leaves_nothing(
    tmp_path: Path, moment: Callable[[Path], bool]
) -> None:
    starting = start(tmp_path, Place.on_free_port(tmp_path).port)
    while not moment(tmp_path) and starting.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)  # Python tells of an interrupt once it has begun
    os.killpg(starting.pid, signal.SIGINT)  # as a terminal does: all that it started in the foreground
    assert starting.communicate()[0] == "Interrupted.\n"
    assert starting.returncode == 128 + signal.SIGINT
    assert lifecycle.process(Place(tmp_path)) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", 99999], "--port 99999: from 1 to 65535."),
        (["--port", 0], "--port 0: from 1 to 65535."),
        (["--factor", 0], "--factor 0.0: more than 0, at most 120."),
        (["--factor", "nan"], "--factor nan: more than 0, at most 120."),
        (["--factor", 121], "--factor 121.0: more than 0, at most 120."),
        (["--folder", "/dev/null/x"], "/dev/null/x"),
        (["--folder", "/dev/null"], "/dev/null"),
    ],
    ids=lambda argument: " ".join(map(str, argument)) if isinstance(argument, list) else "",
)
def test_what_cannot_start_is_one_line(tmp_path: Path, arguments: list[object], says: str) -> None:
    try:
        message, _, code = command(
            "up", "--folder", tmp_path, "--port", Place.on_free_port(tmp_path).port, *arguments
        ).partition("\n")
        assert says in message
        assert code == "1"
    finally:
        assert not lifecycle.stop(Place(tmp_path))


def test_a_folder_with_files_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "home" / "letter"
    theirs.parent.mkdir()
    theirs.write_text("x")
    with (
        pytest.raises(lifecycle.CloudError, match="is neither empty nor a cloud's"),
        lifecycle.running(Place.on_free_port(tmp_path)),
    ):
        pass
    assert theirs.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_of_it_listens_beyond_this_machine(cloud: Place) -> None:
    server = Path(f"/proc/{lifecycle.process(cloud)}")
    # A connection may end meanwhile: ls lists what is left.
    files = subprocess.run(["ls", "-l", server / "fd"], stdout=subprocess.PIPE, text=True, check=False).stdout
    listening = [
        fields[1]
        for table in ("tcp", "tcp6", "udp", "udp6")
        for fields in map(str.split, (server / "net" / table).read_text().splitlines()[1:])
        if f"socket:[{fields[9]}]" in files and fields[3] in ("0A", "07")  # listens, or is open to datagrams
    ]
    assert listening == [f"0100007F:{cloud.port:04X}"]  # 127.0.0.1, and neither ::1 nor all


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = Place(tmp_path, taken.getsockname()[1])
        with pytest.raises(lifecycle.CloudError, match=rf"127\.0\.0\.1:{place.port}: Address already in use"):
            lifecycle.start(place)
    assert lifecycle.process(place) is None


def test_a_stopped_cloud_ends_by_itself(tmp_path: Path) -> None:
    place = Place.on_free_port(tmp_path)
    server = lifecycle.start(place)
    idle = place.client("sts")  # its connection stays open, and it reads nothing more
    idle.get_caller_identity()
    assert lifecycle.stop(place)
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 0  # it was not killed while it ended
    assert "Traceback" not in place.log.read_text()


def test_a_killed_cloud_starts_again_empty(tmp_path: Path) -> None:
    place = Place.on_free_port(tmp_path)
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


# A server with a process of its own, which neither asks for anything; the server may be deaf to a polite end.
SERVER = """
import fcntl, os, signal, subprocess, sys
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, str(os.getpid()).encode())
child = subprocess.Popen(["sleep", "60"])
print(flush=True)
child.wait()
"""


@pytest.mark.parametrize("manner", ["polite", "deaf"])
def test_what_a_server_started_ends_with_it(
    tmp_path: Path, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SECONDS_TO_STOP", 0.2)
    place = Place(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, place.pid_file, manner], stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdout
        server.stdout.readline()
        assert lifecycle.stop(place)
        server.communicate(timeout=10)  # it and its process had the same output: both are gone
