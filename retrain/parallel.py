"""Run independent tasks in threads on all cores, each thread with its own tool."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from deploy.system.cores import cores

Tool = TypeVar("Tool")
Task = TypeVar("Task")
Result = TypeVar("Result")


def run(
    tasks: Iterable[Task], make_tool: Callable[[], Tool], call: Callable[[Tool, Task], Result]
) -> Generator[Result, None, None]:
    """Yield `call(tool, task)` for each task, in the order in which they finish.

    Each core has a thread, which calls `make_tool()` once: Pillow and the TFLite runtime release
    the GIL. `tasks` may be endless, because it is read one task ahead of the cores. When the caller
    stops early, tasks that have started are finished and no other starts.
    """
    local = threading.local()

    def work(task: Task) -> Result:
        if not hasattr(local, "tool"):
            local.tool = make_tool()
        return call(local.tool, task)

    waiting = iter(tasks)
    running: set[Future[Result]] = set()
    workers = cores()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                for task in waiting:
                    running.add(pool.submit(work, task))
                    if len(running) > workers:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run_in_order(
    tasks: Sequence[Task],
    make_tool: Callable[[], Tool],
    call: Callable[[Tool, Task], Result],
    advance: Callable[[int], None],
) -> list[Result]:
    """Return what `run` yields, in the order of `tasks`; call `advance(1)` after each task."""
    results: dict[int, Result] = {}

    def numbered(tool: Tool, i: int) -> tuple[int, Result]:
        return i, call(tool, tasks[i])

    for i, result in run(range(len(tasks)), make_tool, numbered):
        results[i] = result
        advance(1)
    return [results[i] for i in range(len(tasks))]
