"""`retrain summary`: what the stages of a run measured."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from deploy.errors import BadData
from deploy.system.terminal import say
from deploy.untrusted_files import damaged, read_json
from retrain.cli.options import json_option, output_dir_option


@click.command()
@output_dir_option
@json_option
def summary(output_dir: Path, as_json: bool) -> None:
    """Print accuracy, size and latency of the graph and of the TFLite model, and the seconds.

    After `retrain train` and `retrain convert`; latency after `retrain bench` of the same files.
    """
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    digest = run.read_contract().graph_sha256
    paths = {"train": run.metrics, "convert": run.conversion}
    found = {
        command: _of_graph(read_json(path, f"run `retrain {command}`"), digest, path, command)
        for command, path in paths.items()
    }
    model = run.accepted_model()
    digest = found["convert"].get("model_sha256")  # records of older versions have none
    if digest and digest != sha256(model.read_bytes()).hexdigest():
        raise BadData(f"{run.conversion}: measured on another {model.name}: run `retrain convert`")
    if run.bench.exists():
        paths["bench"] = run.bench
        bench = read_json(run.bench, "run `retrain bench`")
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (run.graph, model)}
        # Only what was measured of the files that are there now.
        with damaged(f"{run.bench}: cannot be read", "run `retrain bench`"):
            bench["runners"] = [
                each
                for each in bench["runners"]
                if files.get(each["model"], each["sha256"]) == each["sha256"]
            ]
        found["bench"] = bench
    if as_json:
        say(json.dumps({"schema": 1, "bench": None, **found}))
        return
    with damaged(f"{run.conversion}: cannot be read", "run `retrain convert`"):
        measured, agreement = _measured(found["convert"])
    with damaged(f"{run.bench}: cannot be read", "run `retrain bench`"):
        latencies = _latencies(found.get("bench"), (run.graph.name, model.name))
    stages = []
    for command, result in found.items():
        with damaged(f"{paths[command]}: cannot be read", f"run `retrain {command}`"):
            each = ", ".join(f"{name} {taken:.1f}" for name, taken in result["seconds"].items())
            stages.append(f"seconds, {result.get('command', command)}: {each}")
    say(*measured, *latencies, agreement, *stages)


def _measured(conversion: Any) -> tuple[list[str], str]:
    """Return the lines of accuracy and size, and that of the agreement."""
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
    """Return the bench's figures of the file `name` on one thread, or on the fewest."""
    found = [each for each in bench["runners"] if each["model"] == name] if bench else []
    return min(found, key=lambda each: each["threads"], default=None)


def _row(*cells: str) -> str:
    return "{:<28}{:<20}{}".format(*cells).rstrip()


def _of_graph(found: Any, digest: str, path: Path, command: str) -> Any:
    if found.get("graph_sha256") != digest:
        raise BadData(
            f"{path}: measured on another graph than the one there: run `retrain {command}`"
        )
    return found
