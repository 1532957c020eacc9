"""What bench.json says of the files that a run has now."""

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from bench.record import Percentiles, to_text
from deploy.errors import BadData
from retrain.report.bench_figures import read_bench, runner_of
from retrain.report.columns import columns
from retrain.report.latency import latency_rows
from retrain.report.run_inputs import read_inputs
from retrain.run_folder import RunFolder
from tests.helpers.record_fixtures import draw, record, runner, write_records


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run with a graph, a model and the model of a recipe."""
    folder = RunFolder(tmp_path)
    for path in (folder.graph, folder.model, folder.recipe("int8")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode())
    return folder


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_only_files_of_the_run_have_figures(run: RunFolder) -> None:
    present = (run.graph, run.model, run.recipe("int8"))
    runners = [runner(path.name, draw(1), sha256=digest(path)) for path in present]
    gone = runner("model.tflite", draw(0.5), sha256="0" * 64)
    run.bench.write_text(to_text(record(gone, *runners).to_json()))
    (read,) = read_bench(run)
    assert read.runners == tuple(runners)
    assert runner_of(read, "0" * 64) is None
    run.graph.write_bytes(b"trained again")
    (read,) = read_bench(run)
    assert read.runners == tuple(runners[1:])
    run.bench.write_text(to_text(record(gone).to_json()))
    assert read_bench(run) == ()
    run.bench.unlink()
    assert read_bench(run) == ()


def test_a_merged_file_keeps_the_machines_that_measured_these_files(run: RunFolder) -> None:
    mine, other = (
        record(runner("model.tflite", draw(1), sha256=s)) for s in (digest(run.model), "0")
    )
    write_records(run.folder, bench={"schema": 3, "records": [mine.to_json(), other.to_json()]})
    assert read_bench(run) == (mine,)


def test_a_damaged_file_is_refused_with_the_command(run: RunFolder) -> None:
    run.bench.write_text("{")
    with pytest.raises(
        BadData, match=rf"bench.json: .*run `retrain bench --output-dir {run.folder}`"
    ):
        read_bench(run)


def test_the_first_runtime_on_the_fewest_threads_speaks_for_a_file() -> None:
    two = runner("model.tflite", draw(1), threads=2)
    one = replace(two, threads=1, ms=Percentiles(3, 3, 3, 3))
    faster = replace(one, runtime="tflite-runtime", ms=Percentiles(2, 2, 2, 2))
    assert runner_of(record(two, one, faster), "model.tflite") == one


def test_only_the_latency_of_the_present_files_is_shown(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(folder, tmp_path / "run"))
    graph_sha256 = run.read_contract().graph_sha256
    model_sha256 = sha256(run.model.read_bytes()).hexdigest()

    def times(*digests: str) -> tuple[list[str], list[str]]:
        """Return the times of graph and model, and the files with latency, by a new bench.json."""
        names = ("output_graph.pb", "model.tflite")
        ms = (7.0, 2.0)
        runners = [
            runner(name, draw(time), sha256=digest)
            for name, time, digest in zip(names, ms, digests, strict=True)
        ]
        run.bench.write_text(to_text(record(*runners).to_json()), "utf-8")
        inputs = read_inputs(run)
        shown = [dict(column.facts)["time of a call"] for column in columns(inputs)[:2]]
        return shown, [row.model for row in latency_rows(inputs)]

    both = ["output_graph.pb", "model.tflite"]
    assert times(graph_sha256, model_sha256) == (["7.0 ms", "2.0 ms"], both)
    assert times(graph_sha256, "0" * 64) == (["7.0 ms", "not measured"], both[:1])
    assert times("0" * 64, model_sha256) == (["not measured", "2.0 ms"], both[1:])
