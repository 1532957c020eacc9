"""Tell a model that became slower from a machine that was, and from noise."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.record import Key, is_busy, keyed
from bench.report import Row, lines, render
from bench.stats import Rounds, change
from deploy.errors import BadData

TOO_SLOW = "too slow"


class Change(NamedTuple):
    """How many times the old p50 the new one is, with its 95% interval.

    `against` names the model whose own change was divided out, None if nothing was; `busy` are
    the files, "old" and "new", that mark the machine as busy or throttled meanwhile.
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
        """What the runner is known by."""
        return Key(self.model, self.runtime, self.threads, self.python)


def changes(old: dict[str, Any], new: dict[str, Any], max_slowdown: float) -> list[Change]:
    """Return what changed of each runner that two records of bench.json both have.

    A verdict is "slower" or "faster" where the interval leaves out 1, else "noise"; TOO_SLOW is
    slower by more than `max_slowdown`, a share. Where the first model is the same file on the
    same version of its runtime, what changed of it is the machine, and the others' changes are
    relative to it. Raises BadData for records of two machines or with no runner in common.
    """
    cpus = [record["machine"]["cpu"] for record in (old, new)]
    if cpus[0] != cpus[1]:
        raise BadData(f"measured on two machines, {cpus[0]} and {cpus[1]}: --merge shows both")
    before, after = keyed([old, new])
    both = {key: (before[key], each) for key, each in after.items() if key in before}
    if not both:
        raise BadData("no model on the same runtime and threads is in both")
    pairs = list(both.values())
    found = []
    for key, (a, b) in both.items():
        anchor = next(
            (pair for pair in pairs if _same(*pair) and pair[1]["threads"] == b["threads"]), None
        )
        alone = sum(each["threads"] == b["threads"] for _, each in pairs) == 1
        relative = anchor is not None and anchor[1] is not b
        value, interval = change(
            _rounds(b),
            _rounds(a),
            (_rounds(anchor[1]), _rounds(anchor[0])) if anchor and relative else None,
        )
        if anchor and anchor[1] is b and not alone:
            verdict = "the machine"
        else:
            verdict = _verdict(value, interval, max_slowdown)
        against = anchor[1]["model"] if anchor and relative else None
        paces = a["ms"]["p50"], b["ms"]["p50"]
        busy = tuple(name for name, each in (("old", a), ("new", b)) if is_busy(each))
        found.append(Change(*key, *paces, value, interval, against, busy, verdict))
    return found


def unmatched(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Key]]:
    """Return what only one of two records has: `only_old` and `only_new`."""
    before, after = keyed([old, new])
    return {
        "only_old": [key for key in before if key not in after],
        "only_new": [key for key in after if key not in before],
    }


def table(
    found: Sequence[Change], missing: Mapping[str, Sequence[Key]], markdown: bool = False
) -> str:
    """Return the text that shows each change and its verdict, and what `unmatched` found."""
    rows: list[Row] = [
        ("model", "runtime", "threads", "old ms", "new ms", "new/old", "95%", "verdict")
    ]
    for each in found:
        low, high = each.interval95
        rows.append(
            (
                each.model,
                each.key.where,
                str(each.threads),
                f"{'*' if 'old' in each.busy else ''}{each.old_ms:.2f}",
                f"{'*' if 'new' in each.busy else ''}{each.new_ms:.2f}",
                f"{each.ratio:.3f}",
                f"{low:.3f}-{high:.3f}",
                each.verdict,
            )
        )
    remarks = []
    anchors = dict.fromkeys(each.against for each in found if each.against)
    if anchors:
        remarks.append(
            f"new/old: relative to {', '.join(map(str, anchors))}, the same file on the same "
            "runtime in both: what changed of that is the machine"
        )
    if any(each.busy for each in found):
        remarks.append("* the machine was busy or throttled, when the round was repeated too")
    remarks += [
        f"only in {name.removeprefix('only_').upper()}: {', '.join(map(str, keys))}"
        for name, keys in missing.items()
        if keys
    ]
    return "\n\n".join(filter(None, (render(rows, markdown), lines(remarks, markdown))))


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["ratio_p50"] == b["ratio_p50"] == 1 and all(
        a[name] == b[name] for name in ("sha256", "version")
    )


def _rounds(runner: dict[str, Any]) -> Rounds:
    return [each["samples_ns"] for each in runner["rounds"]]


def _verdict(value: float, interval: tuple[float, float], max_slowdown: float) -> str:
    low, high = interval
    if low <= 1 <= high:
        return "noise"
    if value < 1:
        return "faster"
    return TOO_SLOW if value > 1 + max_slowdown else "slower"
