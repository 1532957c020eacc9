"""Hold what `retrain bench` measured as typed values; read them from bench.json, write them."""

import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from bench.machine import Machine, State
from deploy import untrusted_files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, parse_json
from deploy.versioned_json import Fields

SCHEMA_VERSION = 3
"""Records of schema 1 and 2 do not say of which file an accuracy is, so they are refused."""
_REMEDY = "not a file of `retrain bench`, or damaged: measure it again"
_MAX = 1e18
_MIN_MS = 1e-9
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
    seconds: float = 3.0
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    profile: bool = False
    seed: int = 0
    photo_bytes: int | None = None

    @classmethod
    def from_json(cls, values: Fields) -> "Settings":
        """Return the settings of a record."""
        return cls(
            rounds=values.integer("rounds"),
            runs=values.integer("runs"),
            seconds=_number(values, "seconds"),
            threads=values.integers("threads"),
            runtimes=values.texts("runtimes"),
            profile=values.boolean("profile"),
            seed=values.integer("seed", default=0),
            photo_bytes=values.integer_or_none("photo_bytes"),
        )


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
    load_s: float
    multiply_adds: int | None
    first_ns: int
    warm_up: int
    steady: bool
    samples_ns: tuple[int, ...]
    photo_ns: dict[str, tuple[int, ...]]
    bare_bytes: int
    peak_bytes: int
    others_share: float | None = field(metadata={"key": "others"})
    throttled: bool
    bad: bool
    repeated: bool
    round: int

    @classmethod
    def from_json(cls, values: Fields) -> "Round":
        """Return a round of a record."""
        samples = values.integers("samples_ns", least=1, most=int(_MAX))
        if not samples:
            raise values.error(f"{values.parent}samples_ns is empty")
        photo = values.object("photo_ns")
        return cls(
            runtime=values.text("runtime"),
            version=values.text("version"),
            delegate=values.text_or_none("delegate"),
            input=values.text("input"),
            load_s=_number(values, "load_s"),
            multiply_adds=values.integer_or_none("multiply_adds"),
            first_ns=values.integer("first_ns"),
            warm_up=values.integer("warm_up"),
            steady=values.boolean("steady"),
            samples_ns=samples,
            photo_ns={name: photo.integers(name) for name in photo.values},
            bare_bytes=values.integer("bare_bytes"),
            peak_bytes=values.integer("peak_bytes"),
            others_share=_number_or_none(values, "others"),
            throttled=values.boolean("throttled"),
            bad=values.boolean("bad"),
            repeated=values.boolean("repeated"),
            round=values.integer("round"),
        )


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds of a call."""

    p50: float
    p90: float
    p99: float
    mean: float

    @classmethod
    def from_json(cls, values: Fields) -> "Percentiles":
        """Return the percentiles of a record."""
        names = ("p50", "p90", "p99", "mean")
        return cls(*(values.number(name, least=_MIN_MS, most=_MAX) for name in names))


@dataclass(frozen=True)
class OperatorTime:
    """How many operators of a kind a graph has, and the milliseconds that they take in a call."""

    kind: str
    count: int
    ms: float

    @classmethod
    def from_json(cls, values: Fields) -> "OperatorTime":
        """Return the times of one kind of operator."""
        return cls(values.text("kind"), values.integer("count"), _number(values, "ms"))


@dataclass(frozen=True)
class RunnerRecord:
    """The figures of one model on one runtime of one Python, with a number of threads.

    `ratio_p50` is against the first model on as many threads; `gmacs` are billions of
    multiply-adds a second, `share_of_peak` is their share of numpy's; `photo_ms` are medians.
    """

    model: str
    sha256: str
    size_bytes: int
    accuracy: float | None
    accuracy_interval95: tuple[float, float] | None
    runtime: str
    version: str
    delegate: str | None
    input: str
    python: str
    threads: int
    ms: Percentiles
    ratio_p50: float
    ratio_interval95: tuple[float, float]
    per_second: float
    photo_ms: dict[str, float]
    load_s: float
    first_ms: float
    peak_rss_bytes: int
    multiply_adds: int | None
    gmacs: float | None
    share_of_peak: float | None
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
        rounds = tuple(map(Round.from_json, values.objects("rounds")))
        if not rounds:
            raise values.error(f"{values.parent}rounds is empty")
        operators = None
        if values.values.get("operators") is not None:
            operators = tuple(map(OperatorTime.from_json, values.objects("operators")))
        interval = None
        if values.values.get("accuracy_interval95") is not None:
            interval = _pair(values, "accuracy_interval95", 0, 1)
        return cls(
            model=values.text("model"),
            sha256=values.text("sha256"),
            size_bytes=values.integer("size_bytes"),
            accuracy=values.number_or_none("accuracy", least=0, most=1),
            accuracy_interval95=interval,
            runtime=values.text("runtime"),
            version=values.text("version"),
            delegate=values.text_or_none("delegate"),
            input=values.text("input"),
            python=values.text("python"),
            threads=values.integer("threads"),
            ms=Percentiles.from_json(values.object("ms")),
            ratio_p50=_number(values, "ratio_p50"),
            ratio_interval95=_pair(values, "ratio_interval95", -_MAX, _MAX),
            per_second=_number(values, "per_second"),
            photo_ms=_numbers(values, "photo_ms"),
            load_s=_number(values, "load_s"),
            first_ms=_number(values, "first_ms"),
            peak_rss_bytes=values.integer("peak_rss_bytes"),
            multiply_adds=values.integer_or_none("multiply_adds"),
            gmacs=_number_or_none(values, "gmacs"),
            share_of_peak=_number_or_none(values, "share_of_peak"),
            operators=operators,
            rounds=rounds,
        )


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

    @classmethod
    def from_json(cls, values: Fields) -> "NotRun":
        """Return a model without figures of a record."""
        return cls(
            model=values.text("model"),
            runtime=values.text("runtime"),
            threads=values.integer_or_none("threads"),
            python=values.text_or_none("python"),
            reason=values.text("reason"),
        )


@dataclass(frozen=True)
class PythonPackages:
    """The versions of a Python and its packages, its runtimes, and why others do not load."""

    python: str
    numpy: str
    pillow: str
    runtimes: tuple[str, ...]
    unusable: dict[str, str]

    @classmethod
    def from_json(cls, values: Fields) -> "PythonPackages":
        """Return a Python of a record."""
        unusable = values.object("unusable")
        return cls(
            values.text("python"),
            values.text("numpy"),
            values.text("pillow"),
            values.texts("runtimes"),
            {name: unusable.text(name) for name in unusable.values},
        )


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
    steady: float
    least_seconds: float | None = field(default=None, metadata=_OPTIONAL)
    seconds: float


@dataclass(frozen=True)
class Rules:
    """How calls were warmed up, and which share of the CPU taken by others marks a round busy."""

    warm: WarmUpRule
    busy: float

    @classmethod
    def from_json(cls, values: Fields) -> "Rules":
        """Return the rules of a record."""
        warm = values.object("warm")
        rule = WarmUpRule(
            window=warm.integer("window"),
            steady=_number(warm, "steady"),
            least_seconds=_number_or_none(warm, "least_seconds"),
            seconds=_number(warm, "seconds"),
        )
        return cls(rule, _number(values, "busy"))


@dataclass(frozen=True)
class BenchRecord:
    """All that one `retrain bench` measured; `peak_gmacs` is numpy's best by threads."""

    machine: Machine
    graph_sha256: str | None
    state: States
    settings: Settings
    rules: Rules
    pythons: tuple[PythonPackages, ...]
    peak_gmacs: dict[str, float]
    not_run: tuple[NotRun, ...]
    runners: tuple[RunnerRecord, ...]
    seconds: dict[str, float]

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
        runners = tuple(map(RunnerRecord.from_json, values.objects("runners")))
        if not runners:
            raise values.error(f"{values.parent}runners is empty")
        state = values.object("state")
        # Early files of schema 3 have no `not_run`.
        refusals = values.objects("not_run") if "not_run" in values.values else ()
        return cls(
            machine=Machine.from_json(values.object("machine")),
            graph_sha256=values.text_or_none("graph_sha256"),
            state=States(*(State.from_json(state.object(when)) for when in ("before", "after"))),
            settings=Settings.from_json(values.object("settings")),
            rules=Rules.from_json(values.object("rules")),
            pythons=tuple(map(PythonPackages.from_json, values.objects("pythons"))),
            peak_gmacs=_numbers(values, "peak_gmacs"),
            not_run=tuple(map(NotRun.from_json, refusals)),
            runners=runners,
            seconds=_numbers(values, "seconds"),
        )


def to_text(value: Any) -> str:
    """Return JSON values as the text of a file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read(path: Path) -> list[BenchRecord]:
    """Return the record in the file `path`, or those of a merged one; raise BadData."""
    try:
        with damaged(f"{path}: cannot be read", _REMEDY):
            content = parse_json(untrusted_files.read(path, MAX_RECORD_BYTES), MAX_RECORD_BYTES)
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}: not a file of `retrain bench`") from error
    values = versioned_json.read(content, str(path), SCHEMA_VERSION, _REMEDY)
    records = values.objects("records") if "records" in values.values else (values,)
    if not records:
        raise values.error("records is empty")
    for record in records:
        versioned_json.read(record.values, str(path), SCHEMA_VERSION, _REMEDY)
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


def _number(values: Fields, name: str) -> float:
    return values.number(name, least=-_MAX, most=_MAX)


def _number_or_none(values: Fields, name: str) -> float | None:
    return values.number_or_none(name, least=-_MAX, most=_MAX)


def _numbers(values: Fields, name: str) -> dict[str, float]:
    members = values.object(name)
    return {key: _number(members, key) for key in members.values}


def _pair(values: Fields, name: str, least: float, most: float) -> tuple[float, float]:
    numbers = values.numbers(name, least, most)
    if len(numbers) != 2:
        raise values.error(f"{values.parent}{name} has {len(numbers)} members, not 2")
    return numbers[0], numbers[1]
