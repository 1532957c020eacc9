"""Call `retrain bench` with as few calls as possible, in this process where that is enough."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench import compare_models
from bench.worker_process import call
from retrain.cli import commands
from tests.helpers.deploy_fixtures import LABELS

FEW = ("--rounds", "2", "--runs", "8", "--threads", "1")
# The tiny network: 15x15 places of a 3x3 kernel from 3 to 6 channels, then 6 numbers to 4 classes.
MULTIPLY_ADDS = 15 * 15 * 3 * 3 * 3 * 6 + 6 * len(LABELS)


def invoke(*arguments: object) -> Result:
    """Run `retrain bench` with `arguments`."""
    return CliRunner().invoke(commands, ["bench", *map(str, arguments)])


def measure_few(*arguments: object) -> Any:
    """Run `retrain bench` with few calls, and return the record that it prints."""
    result = invoke(*arguments, *FEW, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def call_here(
    name: str,
    function: str,
    arguments: dict[str, Any],
    folder: Path,
    *,
    python: str = sys.executable,
    **options: Any,
) -> Any:
    """Call a function as `bench.worker_process.call` does, but in this process if possible."""
    if python != sys.executable:
        return call(name, function, arguments, folder, python=python, **options)
    module, _, attribute = function.partition(":")
    value = getattr(importlib.import_module(module), attribute)(**arguments)
    return json.loads(json.dumps(value))


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run rounds in this process, with little warm-up; the machine is never busy."""
    monkeypatch.setattr(compare_models, "call", call_here)
    monkeypatch.setattr(compare_models, "BUSY_SHARE", 2.0)
    monkeypatch.setitem(compare_models._PRODUCT.arguments, "sides", (32,))
    monkeypatch.setattr("bench.time_one_round.MIN_WARM_UP_S", 0.0)
    monkeypatch.setattr("bench.time_one_round.gc.disable", lambda: None)
    monkeypatch.setattr("bench.stats.RESAMPLES", 100)


class Clock:
    """A stand-in for the module `time` whose time passes only in `sleep`."""

    def __init__(self) -> None:
        self.ns = 10**12

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.ns += round(seconds * 1e9)

    def perf_counter_ns(self) -> int:
        """Return the time in ns."""
        return self.ns

    def perf_counter(self) -> float:
        """Return the time in seconds."""
        return self.ns / 1e9
