"""`retrain summary`: print what the stages of a run measured."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from deploy.errors import BadData
from deploy.foreign_files import damaged, read_json
from deploy.system.terminal import say
from retrain.cli.options import json_option, output_dir_option


@click.command()
@output_dir_option
@json_option
def summary(output_dir: Path, as_json: bool) -> None:
    """Print accuracy, size and latency of the graph and of the TFLite model.

    It also prints the seconds that each stage took. Run `retrain train` and `retrain convert`
    before, and `retrain bench` for the latency.
    """
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    digest = run.read_contract().graph_sha256
    paths = {"train": run.metrics, "convert": run.conversion}
    records = {
        command: _require_graph(read_json(path, f"run `retrain {command}`"), digest, path, command)
        for command, path in paths.items()
    }
    model = run.accepted_model()
    digest = records["convert"].get("model_sha256")  # records of older versions have none
    if digest and digest != sha256(model.read_bytes()).hexdigest():
        raise BadData(f"{run.conversion}: measured on another {model.name}: run `retrain convert`")
    if run.bench.exists():
        paths["bench"] = run.bench
        bench = read_json(run.bench, "run `retrain bench`")
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (run.graph, model)}
        # Results of files that have changed since are left out.
        with damaged(f"{run.bench}: cannot be read", "run `retrain bench`"):
            bench["runners"] = [
                runner
                for runner in bench["runners"]
                if files.get(runner["model"], runner["sha256"]) == runner["sha256"]
            ]
        records["bench"] = bench
    if as_json:
        say(json.dumps({"schema": 1, "bench": None, **records}))
        return
    with damaged(f"{run.conversion}: cannot be read", "run `retrain convert`"):
        measured, agreement = _measured(records["convert"])
    with damaged(f"{run.bench}: cannot be read", "run `retrain bench`"):
        latencies = _latencies(records.get("bench"), (run.graph.name, model.name))
    stages = []
    for command, result in records.items():
        with damaged(f"{paths[command]}: cannot be read", f"run `retrain {command}`"):
            seconds = ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items())
            stages.append(f"seconds, {result.get('command', command)}: {seconds}")
    say(*measured, *latencies, agreement, *stages)


def _measured(conversion: Any) -> tuple[list[str], str]:
    """Return the lines on accuracy and size, and the line on agreement."""
    both = ("graph", "model")
    return [
        _row("", "output_graph.pb", "model.tflite"),
        _row("test accuracy", *(f"{conversion[name]['accuracy']:.1%}" for name in both)),
        _row(
            f"  95% interval, N={conversion['graph']['total']}",
            *("{:.1%} to {:.1%}".format(*conversion[name]["interval95"]) for name in both),
        ),
        _row("size", *(f"{conversion['bytes'][name] / 1e6:.1f} MB" for name in both)),
    ], f"same best label on {conversion['agreement']:.1%} of the test photos"


def _latencies(bench: Any, names: tuple[str, str]) -> list[str]:
    runners = [_runner(bench, name) for name in names]
    lines = [
        _row(
            f"latency {percentile}",
            *(f"{runner['ms'][percentile]:.2f} ms" if runner else "-" for runner in runners),
        )
        for percentile in ("p50", "p90")
    ]
    return lines if all(runners) else [*lines, "- not measured of this file: run `retrain bench`"]


def _runner(bench: Any, name: str) -> Any:
    """Return the results of the file `name` with the fewest threads; None if it was not timed."""
    runners = [runner for runner in bench["runners"] if runner["model"] == name] if bench else []
    return min(runners, key=lambda runner: runner["threads"], default=None)


def _row(*cells: str) -> str:
    return "{:<28}{:<20}{}".format(*cells).rstrip()


def _require_graph(record: Any, digest: str, path: Path, command: str) -> Any:
    """Return `record`; raise BadData if it was made for a graph of another digest."""
    if record.get("graph_sha256") != digest:
        raise BadData(
            f"{path}: measured on another graph than the one there: run `retrain {command}`"
        )
    return record
