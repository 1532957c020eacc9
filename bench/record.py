"""The files that `retrain bench` wrote, read again, and their runners matched."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import SCHEMA_VERSION
from deploy import untrusted_files
from deploy.errors import BadData
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, parse_json


class _Between(NamedTuple):
    """The form of a number that may have a fraction, unless `kind` is int."""

    low: float
    high: float
    kind: type[float] = float


_NUMBER = _Between(-1e18, 1e18)
_WHOLE = _Between(-1e18, 1e18, int)
_TIME = _Between(1e-9, 1e18)
_SHARE = _Between(0, 1)

_STATE = {"load?": _NUMBER, "mhz?": _NUMBER, "celsius?": _NUMBER, "throttled?": _WHOLE}
_TURN = {
    "samples_ns": [_Between(1, 1e18, int), ...],
    "others?": _NUMBER,
    "throttled": bool,
    "bad": bool,
    "steady": bool,
}
_RUNNER = {
    **dict.fromkeys(("model", "sha256", "runtime", "version", "input", "python"), str),
    **dict.fromkeys(("ratio_p50", "per_second", "load_s", "first_ms"), _NUMBER),
    **dict.fromkeys(("threads", "size_bytes", "peak_rss_bytes"), _WHOLE),
    **dict.fromkeys(("gmacs?", "share_of_peak?"), _NUMBER),
    "accuracy?": _SHARE,
    "delegate?": str,
    "accuracy_interval95?": [_SHARE, _SHARE],
    "ms": dict.fromkeys(("p50", "p90", "p99", "mean"), _TIME),
    "ratio_interval95": [_NUMBER, _NUMBER],
    "photo_ms": {str: _NUMBER},
    "operators?": [{"kind": str, "count": _WHOLE, "ms": _NUMBER}],
    "rounds": [_TURN, ...],
}
_RECORD = {
    "machine": {
        **dict.fromkeys(("cpu", "architecture", "os", "python"), str),
        "cores": _WHOLE,
        "governor?": str,
        "memory_bytes?": _WHOLE,
    },
    "state": {"before": _STATE, "after": _STATE},
    "settings": {"rounds": _WHOLE, "runs": _WHOLE, "seconds": _NUMBER, "profile": bool},
    "rules": {"warm": {"seconds": _NUMBER}},
    "peak_gmacs": {str: _NUMBER},
    "not_run": [{"model": str, "runtime": str, "reason": str}],
    "runners": [_RUNNER, ...],
}
"""What is read of a record: forms by key; null is allowed where a key ends with "?", and `str`
stands for every key that there is. A list is of its first form: any number, at least one with
`...`, else as many as there are."""


class Key(NamedTuple):
    """What a runner is known by.

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
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.model} ({self.where}, {threads})"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the record in the file `path`, or those of a merged one; raise BadData."""
    try:
        with damaged(f"{path}: not a file of `retrain bench`"):
            content = parse_json(untrusted_files.read(path, MAX_RECORD_BYTES), MAX_RECORD_BYTES)
            schema, records = content["schema"], content.get("records", [content])
            records[0]["runners"]
    except OSError as error:
        raise BadData(f"{path}: not a file of `retrain bench`: {error.strerror}") from error
    if schema != SCHEMA_VERSION:
        raise BadData(f"{path}: schema {schema}, not {SCHEMA_VERSION}: measure it again")
    flaw = _flaw(records, [_RECORD, ...], "record")
    if flaw:
        raise BadData(f"{path}: not a file of `retrain bench`: {flaw}")
    return list(records)


def read_one(path: Path) -> dict[str, Any]:
    """Return the record in the file `path`; raise BadData, for a merged one too."""
    record, *others = read(path)
    if others:
        raise BadData(f"{path}: {1 + len(others)} records in one: name the file of one machine")
    return record


def keyed(records: Sequence[Mapping[str, Any]]) -> list[dict[Key, dict[str, Any]]]:
    """Return the runners of each record, in order, by keys that match from record to record.

    Of two Pythons of one version, the second is told by a number, in the order of the options.
    """
    bases = [[Key(*_base(each)) for each in record["runners"]] for record in records]
    shared = {key for keys in bases for key, times in Counter(keys).items() if times > 1}
    found: list[dict[Key, dict[str, Any]]] = []
    for record, keys in zip(records, bases, strict=True):
        mine: dict[Key, dict[str, Any]] = {}
        for key, runner in zip(keys, record["runners"], strict=True):
            version = f"Python {runner['python']}" if key in shared else ""
            number, name = 1, version
            while (own := key._replace(python=name)) in mine:
                number += 1
                name = f"{version} ({number})"
            mine[own] = runner
        found.append(mine)
    return found


def references(record: Mapping[str, Any]) -> str:
    """Return the names of what ratios of a record are against: the first on as many threads."""
    first: dict[int, str] = {}
    for each in record["runners"]:
        first.setdefault(each["threads"], f"{each['model']} ({each['runtime']})")
    return " and ".join(dict.fromkeys(first.values()))


def refusal(each: Mapping[str, Any]) -> str:
    """Return the line that says why a member of `not_run` has no figures."""
    return f"{each['model']} on {each['runtime']}: not run: {each['reason']}"


def is_busy(runner: Mapping[str, Any]) -> bool:
    """Return whether the machine was busy or throttled in a round, when repeated too."""
    return any(turn["bad"] for turn in runner["rounds"])


def _base(runner: Mapping[str, Any]) -> tuple[str, str, int]:
    return runner["model"], runner["runtime"], runner["threads"]


def _flaw(value: Any, form: Any, name: str) -> str | None:
    """Return what is wrong with `value`, called `name`, None if it has the form."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        if str in form:
            form = dict.fromkeys(value, form[str])
        for key, inner in form.items():
            bare = key.removesuffix("?")
            if bare not in value:
                return f"{name} has no {bare}"
            if value[bare] is None and bare != key:
                continue
            if flaw := _flaw(value[bare], inner, bare):
                return flaw
        return None
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        if (not value) if ... in form else len(value) != len(form) > 1:
            return f"{name} has {len(value)} members"
        return next(filter(None, (_flaw(each, form[0], name) for each in value)), None)
    if isinstance(form, _Between):
        number = type(value) in (int, form.kind) and form.low <= value <= form.high
        return None if number else f"{name} is {value!r:.40}"
    return None if isinstance(value, form) else f"{name} is {value!r:.40}"
