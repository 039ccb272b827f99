"""A forked worker answers what it is asked, keeps the server waiting for nothing, and never outlives it."""

import errno
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from local.serving.events import Events
from local.serving.forks import Forks, descriptors
from local.serving.messages import BODY_LIMIT, JSON, Answer
from local.serving.worker import Worker, work


def play(body: bytes, content_type: str, accept: str) -> Answer:
    """What the body says."""
    what, _, rest = body.partition(b" ")
    if what == b"echo":
        return Answer(HTTPStatus.ACCEPTED, rest, f"{content_type} as {accept}")
    if what == b"open":
        return Answer(HTTPStatus.OK, json.dumps([*descriptors()]).encode())
    if what == b"raise":
        raise KeyboardInterrupt(rest.decode())
    if what == b"exit":
        os._exit(int(rest))
    if what == b"kill":
        os.kill(os.getpid(), int(rest))
    while what == b"sleep":
        time.sleep(60)
    return Answer(HTTPStatus.OK, str(os.getpid()).encode())


class Played:
    """Forks, and what their workers told."""

    def __init__(self) -> None:
        kept = descriptors()
        self.events = Events()
        self.forks = Forks(play, self.events, kept=kept)
        self.answers: list[Answer] = []
        self.ends: list[str] = []
        self._workers: list[Worker] = []

    def fork(self) -> Worker:
        worker = self.forks.fork(
            answered=lambda _, answer: self.answers.append(answer), ended=lambda _, how: self.ends.append(how)
        )
        self._workers.append(worker)
        return worker

    def ask(self, worker: Worker, body: bytes) -> Answer:
        self.answers.clear()
        worker.ask(body, JSON, "text/csv")
        self.until(lambda: self.answers or self.ends)
        return self.answers[0]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.events.wait(0.05)

    def close(self) -> None:
        for worker in self._workers:
            if worker._alive:
                worker.end()
        self.forks.close()
        self.events.close()


@pytest.fixture
def played() -> Iterator[Played]:
    made = Played()
    yield made
    made.close()


def test_a_worker_answers_one_request_after_another_whatever_their_size(played: Played) -> None:
    worker = played.fork()
    for size in (0, 1, BODY_LIMIT, 100, 4 * BODY_LIMIT):
        body = os.urandom(size)
        answer = played.ask(worker, b"echo " + body)
        assert (answer.status, answer.type, answer.body == body) == (
            202,
            "application/json as text/csv",
            True,
        )


def test_a_worker_that_takes_nothing_keeps_nobody_waiting(played: Played) -> None:
    stopped, other = played.fork(), played.fork()
    pid = int(played.ask(stopped, b"pid").body)
    os.kill(pid, signal.SIGSTOP)
    stopped.ask(b"echo " + bytes(BODY_LIMIT), JSON, JSON)
    assert played.ask(other, b"echo 1").body == b"1"
    played.answers.clear()
    os.kill(pid, signal.SIGCONT)
    played.until(lambda: played.answers)
    assert len(played.answers[0].body) == BODY_LIMIT


@pytest.mark.parametrize(
    ("body", "how"),
    [(b"exit 3", "with exit code 3"), (b"kill 9", "by signal 9 (Killed)"), (b"raise it", "with exit code 1")],
)
def test_a_worker_that_ends_says_how(capfd, played: Played, body: bytes, how: str) -> None:
    worker = played.fork()
    worker.ask(body, JSON, JSON)
    played.until(lambda: played.ends)
    assert [end.replace("Killed: 9", "Killed") for end in played.ends] == [how]  # macOS's words
    assert ("KeyboardInterrupt: it" in capfd.readouterr().err) is (body == b"raise it")


def test_a_worker_that_is_ended_is_gone_whatever_it_does(played: Played) -> None:
    worker = played.fork()
    pid = int(played.ask(worker, b"pid").body)
    worker.ask(b"sleep", JSON, JSON)
    worker.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert played.ends == []


def test_a_worker_that_was_ended_a_moment_ago_tells_nothing(played: Played) -> None:
    first, second = workers = [played.fork(), played.fork()]
    for worker, other in ((first, second), (second, first)):
        worker._answered = lambda _, answer, other=other: (played.answers.append(answer), other.end())
        worker.ask(b"pid", JSON, JSON)
    for worker in workers:  # both have answered before the server looks
        assert select.select([worker._process], [], [], 10)[0]
    played.events.wait(0)
    assert (len(played.answers), played.ends) == (1, [])


def test_a_worker_leaves_signals_to_the_server(played: Played) -> None:
    worker = played.fork()
    pid = int(played.ask(worker, b"pid").body)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert int(played.ask(worker, b"pid").body) == pid


def test_a_worker_ends_when_the_server_is_gone_though_it_sleeps(played: Played) -> None:
    worker = played.fork()
    worker.ask(b"sleep", JSON, JSON)
    with Path(os.devnull).open("w") as nothing:  # in the place of what only the server holds
        os.dup2(nothing.fileno(), played.forks._held, inheritable=False)
    played.until(lambda: played.ends)
    assert played.ends == ["with exit code 1"]


def test_a_worker_keeps_what_the_model_opened_and_nothing_of_the_servers() -> None:
    read, write = os.pipe()
    played = Played()
    with socket.socket() as client:
        worker = played.fork()
        opened = set(json.loads(played.ask(worker, b"open").body))
        assert {0, 1, 2, read, write} <= opened
        assert client.fileno() not in opened
        assert played.events._waker.fileno() not in opened
        assert played.forks._held not in opened
    played.close()
    os.close(read)
    os.close(write)


def test_a_fork_that_fails_leaves_nothing_open(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    before, mask = descriptors(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(BlockingIOError):
        played.fork()
    assert descriptors() == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


@pytest.mark.parametrize("sent", [b"", b"\0\0", bytes(7) + b"\5" + bytes(7) + b"\1" + b"echo"])
def test_a_worker_predicts_nothing_of_a_request_that_is_cut_off(sent: bytes) -> None:
    """In this process, so that the worker's loop is measured too."""
    server, process = socket.socketpair()
    asked: list[bytes] = []
    thread = threading.Thread(target=work, args=(process, lambda body, *_: asked.append(body)))
    thread.start()
    server.sendall(sent)
    server.close()
    thread.join(10)
    process.close()
    assert not thread.is_alive()
    assert asked == []


def test_a_worker_answers_what_arrives_whole() -> None:
    """In this process, too."""
    events = Events()
    ours, theirs = socket.socketpair()
    answers: list[Answer] = []
    thread = threading.Thread(target=work, args=(theirs, play))
    thread.start()
    worker = Worker(0, ours, events, answered=lambda _, it: answers.append(it), ended=lambda *_: None)
    worker.ask(b"echo 1", JSON, "text/csv")
    while not answers:
        events.wait(0.1)
    ours.close()
    thread.join(10)
    theirs.close()
    events.close()
    assert answers == [Answer(HTTPStatus.ACCEPTED, b"1", "application/json as text/csv")]
