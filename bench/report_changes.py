"""Report which models became slower between two records, as opposed to the machine or noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.match_runners import Key, runners_by_key
from bench.record import BenchRecord, RunnerRecord
from bench.report import Row, lines, render
from bench.stats import change
from deploy.errors import BadData
from deploy.system.machine import is_same_cpu

TOO_SLOW = "too slow"


class Change(NamedTuple):
    """How a runner changed: `ratio` is the new p50 over the old one, with its 95% interval.

    `against` names the model whose own change was divided out, None if there is none; `busy` has
    the files, "old" and "new", in which the machine was busy or throttled.
    """

    model: str
    runtime: str
    threads: int
    python: str
    old_ms: float
    new_ms: float
    ratio: float
    interval95: tuple[float, float]
    against: str | None
    busy: tuple[str, ...]
    verdict: str

    @property
    def key(self) -> Key:
        """The key of the runner."""
        return Key(self.model, self.runtime, self.threads, self.python)


class _Pair(NamedTuple):
    """The same runner in both records."""

    old: RunnerRecord
    new: RunnerRecord

    @property
    def is_same_file(self) -> bool:
        """Whether it is the reference of both, the same file on the same version."""
        return self.old.ratio_p50 == self.new.ratio_p50 == 1 and (
            self.old.sha256,
            self.old.version,
        ) == (self.new.sha256, self.new.version)


def changes(old: BenchRecord, new: BenchRecord, max_slowdown: float) -> list[Change]:
    """Return the changes of the runners that both records have.

    The verdict is "slower" or "faster" if the interval excludes 1, else "noise"; it is TOO_SLOW
    if slower by more than `max_slowdown`, a share. If the first model is the same file on the same
    version of its runtime in both, its change is the machine's, and the others' changes are
    relative to it. Raises BadData for records of two machines, or without a common runner.
    """
    if not is_same_cpu(old.machine.cpu, new.machine.cpu):
        raise BadData(
            f"measured on two machines, {old.machine.cpu} and {new.machine.cpu}: "
            "`retrain bench show OLD NEW` shows both"
        )
    before, after = runners_by_key([old, new])
    pairs = {key: _Pair(before[key], runner) for key, runner in after.items() if key in before}
    if not pairs:
        raise BadData("no model on the same runtime and threads is in both")
    rows = []
    for key, pair in pairs.items():
        peers = [other for other in pairs.values() if other.new.threads == key.threads]
        anchor = next((other for other in peers if other.is_same_file), None)
        relative_to = anchor if anchor is not pair else None
        value, interval = change(
            pair.new.samples_ns,
            pair.old.samples_ns,
            (relative_to.new.samples_ns, relative_to.old.samples_ns) if relative_to else None,
        )
        is_anchor = anchor is pair and len(peers) > 1
        rows.append(
            Change(
                *key,
                old_ms=pair.old.ms.p50,
                new_ms=pair.new.ms.p50,
                ratio=value,
                interval95=interval,
                against=relative_to.new.model if relative_to else None,
                busy=tuple(name for name, runner in pair._asdict().items() if runner.is_busy),
                verdict="the machine" if is_anchor else _verdict(value, interval, max_slowdown),
            )
        )
    return rows


def unmatched(old: BenchRecord, new: BenchRecord) -> dict[str, list[Key]]:
    """Return the keys that only one of two records has: `only_old` and `only_new`."""
    before, after = runners_by_key([old, new])
    return {
        "only_old": [key for key in before if key not in after],
        "only_new": [key for key in after if key not in before],
    }


def table(
    changed: Sequence[Change], missing: Mapping[str, Sequence[Key]], markdown: bool = False
) -> str:
    """Return a table of the changes with their verdicts, and the result of `unmatched`."""
    rows: list[Row] = [
        ("model", "runtime", "threads", "old ms", "new ms", "new/old", "95%", "verdict")
    ]
    for row in changed:
        low, high = row.interval95
        rows.append(
            (
                row.model,
                row.key.where,
                str(row.threads),
                f"{'*' if 'old' in row.busy else ''}{row.old_ms:.2f}",
                f"{'*' if 'new' in row.busy else ''}{row.new_ms:.2f}",
                f"{row.ratio:.3f}",
                f"{low:.3f}-{high:.3f}",
                row.verdict,
            )
        )
    remarks = []
    anchors = dict.fromkeys(row.against for row in changed if row.against)
    if anchors:
        remarks.append(
            f"new/old: relative to {', '.join(map(str, anchors))}, the same file on the same "
            "runtime in both, whose change is the machine's"
        )
    if any(row.busy for row in changed):
        remarks.append("* the machine was busy or throttled, when the round was repeated too")
    remarks += [
        f"only in {name.removeprefix('only_').upper()}: {', '.join(map(str, keys))}"
        for name, keys in missing.items()
        if keys
    ]
    return "\n\n".join(filter(None, (render(rows, markdown), lines(remarks, markdown))))


def _verdict(value: float, interval: tuple[float, float], max_slowdown: float) -> str:
    low, high = interval
    if low <= 1 <= high:
        return "noise"
    if value < 1:
        return "faster"
    return TOO_SLOW if value > 1 + max_slowdown else "slower"
