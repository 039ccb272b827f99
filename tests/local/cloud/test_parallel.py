"""Side by side on threads that nobody waits for at the end."""

import subprocess
import sys
import threading

import pytest

from local.cloud.place import ROOT
from local.cloud.sagemaker.parallel import side_by_side


def test_results_come_in_the_order_of_the_items_and_no_more_run_at_once_than_allowed() -> None:
    both, running, most = threading.Barrier(2, timeout=20), 0, 0
    lock = threading.Lock()

    def square(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        return number * number

    assert side_by_side(square, [3, 1, 2, 5], at_once=2, name="test") == [9, 1, 4, 25]
    assert most == 2


def test_the_first_error_ends_it() -> None:
    done = []

    def work(number: int) -> None:
        if number == 2:
            raise ValueError("two")
        done.append(number)

    with pytest.raises(ValueError, match="two"):
        side_by_side(work, [1, 2, 3], at_once=1, name="test")
    assert done == [1]
    assert side_by_side(work, [], at_once=1, name="test") == []


def test_a_process_ends_although_work_is_under_way() -> None:
    program = (
        "import threading; from local.cloud.sagemaker.parallel import side_by_side as go; begun = threading.Event()\n"
        "work = lambda _: (begun.set(), threading.Event().wait())\n"
        "threading.Thread(target=go, args=(work, [1]), kwargs={'at_once': 1, 'name': 'w'}, daemon=True).start()\n"
        "begun.wait()"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0
