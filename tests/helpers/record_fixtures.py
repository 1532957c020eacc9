"""Records of `retrain bench` with samples that are drawn, not measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import SCHEMA_VERSION


def drawn(ms: float, rounds: int = 5, drift: float = 0.0, seed: int = 0) -> list[list[int]]:
    """Return rounds of samples about `ms`, each round off by up to the share `drift`."""
    random = np.random.default_rng(seed)
    speeds = random.uniform(1 - drift, 1 + drift, rounds)
    return [[int(ns) for ns in random.normal(ms * 1e6 * speed, 1e4, 40)] for speed in speeds]


def runner(model: str, rounds: list[list[int]], threads: int = 1, **others: Any) -> dict[str, Any]:
    p50 = float(np.median(np.concatenate(rounds))) / 1e6
    turn = {"bad": False, "steady": True, "others": 0.0, "throttled": False}
    return {
        "model": model, "sha256": model, "size_bytes": 1000, "runtime": "LiteRT",
        "version": "2.3.0", "python": "3.11", "threads": threads, "delegate": None,
        "input": "float32", "accuracy": None, "accuracy_interval95": None,
        "ms": {"p50": p50, "p90": p50, "p99": p50, "mean": p50},
        "ratio_p50": 0.5, "ratio_interval95": [0.4, 0.6], "per_second": 1e3 / p50,
        "photo_ms": {}, "load_s": 0.1, "first_ms": 9.0, "peak_rss_bytes": 10**7,
        "gmacs": None, "share_of_peak": None, "operators": None,
        "rounds": [{"samples_ns": each, **turn} for each in rounds], **others,
    }  # fmt: skip


def record(*runners: dict[str, Any], cpu: str = "Cortex-A76") -> dict[str, Any]:
    state = {"load": 0.1, "mhz": 1800.0, "celsius": 50.0, "throttled": 0}
    return {
        "schema": SCHEMA_VERSION,
        "machine": {
            "cpu": cpu, "architecture": "aarch64", "cores": 4, "os": "Linux", "python": "3.11",
            "governor": "performance", "memory_bytes": 8 * 10**9,
        },
        "state": {"before": state, "after": state},
        "settings": {"rounds": 5, "runs": 40, "seconds": 3.0, "profile": False},
        "rules": {"warm": {"seconds": 10.0}},
        "peak_gmacs": {"1": 20.0},
        "not_run": [],
        "runners": list(runners),
    }  # fmt: skip


def written(folder: Path, **records: Any) -> list[Path]:
    paths = [folder / f"{name}.json" for name in records]
    for path, each in zip(paths, records.values(), strict=True):
        path.write_text(json.dumps(each), "utf-8")
    return paths
