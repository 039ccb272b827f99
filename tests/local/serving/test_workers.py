"""Requests wait for workers in order, within bounds, and not for ever."""

import errno
import os
from collections.abc import Callable
from http import HTTPStatus

import pytest

from local.serving.limits import LimitError, Limits
from local.serving.messages import Answer, refusal
from local.serving.workers import Job, Workers

OK = Answer(HTTPStatus.OK, b"")


class Process:
    """A worker that answers, or ends, when a test says so."""

    def __init__(self, answered: Callable[..., None], ended: Callable[..., None]) -> None:
        self._answered, self._ended = answered, ended
        self.asked: list[bytes] = []
        self.killed = False

    def ask(self, body: bytes, content_type: str, accept: str) -> None:
        self.asked.append(body)

    def answer(self, answer: Answer = OK) -> None:
        self._answered(self, answer)

    def die(self, how: str = "with exit code 3") -> None:
        self._ended(self, how)

    def end(self) -> str:
        self.killed = True
        return "by signal 9 (Killed)"


class Bench:
    """Workers whose processes are played, and what came of the jobs."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.answers: list[tuple[Job, Answer]] = []
        self.full = False

    def fork(self, *, answered: Callable[..., None], ended: Callable[..., None]) -> Process:
        if self.full:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.processes.append(Process(answered, ended))
        return self.processes[-1]

    def workers(self, **limits: float) -> Workers:
        return Workers(self, lambda job, answer: self.answers.append((job, answer)), Limits(**limits))

    @property
    def begun(self) -> list[bytes]:
        return [body for process in self.processes for body in process.asked]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def job(body: bytes = b"", since: float = 0.0) -> Job:
    return Job(None, body, "", "", since)


def test_jobs_are_predicted_in_the_order_in_which_they_came(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=20)
    jobs = [job(b"%d" % number) for number in range(20)]
    assert [workers.admit(each) for each in jobs] == [None] * 20
    for _ in jobs:
        bench.processes[0].answer()
    assert bench.begun == [each.body for each in jobs]
    assert bench.answers == [(each, OK) for each in jobs]


def test_a_process_is_forked_when_a_job_finds_none_free_and_kept(bench: Bench) -> None:
    workers = bench.workers(workers=3, queue=2)
    assert len(bench.processes) == 1
    for _ in range(2):
        workers.admit(job())
        bench.processes[0].answer()
    assert len(bench.processes) == 1
    for _ in range(5):
        workers.admit(job())
    assert len(bench.processes) == 3
    for process in bench.processes:
        process.answer()
    assert [len(process.asked) for process in bench.processes] == [4, 2, 1]
    assert not any(process.killed for process in bench.processes)


def test_a_place_is_free_again_when_a_job_is_answered(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=1)
    assert [workers.admit(job()) is None for _ in range(4)] == [True, True, False, False]
    bench.processes[0].answer()
    assert [workers.admit(job()) is None for _ in range(2)] == [True, False]


def test_a_full_queue_says_when_it_will_be_empty_by_the_median_of_what_predictions_took(bench: Bench) -> None:
    workers = bench.workers(workers=2, queue=5)
    workers._seconds.extend([1.0, 3.0, 60.0])
    refused = [answer for answer in (workers.admit(job()) for _ in range(8)) if answer]
    assert [(answer.status, answer.retry_after) for answer in refused] == [(503, 8)]


def test_a_job_that_is_late_in_the_queue_is_never_predicted(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=2, answer=10)
    first, second, third = job(b"1", since=6), job(b"2", since=0), job(b"3", since=5)
    for each in (first, second, third):
        workers.admit(each)
    assert workers.late(now=9) == []
    assert workers.late(now=15) == [second, third]
    bench.processes[0].answer()
    workers.admit(job(b"4"))
    assert bench.begun == [b"1", b"4"]


def test_a_late_prediction_is_ended_and_the_next_job_gets_another_process(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=1, answer=10)
    workers.admit(late := job(since=0))
    workers.admit(next_ := job(since=5))
    assert workers.late(now=10) == [late]
    first, second = bench.processes
    assert (first.killed, second.killed) == (True, False)
    second.answer()
    assert bench.answers == [(next_, OK)]


def test_a_process_that_ends_in_a_prediction_fails_that_one_and_the_next_job_gets_another(
    bench: Bench,
) -> None:
    workers = bench.workers(workers=1, queue=1)
    workers.admit(failing := job())
    workers.admit(next_ := job())
    bench.processes[0].die("by signal 11 (Segmentation fault)")
    reason = "the process that predicted this request ended by signal 11 (Segmentation fault)."
    assert bench.answers == [(failing, refusal(HTTPStatus.INTERNAL_SERVER_ERROR, reason))]
    assert workers.failure == reason
    bench.processes[1].answer()
    assert bench.answers[1:] == [(next_, OK)]
    assert workers.failure is None


def test_a_process_that_ends_while_it_is_idle_is_replaced_when_there_is_a_job(bench: Bench) -> None:
    workers = bench.workers(workers=1)
    bench.processes[0].die()
    workers.late(now=0)
    assert len(bench.processes) == 1  # or one that always ends would be forked for ever
    workers.admit(job())
    assert len(bench.processes) == 2
    assert workers.failure is None


def test_a_job_waits_while_no_process_can_be_forked(bench: Bench) -> None:
    bench.full = True
    workers = bench.workers(workers=1)
    assert workers.admit(waiting := job()) is None
    assert workers.failure == "no process can be forked for a prediction: Resource temporarily unavailable."
    bench.full = False
    assert workers.late(now=0) == []
    bench.processes[0].answer()
    assert bench.answers == [(waiting, OK)]
    assert workers.failure is None


def test_the_failure_is_the_latest_predictions_and_not_a_refused_requests(bench: Bench) -> None:
    workers = bench.workers(workers=1)
    for answer, failure in (
        (refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault"), "a fault"),
        (refusal(HTTPStatus.BAD_REQUEST, "no JSON"), "a fault"),
        (OK, None),
        (refusal(HTTPStatus.BAD_REQUEST, "no JSON"), None),
    ):
        workers.admit(job())
        bench.processes[0].answer(answer)
        assert workers.failure == failure


def test_a_job_whose_client_is_gone_frees_its_place_and_is_never_predicted(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=1)
    workers.admit(job(b"1"))
    workers.admit(gone := job(b"2"))
    workers.cancel(gone)
    assert workers.admit(job(b"3")) is None
    bench.processes[0].answer()
    assert bench.begun == [b"1", b"3"]


def test_dismissed_are_those_that_no_worker_has_begun(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=2)
    workers.admit(first := job())
    waiting = [job(), job()]
    for each in waiting:
        workers.admit(each)
    assert workers.dismiss() == waiting
    bench.processes[0].answer()
    assert bench.answers == [(first, OK)]


def test_all_processes_end_with_the_server(bench: Bench) -> None:
    workers = bench.workers(workers=2)
    workers.admit(job())
    workers.admit(job())
    bench.processes[0].answer()
    workers.close()
    assert [process.killed for process in bench.processes] == [True, True]


def test_the_environment_says_how_many_workers_there_are_and_how_long_an_answer_may_take() -> None:
    limits = Limits.of({"SAGEMAKER_MODEL_SERVER_WORKERS": "3", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "7"})
    assert (limits.workers, limits.answer) == (3, 7)
    assert Limits.of({}) == Limits()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "²", "9" * 5000])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LimitError, match=r"SAGEMAKER_MODEL_SERVER_TIMEOUT = .*whole number of at least 1"):
        Limits.of({"SAGEMAKER_MODEL_SERVER_TIMEOUT": text})
