"""Work side by side that the end of the cloud does not wait for: an executor's threads would be joined by Python's end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int, name: str
) -> list[Result]:
    """What `work` makes of each item, in their order, on at most `at_once` daemon threads; the first error ends it."""
    waiting: queue.SimpleQueue[tuple[Item, futures.Future[Result]]] = queue.SimpleQueue()
    results: list[futures.Future[Result]] = [futures.Future() for _ in items]
    for pair in zip(items, results, strict=True):
        waiting.put(pair)
    failed = threading.Event()

    def run() -> None:
        while not failed.is_set():
            try:
                item, result = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                result.set_result(work(item))
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                result.set_exception(error)
                failed.set()

    threads = [threading.Thread(target=run, daemon=True, name=name) for _ in range(min(at_once, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Items are taken in order: what was never begun stands behind the error.
    return [result.result() for result in results]
