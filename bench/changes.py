"""Tell a model that became slower from a machine that was, and from noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.stats import Rounds, change
from bench.table import Row, render
from deploy.errors import BadData

TOO_SLOW = "too slow"


class Change(NamedTuple):
    """How many times the old p50 the new one is, with its 95% interval.

    `against` names the model whose own change was divided out, None if nothing was.
    """

    model: str
    runtime: str
    threads: int
    old_ms: float
    new_ms: float
    ratio: float
    interval95: tuple[float, float]
    against: str | None
    verdict: str


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
    before = {_key(each): each for each in old["runners"]}
    pairs = [(before[_key(each)], each) for each in new["runners"] if _key(each) in before]
    if not pairs:
        raise BadData("no model on the same runtime and threads is in both")
    found = []
    for a, b in pairs:
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
        found.append(Change(*_key(b), *paces, value, interval, against, verdict))
    return found


def table(found: Sequence[Change], markdown: bool = False) -> str:
    """Return the text that shows each change and its verdict."""
    rows: list[Row] = [
        ("model", "runtime", "threads", "old ms", "new ms", "new/old", "95%", "verdict")
    ]
    for each in found:
        low, high = each.interval95
        rows.append(
            (
                each.model,
                each.runtime,
                str(each.threads),
                f"{each.old_ms:.2f}",
                f"{each.new_ms:.2f}",
                f"{each.ratio:.3f}",
                f"{low:.3f}-{high:.3f}",
                each.verdict,
            )
        )
    text = render(rows, markdown)
    anchors = dict.fromkeys(each.against for each in found if each.against)
    if anchors:
        text += (
            f"\n\nnew/old: relative to {', '.join(anchors)}, the same file on the same runtime in "
            "both: what changed of that is the machine"
        )
    return text


def _key(runner: dict[str, Any]) -> tuple[str, str, int]:
    return runner["model"], runner["runtime"], runner["threads"]


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
