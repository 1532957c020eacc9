"""Run independent tasks on all cores, each worker with a tool of its own."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from deploy.system.cores import cores

Tool = TypeVar("Tool")
Task = TypeVar("Task")
Result = TypeVar("Result")


def run(
    tasks: Iterable[Task], make: Callable[[], Tool], call: Callable[[Tool, Task], Result]
) -> Iterator[Result]:
    """Yield `call(tool, task)` of each task, in the order that they end.

    A thread a core, with one `make()` each: Pillow and the TFLite runtime release the GIL. Few
    tasks are in hand at a time, so `tasks` may be endless. When the caller stops early, the
    tasks in hand end and no other starts.
    """
    own = threading.local()

    def work(task: Task) -> Result:
        if not hasattr(own, "tool"):
            own.tool = make()
        return call(own.tool, task)

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
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def ordered(
    tasks: Sequence[Task],
    make: Callable[[], Tool],
    call: Callable[[Tool, Task], Result],
    advance: Callable[[int], None],
) -> list[Result]:
    """Return what `run` yields, in the order of `tasks`; `advance(1)` is called as each ends."""
    found: dict[int, Result] = {}

    def numbered(tool: Tool, i: int) -> tuple[int, Result]:
        return i, call(tool, tasks[i])

    for i, result in run(range(len(tasks)), make, numbered):
        found[i] = result
        advance(1)
    return [found[i] for i in range(len(tasks))]
