"""Records compared and shown together: a slower model, as opposed to noise or the machine."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench import report_changes
from bench.record import SCHEMA_VERSION, BenchRecord
from tests.helpers.bench_fixtures import invoke
from tests.helpers.record_fixtures import busy, draw, record, runner, write_records


@pytest.mark.parametrize(
    ("new", "verdict", "code"),
    [
        (draw(5.0, seed=1), "noise", 0),
        (draw(5.1, seed=1), "slower", 0),
        (draw(6.0, seed=1), "too slow", 4),
        (draw(4.0, seed=1), "faster", 0),
        (draw(5.5, drift=0.6, seed=3), "noise", 0),
    ],
)
def test_only_a_slowdown_that_is_no_noise_fails(
    tmp_path: Path, new: list[list[int]], verdict: str, code: int
) -> None:
    paths = write_records(tmp_path, old=record(runner("m", draw(5))), new=record(runner("m", new)))
    result = invoke("compare", *paths, "--json")
    assert result.exit_code == code, result.output
    (change,) = json.loads(result.stdout)["changes"]
    assert change["verdict"] == verdict
    assert change["against"] is None
    assert verdict in invoke("compare", *paths).stdout
    assert invoke("compare", *paths, "--max-slowdown", 50).exit_code == 0
    if code:
        assert "slower by more than 5%, and that is no noise: m (LiteRT, 1 thread)" in (
            result.stderr
        )


@pytest.mark.parametrize(("slow", "verdict"), [(1.0, "noise"), (1.2, "too slow")])
@pytest.mark.parametrize("machine", [1.0, 1.5])
def test_a_slower_machine_is_not_a_slower_model(slow: float, verdict: str, machine: float) -> None:
    first: dict[str, Any] = {"ratio_p50": 1}
    old = record(runner("graph", draw(10), **first), runner("m", draw(5)))
    new = record(
        runner("graph", draw(10 * machine, seed=1), **first),
        runner("m", draw(5 * machine * slow, seed=2)),
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
    first: dict[str, Any] = {"ratio_p50": 1}
    old = record(runner("graph", draw(10), **first), runner("m", draw(5)))
    new = record(runner("graph", draw(15), **{**first, name: "other"}), runner("m", draw(6)))
    graph, model = report_changes.changes(old, new, 0.05)
    assert (graph.verdict, model.verdict) == ("too slow", "too slow")
    assert model.against is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    laptop, pi, other, early, newer = write_records(
        tmp_path,
        laptop=record(runner("m", draw(5))),
        pi=record(runner("m", draw(5)), cpu="Cortex-A53"),
        other=record(runner("n", draw(5))),
        early={**record(runner("m", draw(5))).to_json(), "schema": 1},
        newer={**record(runner("m", draw(5))).to_json(), "schema": 5, "min_reader": 4},
    )
    notes = tmp_path / "notes.json"
    notes.write_text('{"schema": 1}')
    for old, new, reason in (
        (laptop, pi, "two machines, Cortex-A76 and Cortex-A53: `retrain bench show OLD NEW`"),
        (laptop, other, "no model on the same runtime and threads is in both"),
        (laptop, notes, "not a file of `retrain bench`"),
        (early, laptop, "early.json: schema 1, not 3: measure it again"),
        (newer, laptop, "newer.json: it needs a reader of version 4"),
        (tmp_path / "none.json", laptop, "none.json: No such file or directory"),
    ):
        result = invoke("compare", old, new)
        assert result.exit_code == 3
        assert reason in result.stderr


@pytest.mark.parametrize(
    ("cpus", "code"),
    [
        (("AMD EPYC", "AMD EPYC, AVX2, AVX-512, VNNI"), 0),
        (("AMD EPYC, AVX2", "AMD EPYC"), 0),
        (("Raspberry Pi 5, ARMv8", "Raspberry Pi 5, ARMv8, dot product"), 0),
        (("AMD EPYC, AVX2", "AMD EPYC, AVX2, AVX-512, VNNI"), 3),
        (("Raspberry Pi 5", "Raspberry Pi 5, ARMv8"), 3),
    ],
)
def test_a_record_from_before_cpus_had_their_instructions_is_of_the_same_machine(
    tmp_path: Path, cpus: tuple[str, str], code: int
) -> None:
    old, new = (record(runner("m", draw(5)), cpu=cpu) for cpu in cpus)
    result = invoke("compare", *write_records(tmp_path, old=old, new=new))
    assert result.exit_code == code, result.output


@pytest.mark.parametrize("words", [["show"], ["plot", "--output", "times.svg"]])
def test_a_run_that_was_not_measured_names_the_command(tmp_path: Path, words: list[str]) -> None:
    result = invoke(*words, "--output-dir", tmp_path)
    assert result.exit_code == 3
    expected = f"bench.json: no such file: run `retrain bench --output-dir {tmp_path}` first"
    assert expected in result.stderr


def test_a_record_of_a_newer_schema_with_unknown_keys_is_read(tmp_path: Path) -> None:
    values = record(runner("m", draw(5))).to_json()
    values = {**values, "schema": SCHEMA_VERSION + 2, "colour": "red"}
    values["runners"][0]["taste"] = 1
    (path,) = write_records(tmp_path, newer=values)
    result = invoke("show", path)
    assert result.exit_code == 0, result.output
    assert "m      LiteRT 2.3.0" in result.stdout


def test_two_machines_side_by_side(tmp_path: Path) -> None:
    laptop, pi = write_records(
        tmp_path,
        laptop=record(runner("graph", draw(12)), runner("m", draw(5)), cpu="Laptop"),
        pi=record(runner("m", draw(40), sha256="another")),
    )
    result = invoke("show", laptop, pi)
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
    assert "| m | LiteRT | 1 |" in invoke("show", laptop, pi, "--markdown").stdout
    assert "- [1] Laptop" in invoke("show", laptop, pi, "--markdown").stdout
    merged = json.loads(invoke("show", laptop, pi, "--json").stdout)
    values = [json.loads(path.read_text()) for path in (laptop, pi)]
    assert merged == {"schema": SCHEMA_VERSION, "records": values}
    (again,) = write_records(tmp_path, merged=merged)
    assert invoke("show", again).stdout == result.stdout
    refused = invoke("compare", again, laptop)
    assert refused.exit_code == 3
    assert "merged.json: 2 records in one: name the file of one machine" in refused.stderr


def two_pythons(*paces: float, versions: tuple[str, str] = ("3.11", "3.13")) -> BenchRecord:
    pairs = zip(paces, versions, strict=True)
    return record(*(runner("m", draw(pace), python=version) for pace, version in pairs))


def test_one_runtime_in_two_pythons_is_two_runners(tmp_path: Path) -> None:
    old, new = write_records(tmp_path, old=two_pythons(5, 8), new=two_pythons(6, 4))
    result = invoke("compare", old, new, "--json")
    assert result.exit_code == 4
    assert "m (LiteRT, Python 3.11, 1 thread)" in result.stderr
    changes = json.loads(result.stdout)["changes"]
    assert [(change["python"], change["verdict"]) for change in changes] == [
        ("Python 3.11", "too slow"), ("Python 3.13", "faster")
    ]  # fmt: skip
    text = invoke("show", old, new).stdout
    assert "LiteRT, Python 3.11 " in text
    assert "LiteRT, Python 3.13 " in text
    (same,) = write_records(tmp_path, same=two_pythons(5, 8, versions=("3.11", "3.11")))
    assert "LiteRT 2.3.0, Python 3.11 (2) " in invoke("show", same).stdout
    # Another Python on another machine is no reason for two rows.
    laptop, pi = (record(runner("m", draw(5), python=version)) for version in ("3.11", "3.13"))
    rows = invoke("show", *write_records(tmp_path, laptop=laptop, pi=pi)).stdout.splitlines()
    assert sum(row.startswith("m ") for row in rows) == 1


def test_what_only_one_file_has_and_busy_rounds_are_said(tmp_path: Path) -> None:
    busy_runner = busy(runner("m", draw(5, seed=1)), 2)
    old, new = write_records(
        tmp_path,
        old=record(runner("m", draw(5)), runner("gone", draw(9))),
        new=record(busy_runner, runner("m", draw(3), threads=2)),
    )
    text = invoke("compare", old, new).stdout
    assert "only in OLD: gone (LiteRT, 1 thread)" in text
    assert "only in NEW: m (LiteRT, 2 threads)" in text
    assert "* the machine was busy or throttled" in text
    assert " *5.0" in text
    values = json.loads(invoke("compare", old, new, "--json").stdout)
    assert [key["model"] for key in values["only_old"]] == ["gone"]
    assert values["changes"][0]["busy"] == ["new"]


def change_value(path: str, value: Any, values: dict[str, Any]) -> Any:
    """Return JSON values of a record with another value at `path`, such as "runners.0.ms.p50"."""
    whole = copy.deepcopy(values)
    *parents, key = path.split(".")
    place: Any = whole
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    if value is MISSING:
        del place[key]
    else:
        place[key] = value
    return whole


MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("machine", MISSING, "machine is missing"),
        ("runners", [], "runners is empty"),
        ("runners", [{"rounds": []}], "runners[0].rounds is empty"),
        ("state", 3, "state is 3, not an object"),
        ("not_run", None, "not_run is None, not a list"),
        ("records", [], "records is empty"),
        ("runners.0.ratio_interval95", [1], "runners[0].ratio_interval95 has 1 member"),
        ("runners.0.threads", "1", "runners[0].threads is '1'"),
        ("runners.0.photo_ms", {"total": ""}, "photo_ms.total is ''"),
        ("runners.0.ms.p50", 0, "ms.p50 is 0"),
        ("runners.0.ms.p90", math.nan, "ms.p90 is nan"),
        ("runners.0.ratio_p50", 1e400, "ratio_p50 is inf"),
        ("runners.0.accuracy", -1, "accuracy is -1"),
        ("runners.0.threads", 10**30, "threads is 1000"),
        ("runners.0.size_bytes", True, "size_bytes is True"),
        ("runners.0.load_s", [1], "load_s is [1]"),
        ("peak_gmacs", {"1": "fast"}, "peak_gmacs.1 is 'fast'"),
        ("runners.0.rounds.1.samples_ns", [2, 0], "rounds[1].samples_ns[1] is 0"),
        ("runners.0.rounds.1.samples_ns", [], "rounds[1].samples_ns is empty"),
    ],
)
@pytest.mark.parametrize("command", ["show", "compare"])
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, path: str, value: Any, reason: str, command: str
) -> None:
    whole = record(runner("m", draw(5))).to_json()
    right, wrong = write_records(tmp_path, right=whole, wrong=change_value(path, value, whole))
    result = invoke(command, right, wrong)
    assert result.exit_code == 3
    assert f"{wrong}: " in result.stderr
    assert "not a file of `retrain bench`, or damaged" in result.stderr
    assert reason in result.stderr


@pytest.mark.parametrize("text", ["[1]", "[", '{"schema": 3, "schema": 3}'])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    result = invoke("show", tmp_path / "list.json")
    assert result.exit_code == 3
    assert "list.json: " in result.stderr
    assert "not a file of `retrain bench`" in result.stderr
