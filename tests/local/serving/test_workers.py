"""Requests wait for workers in order, within bounds, and not for ever."""

import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from local.serving.limits import LimitError, Limits
from local.serving.messages import Answer
from local.serving.workers import Job, Workers


class Bench:
    """Workers whose predictions wait until they are let go, and what came of the jobs."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began: list[Job] = []
        self.answered: list[Job] = []

    def workers(self, **limits: float) -> Workers:
        return Workers(self._predict, lambda job, _: self.answered.append(job), Limits(**limits))

    def _predict(self, job: Job) -> Answer:
        self.began.append(job)
        self.go.wait(10)
        return Answer(HTTPStatus.OK, b"")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.go.set()


def job(since: float = 0.0) -> Job:
    return Job(None, b"", "", "", since)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_jobs_are_predicted_in_the_order_in_which_they_came(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=20)
    jobs = [job() for _ in range(20)]
    assert [workers.admit(each) for each in jobs] == [None] * 20
    bench.go.set()
    until(lambda: len(bench.answered) == 20)
    assert bench.answered == jobs


def test_a_place_is_free_again_when_a_job_is_answered(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=1)
    assert [workers.admit(job()) is None for _ in range(4)] == [True, True, False, False]
    bench.go.set()
    until(lambda: len(bench.answered) == 2)
    assert workers.admit(job()) is None


def test_a_full_queue_says_when_it_will_be_empty_by_the_median_of_what_predictions_took(bench: Bench) -> None:
    workers = bench.workers(workers=2, queue=5)
    workers._seconds.extend([1.0, 3.0, 60.0])
    refused = [answer for answer in (workers.admit(job()) for _ in range(8)) if answer]
    assert [(answer.status, answer.retry_after) for answer in refused] == [(503, 8)]


def test_a_job_that_is_late_in_the_queue_is_never_predicted(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=2, answer=10)
    first, second, third = job(since=5), job(since=0), job(since=5)
    workers.admit(first)
    until(lambda: bench.began == [first])
    workers.admit(second)
    workers.admit(third)
    assert workers.late(now=11) == []
    assert workers.late(now=15) == [first, second, third]
    bench.go.set()
    until(lambda: workers.running == 0)
    workers.admit(fourth := job())
    until(lambda: fourth in bench.answered)
    assert bench.began == [first, fourth]


def test_a_stuck_worker_takes_up_its_place_until_the_model_returns(bench: Bench) -> None:
    workers = bench.workers(workers=2, queue=0, answer=10)
    workers.admit(job())
    until(lambda: workers.running == 1)
    assert len(workers.late(now=10)) == 1
    assert not workers.all_stuck
    assert [workers.admit(job()) is None for _ in range(2)] == [True, False]
    until(lambda: workers.running == 2)
    assert len(workers.late(now=10)) == 1
    assert workers.all_stuck
    bench.go.set()
    until(lambda: not workers.all_stuck and workers.running == 0)
    assert [workers.admit(job()) is None for _ in range(2)] == [True, True]


def test_a_job_whose_client_is_gone_frees_its_place_and_is_never_predicted(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=1)
    workers.admit(first := job())
    until(lambda: bench.began == [first])
    workers.admit(gone := job())
    workers.cancel(gone)
    workers.admit(third := job())
    bench.go.set()
    until(lambda: third in bench.answered)
    assert bench.began == [first, third]


def test_dismissed_are_those_that_no_worker_has_begun(bench: Bench) -> None:
    workers = bench.workers(workers=1, queue=2)
    workers.admit(first := job())
    until(lambda: bench.began == [first])
    waiting = [job(), job()]
    for each in waiting:
        workers.admit(each)
    assert workers.dismiss() == waiting
    bench.go.set()
    until(lambda: bench.answered == [first])


def test_the_environment_says_how_many_workers_there_are_and_how_long_an_answer_may_take() -> None:
    limits = Limits.of({"SAGEMAKER_MODEL_SERVER_WORKERS": "3", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "7"})
    assert (limits.workers, limits.answer) == (3, 7)
    assert Limits.of({}) == Limits()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "²", "9" * 5000])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LimitError, match=r"SAGEMAKER_MODEL_SERVER_TIMEOUT = .*whole number of at least 1"):
        Limits.of({"SAGEMAKER_MODEL_SERVER_TIMEOUT": text})
