"""Hold what `retrain bench` measured as typed values; read them from bench.json, write them."""

import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from bench.machine import Machine, State
from deploy import untrusted_files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, parse_json
from deploy.versioned_json import Fields, Limits

SCHEMA_VERSION = 3
"""Records of schema 1 and 2 do not say of which file an accuracy is, so they are refused."""
_REMEDY = "not a file of `retrain bench`, or damaged: measure it again"
_MAX = 1e18
_Figure = Annotated[float, Limits(-_MAX, _MAX)]
_Milliseconds = Annotated[float, Limits(1e-9, _MAX)]
_Nanoseconds = Annotated[int, Limits(1, 10**18)]
_Share = Annotated[float, Limits(0, 1)]
_OPTIONAL: dict[str, Any] = {"optional": True}
"""Metadata of a field that early files of schema 3 lack. None is not written."""


@dataclass(frozen=True)
class Settings:
    """What to measure. A round ends after `runs` calls or `seconds`, whichever comes first.

    `threads` are the numbers of CPU threads to try, `runtimes` the names of those to use, all if
    empty; `seed` decides the order of the rounds; `photo_bytes` is the size of the photo's file.
    """

    rounds: int = 5
    runs: int = 100
    seconds: _Figure = 3.0
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    profile: bool = False
    seed: int = field(default=0, metadata=_OPTIONAL)
    photo_bytes: int | None = None


@dataclass(frozen=True)
class Round:
    """What one process measured of one model: times in ns, memory of the process in bytes.

    `photo_ns` has the times of each step of a photo. `others_share` is the share of all cores
    that other processes took, None if unknown. `bad` is a round in which the machine was busy or
    throttled; `repeated` is the second try of such a round; `round` counts from 0.
    """

    runtime: str
    version: str
    delegate: str | None
    input: str
    load_s: _Figure
    multiply_adds: int | None
    first_ns: int
    warm_up: int
    steady: bool
    samples_ns: tuple[_Nanoseconds, ...]
    photo_ns: dict[str, tuple[int, ...]]
    bare_bytes: int
    peak_bytes: int
    others_share: _Figure | None = field(metadata={"key": "others"})
    throttled: bool
    bad: bool
    repeated: bool
    round: int

    @classmethod
    def from_json(cls, values: Fields) -> "Round":
        """Return a round of a record."""
        _require_members(values, "samples_ns")
        return values.record(cls)


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds of a call."""

    p50: _Milliseconds
    p90: _Milliseconds
    p99: _Milliseconds
    mean: _Milliseconds


@dataclass(frozen=True)
class OperatorTime:
    """How many operators of a kind a graph has, and the milliseconds that they take in a call."""

    kind: str
    count: int
    ms: _Figure


@dataclass(frozen=True)
class RunnerRecord:
    """The figures of one model on one runtime of one Python, with a number of threads.

    `ratio_p50` is against the first model on as many threads; `gmacs` are billions of
    multiply-adds a second, `share_of_peak` is their share of numpy's; `photo_ms` are medians.
    """

    model: str
    sha256: str
    size_bytes: int
    accuracy: _Share | None
    accuracy_interval95: tuple[_Share, _Share] | None
    runtime: str
    version: str
    delegate: str | None
    input: str
    python: str
    threads: int
    ms: Percentiles
    ratio_p50: _Figure
    ratio_interval95: tuple[_Figure, _Figure]
    per_second: _Figure
    photo_ms: dict[str, _Figure]
    load_s: _Figure
    first_ms: _Figure
    peak_rss_bytes: int
    multiply_adds: int | None
    gmacs: _Figure | None
    share_of_peak: _Figure | None
    operators: tuple[OperatorTime, ...] | None
    rounds: tuple[Round, ...]

    @property
    def samples_ns(self) -> list[tuple[int, ...]]:
        """The samples of each round."""
        return [one_round.samples_ns for one_round in self.rounds]

    @property
    def is_busy(self) -> bool:
        """Whether the machine was busy or throttled in a round, when repeated too."""
        return any(one_round.bad for one_round in self.rounds)

    @classmethod
    def from_json(cls, values: Fields) -> "RunnerRecord":
        """Return a runner of a record."""
        _require_members(values, "rounds")
        return values.record(cls)


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """A model that has no figures, and the reason."""

    model: str
    runtime: str
    threads: int | None = field(default=None, metadata=_OPTIONAL)
    python: str | None = field(default=None, metadata=_OPTIONAL)
    reason: str

    def __str__(self) -> str:
        return f"{self.model} on {self.runtime}: not run: {self.reason}"


@dataclass(frozen=True)
class PythonPackages:
    """The versions of a Python and its packages, its runtimes, and why others do not load."""

    python: str
    numpy: str
    pillow: str
    runtimes: tuple[str, ...]
    unusable: dict[str, str]


@dataclass(frozen=True)
class States:
    """The machine before and after the rounds."""

    before: State
    after: State


@dataclass(frozen=True, kw_only=True)
class WarmUpRule:
    """Warm-up ends when the medians of two windows of calls differ by at most `steady`, a share.

    It takes at least `least_seconds` and at most `seconds`.
    """

    window: int
    steady: _Figure
    least_seconds: _Figure | None = field(default=None, metadata=_OPTIONAL)
    seconds: _Figure


@dataclass(frozen=True)
class Rules:
    """How calls were warmed up, and which share of the CPU taken by others marks a round busy."""

    warm: WarmUpRule
    busy: _Figure


@dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """All that one `retrain bench` measured; `peak_gmacs` is numpy's best by threads."""

    machine: Machine
    graph_sha256: str | None
    state: States
    settings: Settings
    rules: Rules
    pythons: tuple[PythonPackages, ...]
    peak_gmacs: dict[str, _Figure]
    not_run: tuple[NotRun, ...] = field(default=(), metadata=_OPTIONAL)
    runners: tuple[RunnerRecord, ...]
    seconds: dict[str, _Figure]

    @property
    def references(self) -> str:
        """The names of what ratios are against: the first model on as many threads."""
        first: dict[int, str] = {}
        for runner in self.runners:
            first.setdefault(runner.threads, f"{runner.model} ({runner.runtime})")
        return " and ".join(dict.fromkeys(first.values()))

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        values: dict[str, Any] = _to_json(self)
        return {"schema": SCHEMA_VERSION, **values}

    @classmethod
    def from_json(cls, values: Fields) -> "BenchRecord":
        """Return the record in a file's values; raise BadData."""
        _require_members(values, "runners")
        return values.record(cls)


def to_text(value: Any) -> str:
    """Return JSON values as the text of a file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read(path: Path, remedy: str = _REMEDY) -> list[BenchRecord]:
    """Return the record in the file `path`, or those of a merged one.

    Raises BadData, with `remedy`.
    """
    try:
        with damaged(f"{path}: cannot be read", remedy):
            content = parse_json(untrusted_files.read(path, MAX_RECORD_BYTES), MAX_RECORD_BYTES)
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}: not a file of `retrain bench`") from error
    values = versioned_json.read(content, str(path), SCHEMA_VERSION, remedy)
    records = values.objects("records") if "records" in values.values else (values,)
    if not records:
        raise values.error("records is empty")
    for record in records:
        versioned_json.read(record.values, str(path), SCHEMA_VERSION, remedy)
        if "runners" in record.values and record.version < SCHEMA_VERSION:
            raise BadData(
                f"{path}: schema {record.version}, not {SCHEMA_VERSION}: measure it again"
            )
    return [BenchRecord.from_json(record) for record in records]


def read_one(path: Path) -> BenchRecord:
    """Return the record in the file `path`; raise BadData, for a merged one too."""
    record, *more = read(path)
    if more:
        raise BadData(f"{path}: {1 + len(more)} records in one: name the file of one machine")
    return record


def _to_json(value: Any) -> Any:
    """Return a value of this module as JSON values, its keys in the order of its fields."""
    if is_dataclass(value):
        return {
            item.metadata.get("key", item.name): _to_json(getattr(value, item.name))
            for item in fields(value)
            if not ("optional" in item.metadata and getattr(value, item.name) is None)
        }
    if isinstance(value, dict):
        return {key: _to_json(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return [_to_json(member) for member in value]
    return value


def _require_members(values: Fields, name: str) -> None:
    """Raise BadData if the list `name` is there and empty."""
    if values.values.get(name) == []:
        raise values.error(f"{values.parent}{name} is empty")
