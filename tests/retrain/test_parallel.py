"""Tasks on all cores: each is run, each thread has its own tool, and an error ends the rest."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from retrain import parallel

CORES = 3
MAX_WAIT_S = 30.0


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: CORES)


def endless_tasks(started: list[int]) -> Iterator[int]:
    for number in count():
        started.append(number)
        yield number


def test_every_task_has_its_result() -> None:
    results = list(parallel.run(range(500), lambda: 10, lambda tool, task: tool * task))
    assert sorted(results) == [10 * task for task in range(500)]
    assert list(parallel.run([], lambda: 10, lambda tool, task: tool * task)) == []


def test_results_come_as_they_end_and_threads_work_at_once() -> None:
    enough = threading.Event()

    def call(_: None, task: int) -> int:
        if task == 0:
            assert enough.wait(MAX_WAIT_S)
        return task

    results = []
    for result in parallel.run(range(10), lambda: None, call):
        results.append(result)
        if len(results) == 5:
            enough.set()
    assert sorted(results) == list(range(10))
    assert results.index(0) >= 5


def test_each_thread_has_a_tool_of_its_own() -> None:
    together = threading.Barrier(CORES)
    tools: list[int] = []

    def make() -> int:
        tools.append(threading.get_ident())
        return threading.get_ident()

    def call(tool: int, task: int) -> bool:
        if task < CORES:
            together.wait(MAX_WAIT_S)
        return tool == threading.get_ident()

    assert all(parallel.run(range(100), make, call))
    assert len(tools) == len(set(tools)) == CORES


def test_one_task_is_read_ahead_of_the_cores() -> None:
    started: list[int] = []
    results = parallel.run(endless_tasks(started), lambda: None, lambda _, task: task)
    next(results)
    assert len(started) == CORES + 1
    results.close()


def test_the_error_of_a_task_comes_out_and_no_more_is_started() -> None:
    started: list[int] = []

    def call(_: None, task: int) -> int:
        if task == 5:
            raise OSError("task 5")
        return task

    with pytest.raises(OSError, match="task 5"):
        for _ in parallel.run(endless_tasks(started), lambda: None, call):
            pass
    assert len(started) <= 6 + 2 * CORES


def test_the_error_of_a_tool_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel.run(range(3), lambda: 1 // 0, lambda tool, task: tool + task))


def test_a_caller_that_stops_early_ends_it() -> None:
    started: list[int] = []
    before = threading.active_count()
    results = parallel.run(endless_tasks(started), lambda: None, lambda _, task: task)
    assert len({next(results) for _ in range(4)}) == 4
    results.close()
    assert len(started) <= 4 + 2 * CORES
    assert threading.active_count() == before
