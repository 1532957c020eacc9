"""Match the runners of several records by model, runtime, threads and Python."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bench.record import BenchRecord, RunnerRecord
from deploy.system.counts import with_noun


class Key(NamedTuple):
    """What identifies a runner in a record.

    `python` is empty unless a record has the same model on the same runtime and as many threads
    in several Pythons.
    """

    model: str
    runtime: str
    threads: int
    python: str = ""

    @property
    def where(self) -> str:
        """The runtime, and the Python where that is needed."""
        return ", ".join(filter(None, (self.runtime, self.python)))

    def __str__(self) -> str:
        return f"{self.model} ({self.where}, {with_noun(self.threads, 'thread')})"


def runners_by_key(records: Sequence[BenchRecord]) -> list[dict[Key, RunnerRecord]]:
    """Return the runners of each record, in order, by keys that match from record to record.

    Of two Pythons of one version, the second gets a number, in the order of the options.
    """
    bases = [
        [Key(runner.model, runner.runtime, runner.threads) for runner in record.runners]
        for record in records
    ]
    shared = {key for keys in bases for key, times in Counter(keys).items() if times > 1}
    by_record: list[dict[Key, RunnerRecord]] = []
    for record, keys in zip(records, bases, strict=True):
        runners: dict[Key, RunnerRecord] = {}
        for key, runner in zip(keys, record.runners, strict=True):
            version = f"Python {runner.python}" if key in shared else ""
            number, python = 1, version
            while (own := key._replace(python=python)) in runners:
                number += 1
                python = f"{version} ({number})"
            runners[own] = runner
        by_record.append(runners)
    return by_record
