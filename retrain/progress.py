"""What a user sees while a stage works, on stderr: a live bar, plain lines, or JSON lines."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from deploy.system.terminal import printable, say

LINE_EVERY = 5.0
"""Seconds between progress lines."""

Form = Literal["auto", "plain", "json"]
Verbosity = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]

Advance = Callable[[int], None]


class Progress:
    """Shows stages and keeps the seconds that each took, by name, in `seconds`.

    `form` "auto" is a live bar on a terminal and plain lines elsewhere; "json" is one JSON object
    a line, its `event` saying what it is of. `verbosity` WARN shows warnings only, ERROR nothing.
    `rewrite` changes each text before it is shown: a command names its options there.
    """

    def __init__(
        self,
        form: Form = "auto",
        verbosity: Verbosity = "INFO",
        rewrite: Callable[[str], str] = str,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._form = form
        self._info = verbosity in ("DEBUG", "INFO")
        self._warn = self._info or verbosity == "WARN"
        self._rewrite = rewrite
        self._print: Callable[[str], None] = partial(say, err=True)

    def info(self, text: str, event: str = "info", **values: Any) -> None:
        """Print a line; as JSON, `values` tell the same to a program."""
        if self._info:
            text = self._rewrite(text)
            self._say(text, event, values or {"text": text})

    def warn(self, text: str) -> None:
        """Print a warning."""
        if self._warn:
            text = self._rewrite(text)
            self._say(f"Warning: {text}", "warning", {"text": text})

    def _say(self, text: str, event: str, values: dict[str, Any]) -> None:
        if self._form == "json":
            text = json.dumps({"event": event, **values})
        self._print(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`; a stage entered again adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if self._form == "json":
                self.info("", "stage", stage=name, seconds=seconds)

    def times(self) -> None:
        """Print the seconds of each stage so far."""
        stages = ", ".join(f"{name} {taken:.1f}" for name, taken in self.seconds.items())
        self.info(f"seconds: {stages}", "seconds", **self.seconds)

    @contextmanager
    def bar(self, text: str, total: int, unit: str) -> Iterator[Advance]:
        """Give a function that tells how many more of `total` are done; show rate and time left."""
        if not self._info:
            yield lambda _: None
        elif self._form == "auto" and sys.stderr and sys.stderr.isatty():
            yield from self._live(text, total, unit)
        else:
            yield from self._lines(text, total, unit)

    def _live(self, text: str, total: int, unit: str) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        start = time.perf_counter()
        done = 0
        # The rate is a field of ours: rich's own `speed` is None until it has two samples.
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        console = Console(stderr=True)
        usual = self._print
        with Bar(*columns, console=console) as bar:
            task = bar.add_task(text, total=total, rate="")

            def advance(count: int) -> None:
                nonlocal done
                done += count
                speed = done / max(time.perf_counter() - start, 1e-9)
                bar.update(task, completed=done, rate=f"{speed:.0f} {unit}/s")

            # Lines go above the bar, not through it; and as they are: rich has a markup.
            self._print = lambda line: console.print(printable(line), markup=False, highlight=False)
            try:
                yield advance
            finally:
                self._print = usual

    def _lines(self, text: str, total: int, unit: str) -> Iterator[Advance]:
        start = last = time.perf_counter()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            now = time.perf_counter()
            if done < total and now - last < LINE_EVERY:
                return
            last = now
            rate = done / max(now - start, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if done < total else ""
            line = f"{text} {done}/{total} {unit} ({rate:.0f}/s{left})"
            self.info(line, "progress", task=text, done=done, total=total, unit=unit, per_s=rate)

        yield advance
