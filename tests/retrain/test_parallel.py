"""Tasks on all cores: all of them, a tool a thread, and an end when there is reason to end."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from retrain import parallel

CORES = 3
PATIENCE = 30.0
"""Seconds until a test that waits for another thread fails."""


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: CORES)


def endless(started: list[int]) -> Iterator[int]:
    for number in count():
        started.append(number)
        yield number


def test_every_task_has_its_result() -> None:
    found = list(parallel.run(range(500), lambda: 10, lambda tool, task: tool * task))
    assert sorted(found) == [10 * task for task in range(500)]
    assert list(parallel.run([], lambda: 10, lambda tool, task: tool * task)) == []


def test_results_come_as_they_end_and_threads_work_at_once() -> None:
    enough = threading.Event()

    def call(_: None, task: int) -> int:
        if task == 0:
            assert enough.wait(PATIENCE)
        return task

    found = []
    for result in parallel.run(range(10), lambda: None, call):
        found.append(result)
        if len(found) == 5:
            enough.set()
    assert sorted(found) == list(range(10))
    assert found.index(0) >= 5


def test_each_thread_has_a_tool_of_its_own() -> None:
    together = threading.Barrier(CORES)
    made: list[int] = []

    def make() -> int:
        made.append(threading.get_ident())
        return threading.get_ident()

    def call(tool: int, task: int) -> bool:
        if task < CORES:
            together.wait(PATIENCE)
        return tool == threading.get_ident()

    assert all(parallel.run(range(100), make, call))
    assert len(made) == len(set(made)) == CORES


def test_the_error_of_a_task_comes_out_and_no_more_is_started() -> None:
    started: list[int] = []

    def call(_: None, task: int) -> int:
        if task == 5:
            raise OSError("task 5")
        return task

    with pytest.raises(OSError, match="task 5"):
        for _ in parallel.run(endless(started), lambda: None, call):
            pass
    assert len(started) <= 6 + 2 * CORES


def test_the_error_of_a_tool_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel.run(range(3), lambda: 1 // 0, lambda tool, task: tool + task))


def test_a_caller_that_stops_early_ends_it() -> None:
    started: list[int] = []
    before = threading.active_count()
    results = parallel.run(endless(started), lambda: None, lambda _, task: task)
    assert len({next(results) for _ in range(4)}) == 4
    results.close()
    assert len(started) <= 4 + 2 * CORES
    assert threading.active_count() == before
