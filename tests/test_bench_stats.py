"""What samples say: intervals, and a regression told from noise and from a slower machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from deploy_fixtures import write_run

from bench import bare, changes, repeat, stats
from bench.machine import SCHEMA_VERSION
from bench.stats import change, ratio, variation
from deploy.errors import RetrainError
from retrain.cli import commands


def drawn(ms: float, rounds: int = 5, drift: float = 0.0, seed: int = 0) -> list[list[int]]:
    """Return rounds of samples about `ms`, each round off by up to the share `drift`."""
    random = np.random.default_rng(seed)
    speeds = random.uniform(1 - drift, 1 + drift, rounds)
    return [[int(ns) for ns in random.normal(ms * 1e6 * speed, 1e4, 40)] for speed in speeds]


def test_a_drift_that_both_have_does_not_widen_the_interval() -> None:
    reference = drawn(10, drift=0.4)
    half = [[ns // 2 for ns in each] for each in reference]
    value, (low, high) = ratio(half, reference)
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5), rel=1e-6)


def test_rounds_that_differ_widen_the_interval() -> None:
    value, (low, high) = ratio(drawn(5, drift=0.4, seed=1), drawn(10, drift=0.4, seed=2))
    assert low < value < high
    assert high - low > 0.05
    _, (calm_low, calm_high) = ratio(drawn(5), drawn(10))
    assert calm_high - calm_low < 0.01


@pytest.mark.parametrize("rounds", [3, 5, 12])
def test_the_interval_misses_the_truth_about_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    # Without its correction for few rounds, 25%, 9% and 5% are missed.
    monkeypatch.setattr(stats, "RESAMPLES", 200)
    random = np.random.default_rng(3)
    missed, times = 0, 300
    for _ in range(times):
        paces = 1e6 * np.exp(random.normal(0, 0.05, (2, rounds)))
        news, olds = ([list(random.normal(pace, 1e4, 20)) for pace in several] for several in paces)
        low, high = ratio(news, olds)[1]
        missed += not low <= 1 <= high
    assert 0.01 < missed / times < 0.08


def test_the_change_of_an_anchor_is_divided_out() -> None:
    slow = 1.3
    value, _ = change(drawn(5 * slow), drawn(5))
    assert value == pytest.approx(slow, rel=0.01)
    value, (low, high) = change(drawn(5 * slow), drawn(5), (drawn(10 * slow), drawn(10)))
    assert value == pytest.approx(1, rel=0.01)
    assert low < 1.001
    assert high > 0.999


def test_variation_is_that_of_the_textbook() -> None:
    assert variation([8, 10, 12]) == pytest.approx(0.2)


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


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["bench", *map(str, arguments)])


def written(folder: Path, **records: Any) -> list[Path]:
    paths = [folder / f"{name}.json" for name in records]
    for path, each in zip(paths, records.values(), strict=True):
        path.write_text(json.dumps(each), "utf-8")
    return paths


@pytest.mark.parametrize(
    ("new", "verdict", "code"),
    [
        (drawn(5.0, seed=1), "noise", 0),
        (drawn(5.1, seed=1), "slower", 0),
        (drawn(6.0, seed=1), "too slow", 4),
        (drawn(4.0, seed=1), "faster", 0),
        (drawn(5.5, drift=0.6, seed=3), "noise", 0),
    ],
)
def test_only_a_slowdown_that_is_no_noise_fails(
    tmp_path: Path, new: list[list[int]], verdict: str, code: int
) -> None:
    paths = written(tmp_path, old=record(runner("m", drawn(5))), new=record(runner("m", new)))
    result = run("--compare", *paths, "--json")
    assert result.exit_code == code, result.output
    (found,) = json.loads(result.stdout)["changes"]
    assert found["verdict"] == verdict
    assert found["against"] is None
    assert verdict in run("--compare", *paths).stdout
    assert run("--compare", *paths, "--max-slowdown", 50).exit_code == 0
    if code:
        assert "slower by more than 5%, and that is no noise: m (LiteRT, 1 thread)" in (
            result.stderr
        )


@pytest.mark.parametrize(("slow", "verdict"), [(1.0, "noise"), (1.2, "too slow")])
@pytest.mark.parametrize("machine", [1.0, 1.5])
def test_a_slower_machine_is_not_a_slower_model(slow: float, verdict: str, machine: float) -> None:
    first = {"ratio_p50": 1}
    old = record(runner("graph", drawn(10), **first), runner("m", drawn(5)))
    new = record(
        runner("graph", drawn(10 * machine, seed=1), **first),
        runner("m", drawn(5 * machine * slow, seed=2)),
    )
    graph, model = changes.changes(old, new, 0.05)
    assert graph.verdict == "the machine"
    assert graph.ratio == pytest.approx(machine, rel=0.01)
    assert (model.against, model.verdict) == ("graph", verdict)
    assert model.ratio == pytest.approx(slow, rel=0.01)
    assert "relative to graph, the same file on the same runtime" in changes.table(
        [graph, model], {}
    )


@pytest.mark.parametrize("name", ["sha256", "version"])
def test_another_reference_is_no_measure_of_the_machine(name: str) -> None:
    first = {"ratio_p50": 1}
    old = record(runner("graph", drawn(10), **first), runner("m", drawn(5)))
    new = record(runner("graph", drawn(15), **{**first, name: "other"}), runner("m", drawn(6)))
    graph, model = changes.changes(old, new, 0.05)
    assert (graph.verdict, model.verdict) == ("too slow", "too slow")
    assert model.against is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one, pi, other = written(
        tmp_path,
        one=record(runner("m", drawn(5))),
        pi=record(runner("m", drawn(5)), cpu="Cortex-A53"),
        other=record(runner("n", drawn(5))),
    )
    notes = tmp_path / "notes.json"
    notes.write_text('{"schema": 1}')
    early = tmp_path / "early.json"
    early.write_text(json.dumps({**record(runner("m", drawn(5))), "schema": 1}))
    for old, new, reason in (
        (one, pi, "measured on two machines, Cortex-A76 and Cortex-A53: --merge shows both"),
        (one, other, "no model on the same runtime and threads is in both"),
        (one, notes, "notes.json: not a file of `retrain bench`"),
        (early, one, "early.json: schema 1, not 3: measure it again"),
        (tmp_path / "none.json", one, "none.json: not a file of `retrain bench`"),
    ):
        result = run("--compare", old, new)
        assert result.exit_code == 3
        assert reason in result.stderr


def test_two_machines_side_by_side(tmp_path: Path) -> None:
    laptop, pi = written(
        tmp_path,
        laptop=record(runner("graph", drawn(12)), runner("m", drawn(5)), cpu="Laptop"),
        pi=record(runner("m", drawn(40), sha256="another")),
    )
    result = run("--merge", laptop, pi)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("[1] Laptop (aarch64), 4 cores")
    assert any(line.startswith("[2] Cortex-A76 (aarch64), 4 cores") for line in lines)
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(("graph", "m "))}
    assert float(rows["graph"][3]) == pytest.approx(12, rel=0.01)
    assert [float(rows["m"][i]) for i in (3, 5)] == pytest.approx([5, 40], rel=0.01)
    assert lines[-1] == "m: not the same file everywhere"
    assert "[1] ratio: p50 against that of graph (LiteRT) on as many threads" in lines
    assert "[2] ratio: p50 against that of m (LiteRT) on as many threads" in lines
    assert "| m | LiteRT | 1 |" in run("--merge", laptop, pi, "--markdown").stdout
    assert "- [1] Laptop" in run("--merge", laptop, pi, "--markdown").stdout
    merged = json.loads(run("--merge", laptop, pi, "--json").stdout)
    both = [json.loads(path.read_text()) for path in (laptop, pi)]
    assert merged == {"schema": SCHEMA_VERSION, "records": both}
    (again,) = written(tmp_path, merged=merged)
    assert run("--merge", again).stdout == result.stdout
    refused = run("--compare", again, laptop)
    assert refused.exit_code == 3
    assert "merged.json: 2 records in one: name the file of one machine" in refused.stderr


def two_pythons(*paces: float, versions: tuple[str, str] = ("3.11", "3.13")) -> dict[str, Any]:
    pairs = zip(paces, versions, strict=True)
    return record(*(runner("m", drawn(pace), python=version) for pace, version in pairs))


def test_one_runtime_in_two_pythons_is_two_runners(tmp_path: Path) -> None:
    old, new = written(tmp_path, old=two_pythons(5, 8), new=two_pythons(6, 4))
    result = run("--compare", old, new, "--json")
    assert result.exit_code == 4
    assert "m (LiteRT, Python 3.11, 1 thread)" in result.stderr
    found = json.loads(result.stdout)["changes"]
    assert [(each["python"], each["verdict"]) for each in found] == [
        ("Python 3.11", "too slow"), ("Python 3.13", "faster")
    ]  # fmt: skip
    text = run("--merge", old, new).stdout
    assert "LiteRT, Python 3.11 " in text
    assert "LiteRT, Python 3.13 " in text
    (same,) = written(tmp_path, same=two_pythons(5, 8, versions=("3.11", "3.11")))
    assert "LiteRT 2.3.0, Python 3.11 (2) " in run("--merge", same).stdout
    # Another Python on another machine is no reason for two rows.
    one, pi = (record(runner("m", drawn(5), python=version)) for version in ("3.11", "3.13"))
    rows = run("--merge", *written(tmp_path, one=one, pi=pi)).stdout.splitlines()
    assert sum(row.startswith("m ") for row in rows) == 1


def test_what_only_one_file_has_and_busy_rounds_are_said(tmp_path: Path) -> None:
    busy = runner("m", drawn(5, seed=1))
    busy["rounds"][2]["bad"] = True
    old, new = written(
        tmp_path,
        old=record(runner("m", drawn(5)), runner("gone", drawn(9))),
        new=record(busy, runner("m", drawn(3), threads=2)),
    )
    text = run("--compare", old, new).stdout
    assert "only in OLD: gone (LiteRT, 1 thread)" in text
    assert "only in NEW: m (LiteRT, 2 threads)" in text
    assert "* the machine was busy or throttled" in text
    assert " *5.0" in text
    told = json.loads(run("--compare", old, new, "--json").stdout)
    assert [each["model"] for each in told["only_old"]] == ["gone"]
    assert told["changes"][0]["busy"] == ["new"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda found: {"schema": found["schema"], "runners": [{"rounds": []}]}, "has no machine"),
        (lambda found: {**found, "runners": []}, "runners has 0 members"),
        (lambda found: {**found, "runners": [{"rounds": []}]}, "runners has no model"),
        (lambda found: {**found, "state": 3}, "state is no object"),
        (lambda found: {**found, "not_run": None}, "not_run is no list"),
        (lambda found: {**found, "records": []}, "list index out of range"),
        (lambda found: [found], "not a file of `retrain bench`"),
        (
            lambda found: {**found, "runners": [{**found["runners"][0], "ratio_interval95": [1]}]},
            "ratio_interval95 has 1 members",
        ),
        (
            lambda found: {**found, "runners": [{**found["runners"][0], "threads": "1"}]},
            "threads is '1'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["--merge", "--compare"])
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, damage: Any, reason: str, command: str
) -> None:
    whole = record(runner("m", drawn(5)))
    good, bad = written(tmp_path, good=whole, bad=damage(whole))
    result = run(command, good, bad)
    assert result.exit_code == 3
    assert "bad.json: not a file of `retrain bench`" in result.stderr
    assert reason in result.stderr


def test_repeated_runs_are_summed_up() -> None:
    records = [
        record(runner("graph", drawn(10 * drift), ratio_p50=1.0), runner("m", drawn(5 * drift)))
        for drift in (0.8, 1.0, 1.2)
    ]
    graph, model = repeat.summary(records)
    assert graph["p50_variation"] == pytest.approx(0.2, rel=0.02)
    assert (graph["ratio_variation"], model["ratio_variation"]) == (0, 0)
    text = repeat.table([graph, model])
    assert "20.0%" in text
    assert "0.500 0.500 0.500" in text
    # What did not run each time has no variation.
    (only,) = repeat.summary([*records, record(runner("m", drawn(5)))])
    assert only["model"] == "m"


@pytest.mark.parametrize(
    ("ratios", "bound", "code"), [((0.5, 0.5), 8, 0), ((0.4, 0.5), 8, 4), ((0.4, 0.5), None, 0)]
)
def test_ratios_that_vary_more_than_asked_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratios: Any, bound: int | None, code: int
) -> None:
    records = [record(runner("m", drawn(5), ratio_p50=each)) for each in ratios]
    monkeypatch.setattr(repeat, "_bench", lambda _: records.pop(0))
    arguments = ["--times", "2", "--save", str(tmp_path / "figures.json"), "model.tflite"]
    arguments += ["--max-variation", str(bound)] if bound else []
    result = CliRunner().invoke(repeat.main, arguments)
    assert "m      LiteRT" in result.stdout
    assert (tmp_path / "figures.json").exists()
    error = result.exception
    assert (error.exit_code if isinstance(error, RetrainError) else result.exit_code) == code
    if code:
        assert "m (LiteRT, 1 thread): its ratio varies by 15.7%" in str(error)


def test_a_bench_that_fails_ends_the_repetition_with_its_message_and_exit_code(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "bench.repeat", tmp_path / "missing.tflite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "missing.tflite: not there" in done.stderr
    assert "a bug" not in done.stderr


@pytest.mark.parametrize(("bare_ns", "code"), [(10_000, 0), (9_000, 4)])
def test_our_call_is_held_against_a_bare_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bare_ns: int, code: int
) -> None:
    monkeypatch.setattr(bare, "call", lambda *_, **__: ([10_000] * 20, [bare_ns] * 20))
    (tmp_path / "model.tflite").write_bytes(b"")
    result = CliRunner().invoke(bare.main, [str(tmp_path / "model.tflite"), "--rounds", "2"])
    assert f"ours 0.010 ms, bare {bare_ns / 1e6:.3f} ms" in result.stdout
    error = result.exception
    assert (error.exit_code if isinstance(error, RetrainError) else result.exit_code) == code


def test_both_loops_run_the_model(tmp_path: Path) -> None:
    ours, by_hand = bare.both(str(write_run(tmp_path) / "model.tflite"), 1, "LiteRT", 25)
    assert (len(ours), len(by_hand)) == (30, 30)
    assert min(*ours, *by_hand) > 0
