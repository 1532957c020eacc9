"""Records of several machines, or of one at several times, side by side."""

from collections.abc import Sequence
from typing import Any

from bench.record import keyed, references
from bench.report import lines, machine_lines, marked, notes, render


def side_by_side(records: Sequence[dict[str, Any]], markdown: bool = False) -> str:
    """Return a table with the p50 of each record in columns of its own, and their machines."""
    found = keyed(records)
    head = ["model", "runtime", "threads"]
    for i in range(len(records)):
        head += [f"[{i + 1}] p50 ms", f"[{i + 1}] ratio"]
    rows = [head]
    for key in dict.fromkeys(key for runners in found for key in runners):
        cells = [key.model, key.where, str(key.threads)]
        for runners in found:
            each = runners.get(key)
            cells += [marked(each), f"{each['ratio_p50']:.2f}"] if each else ["-", "-"]
        rows.append(cells)
    legend = [
        f"[{i + 1}] ratio: p50 against that of {references(record)} on as many threads"
        for i, record in enumerate(records)
    ]
    machines = []
    for i, record in enumerate(records):
        first, *rest = machine_lines(record)
        machines.append(lines((f"[{i + 1}] {first}", *rest, *notes(record)), markdown))
    blocks = [*machines, render(rows, markdown), lines([*legend, *_differing(found)], markdown)]
    return "\n\n".join(blocks)


def _differing(found: Sequence[dict[Any, dict[str, Any]]]) -> list[str]:
    digests: dict[str, set[str]] = {}
    for runners in found:
        for key, each in runners.items():
            digests.setdefault(key.model, set()).add(each["sha256"])
    return [
        f"{model}: not the same file everywhere" for model, seen in digests.items() if len(seen) > 1
    ]
