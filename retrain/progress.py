"""What a user sees while a stage works: on stderr, a live bar on a terminal, else plain lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_LINE_EVERY = 5.0
"""Seconds between plain progress lines."""


class Progress:
    """Shows stages and keeps the seconds that each took, by name, in `seconds`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def info(self, text: str) -> None:
        """Print a line."""
        click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        click.echo(f"Warning: {text}", err=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`; a stage entered again adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def bar(self, text: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Give a function that tells how many more of `total` are done; show rate and time left."""
        if sys.stderr.isatty():
            yield from _live(text, total, unit)
        else:
            yield from _lines(text, total, unit)


def _live(text: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    start = time.perf_counter()
    done = 0
    # The rate is a field of ours: rich's own `speed` is None until it has two samples.
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            speed = done / max(time.perf_counter() - start, 1e-9)
            bar.update(task, completed=done, rate=f"{speed:.0f} {unit}/s")

        yield advance


def _lines(text: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    start = last = time.perf_counter()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.perf_counter()
        if done < total and now - last < _LINE_EVERY:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        click.echo(f"{text} {done}/{total} {unit} ({rate:.0f}/s{left})", err=True)

    yield advance
