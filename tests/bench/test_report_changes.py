"""Records compared and merged: a regression told from noise and from a slower machine."""

import copy
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import report_changes
from bench.machine import SCHEMA_VERSION
from tests.helpers.bench_fixtures import invoke as run
from tests.helpers.record_fixtures import drawn, record, runner, written


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
    graph, model = report_changes.changes(old, new, 0.05)
    assert graph.verdict == "the machine"
    assert graph.ratio == pytest.approx(machine, rel=0.01)
    assert (model.against, model.verdict) == ("graph", verdict)
    assert model.ratio == pytest.approx(slow, rel=0.01)
    assert "relative to graph, the same file on the same runtime" in report_changes.table(
        [graph, model], {}
    )


@pytest.mark.parametrize("name", ["sha256", "version"])
def test_another_reference_is_no_measure_of_the_machine(name: str) -> None:
    first = {"ratio_p50": 1}
    old = record(runner("graph", drawn(10), **first), runner("m", drawn(5)))
    new = record(runner("graph", drawn(15), **{**first, name: "other"}), runner("m", drawn(6)))
    graph, model = report_changes.changes(old, new, 0.05)
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


def with_value(name: str, value: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose first runner has this value, in an object of it after a dot."""
    whole, (*outer, key) = copy.deepcopy(found), name.split(".")
    place = whole["runners"][0]
    for each in outer:
        place = place[each]
    place[key] = value
    return whole


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
        *(
            (partial(with_value, name, value), f"{name.rpartition('.')[2]} is {value!r}")
            for name, value in [
                ("photo_ms.total", ""),
                ("ms.p50", 0),
                ("ms.p90", math.nan),
                ("ratio_p50", 1e400),
                ("accuracy", -1),
                ("threads", 10**30),
                ("size_bytes", True),
                ("load_s", [1]),
            ]
        ),
        (lambda found: {**found, "peak_gmacs": {"1": "fast"}}, "1 is 'fast'"),
        (lambda _: record(runner("m", [[0, 1], [2, 3]])), "samples_ns is 0"),
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
