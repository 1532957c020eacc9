"""Show the progress of stages on stderr: a live bar, plain lines, or JSON lines."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from deploy.system.terminal import printable, say

LINE_INTERVAL_S = 5.0

Form = Literal["auto", "plain", "json"]
Verbosity = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]

Advance = Callable[[int], None]


class Progress:
    """Shows the stages of a run; `seconds` holds how long each took, by name.

    `form` "auto" is a live bar on a terminal and plain lines elsewhere; "json" is one JSON object
    a line, whose `event` names its kind. `verbosity` WARN shows warnings only, ERROR nothing.
    `rewrite` changes each text before it is shown: on the command line it names options.
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
        """Print `text`; in the form "json", print `event` and `values` instead."""
        if self._info:
            text = self._rewrite(text)
            self._write(text, event, values or {"text": text})

    def warn(self, text: str) -> None:
        """Print a warning."""
        if self._warn:
            text = self._rewrite(text)
            self._write(f"Warning: {text}", "warning", {"text": text})

    def _write(self, text: str, event: str, values: dict[str, Any]) -> None:
        if self._form == "json":
            text = json.dumps({"event": event, **values})
        self._print(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`; a stage that is entered again adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if self._form == "json":
                self.info("", "stage", stage=name, seconds=seconds)

    def show_seconds(self) -> None:
        """Print the seconds of each stage so far, and their sum."""
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        total = sum(self.seconds.values())
        self.info(f"seconds: {stages}; {total:.1f} in all", "seconds", **self.seconds)

    @contextmanager
    def bar(self, text: str, total: int, unit: str, start: int = 0) -> Iterator[Advance]:
        """Yield a function that adds to the count of `total`; show rate and seconds left.

        The count begins at `start`, for a run that resumes.
        """
        if not self._info:
            yield lambda _: None
        elif self._form == "auto" and sys.stderr and sys.stderr.isatty():
            yield from self._live(text, total, unit, start)
        else:
            yield from self._lines(text, total, unit, start)

    def _live(self, text: str, total: int, unit: str, start: int) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        start_s = time.perf_counter()
        count = start
        # The rate is a field of ours: rich's own `speed` is None until it has two samples.
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        console = Console(stderr=True)
        print_line = self._print
        with Bar(*columns, console=console) as bar:
            task = bar.add_task(text, total=total, completed=start, rate="")

            def advance(more: int) -> None:
                nonlocal count
                count += more
                speed = (count - start) / max(time.perf_counter() - start_s, 1e-9)
                bar.update(task, completed=count, rate=f"{speed:.0f} {unit}/s")

            # The console prints lines above the bar; markup would change what is in them.
            self._print = lambda line: console.print(printable(line), markup=False, highlight=False)
            try:
                yield advance
            finally:
                self._print = print_line

    def _lines(self, text: str, total: int, unit: str, start: int) -> Iterator[Advance]:
        start_s = last = time.perf_counter()
        count = start

        def advance(more: int) -> None:
            nonlocal count, last
            count += more
            time_s = time.perf_counter()
            if count < total and time_s - last < LINE_INTERVAL_S:
                return
            last = time_s
            rate = (count - start) / max(time_s - start_s, 1e-9)
            left = f", {(total - count) / rate:.0f} s left" if rate and count < total else ""
            line = f"{text} {count}/{total} {unit} ({rate:.0f}/s{left})"
            self.info(line, "progress", task=text, done=count, total=total, unit=unit, per_s=rate)

        yield advance


SILENT = Progress(verbosity="ERROR")
