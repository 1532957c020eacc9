"""Call a function for each of many items in threads, with results in order and little memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    pool: Executor, call: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield `call(item)` for each item, in order; at most `ahead` calls are started early."""
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(pool.submit(call, item))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
