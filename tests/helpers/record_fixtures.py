"""Make records of `retrain bench` whose samples are drawn, not measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import Machine, State
from bench.record import (
    BenchRecord,
    Percentiles,
    PythonPackages,
    Round,
    Rules,
    RunnerRecord,
    Settings,
    States,
    WarmUpRule,
)

ROUND = Round(
    runtime="LiteRT", version="2.3.0", delegate=None, input="float32", load_s=0.1,
    multiply_adds=None, first_ns=9_000_000, warm_up=10, steady=True, samples_ns=(1,), photo_ns={},
    bare_bytes=1, peak_bytes=2, others_share=0.0, throttled=False, bad=False, repeated=False,
    round=0,
)  # fmt: skip


def draw(ms: float, rounds: int = 5, drift: float = 0.0, seed: int = 0) -> list[list[int]]:
    """Return rounds of samples about `ms`, each round off by up to the share `drift`."""
    random = np.random.default_rng(seed)
    speeds = random.uniform(1 - drift, 1 + drift, rounds)
    return [[int(ns) for ns in random.normal(ms * 1e6 * speed, 1e4, 40)] for speed in speeds]


def runner(model: str, rounds: list[list[int]], threads: int = 1, **values: Any) -> RunnerRecord:
    """Return a runner with these rounds of samples; `values` are other fields of it."""
    p50 = float(np.median(np.concatenate(rounds))) / 1e6
    usual = RunnerRecord(
        model=model, sha256=model, size_bytes=1000, accuracy=None, accuracy_interval95=None,
        runtime="LiteRT", version="2.3.0", delegate=None, input="float32", python="3.11",
        threads=threads, ms=Percentiles(p50, p50, p50, p50), ratio_p50=0.5,
        ratio_interval95=(0.4, 0.6), per_second=1e3 / p50, photo_ms={}, load_s=0.1, first_ms=9.0,
        peak_rss_bytes=10**7, multiply_adds=None, gmacs=None, share_of_peak=None, operators=None,
        rounds=tuple(replace(ROUND, samples_ns=tuple(samples)) for samples in rounds),
    )  # fmt: skip
    return replace(usual, **values)


def busy(runner: RunnerRecord, number: int) -> RunnerRecord:
    """Return the runner with a busy machine in its round `number`."""
    rounds = list(runner.rounds)
    rounds[number] = replace(rounds[number], bad=True)
    return replace(runner, rounds=tuple(rounds))


def record(*runners: RunnerRecord, cpu: str = "Cortex-A76") -> BenchRecord:
    """Return the record of a small machine with these runners."""
    state = State(load=0.1, mhz=1800.0, celsius=50.0, throttled=0)
    return BenchRecord(
        machine=Machine(
            cpu=cpu, architecture="aarch64", cores=4, os="Linux", python="3.11",
            governor="performance", memory_bytes=8 * 10**9,
        ),
        graph_sha256=None,
        state=States(state, state),
        settings=Settings(rounds=5, runs=40, photo_bytes=1000),
        rules=Rules(WarmUpRule(window=5, steady=0.05, least_seconds=0.5, seconds=10.0), 0.1),
        pythons=(PythonPackages("3.11", "2.0", "12.0", ("LiteRT",), {}),),
        peak_gmacs={"1": 20.0},
        not_run=(),
        runners=runners,
        seconds={"bench": 1.0},
    )  # fmt: skip


def write_records(folder: Path, **records: Any) -> list[Path]:
    """Write each record, or each JSON value, to NAME.json in `folder`; return the paths."""
    paths = [folder / f"{name}.json" for name in records]
    for path, value in zip(paths, records.values(), strict=True):
        values = value.to_json() if isinstance(value, BenchRecord) else value
        path.write_text(json.dumps(values), "utf-8")
    return paths
