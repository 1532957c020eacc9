"""`retrain summary`: what the stages of a run measured."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from deploy.errors import BadData
from deploy.text import say
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
    found = {
        command: _of_graph(_read(path, command), digest, path, command)
        for command, path in (("train", run.metrics), ("convert", run.conversion))
    }
    model = run.accepted_model()
    measured = found["convert"].get("model_sha256")  # records of older versions have none
    if measured and measured != sha256(model.read_bytes()).hexdigest():
        raise BadData(f"{run.conversion}: measured on another {model.name}: run `retrain convert`")
    if run.bench.exists():
        bench = _read(run.bench, "bench")
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (run.graph, model)}
        # Only what was measured of the files that are there now.
        bench["runners"] = [
            each
            for each in bench["runners"]
            if files.get(each["model"], each["sha256"]) == each["sha256"]
        ]
        found["bench"] = bench
    if as_json:
        say(json.dumps({"schema": 1, "bench": None, **found}))
        return
    conversion = found["convert"]
    both = ("graph", "model")
    runners = [_runner(found.get("bench"), path.name) for path in (run.graph, model)]
    _row("", "output_graph.pb", "model.tflite")
    _row("test accuracy", *(f"{conversion[name]['accuracy']:.1%}" for name in both))
    _row(
        f"  95% interval, N={conversion['graph']['total']}",
        *("{:.1%} to {:.1%}".format(*conversion[name]["interval95"]) for name in both),
    )
    _row("size", *(f"{conversion['bytes'][name] / 1e6:.1f} MB" for name in both))
    for percentile in ("p50", "p90"):
        _row(
            f"latency {percentile}",
            *(f"{runner['ms'][percentile]:.2f} ms" if runner else "-" for runner in runners),
        )
    if not all(runners):
        say("- not measured of this file: run `retrain bench`")
    say(f"same best label on {conversion['agreement']:.1%} of the test photos")
    for command, result in found.items():
        stages = ", ".join(f"{name} {taken:.1f}" for name, taken in result["seconds"].items())
        say(f"seconds, {result.get('command', command)}: {stages}")


def _runner(bench: Any, name: str) -> Any:
    """Return the bench's figures of the file `name` on one thread, or on the fewest."""
    found = [each for each in bench["runners"] if each["model"] == name] if bench else []
    return min(found, key=lambda each: each["threads"], default=None)


def _row(*cells: str) -> None:
    say("{:<28}{:<20}{}".format(*cells).rstrip())


def _read(path: Path, command: str) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadData(f"{path}: cannot be read ({reason}): run `retrain {command}`") from error


def _of_graph(found: Any, digest: str, path: Path, command: str) -> Any:
    if found.get("graph_sha256") != digest:
        raise BadData(
            f"{path}: measured on another graph than the one there: run `retrain {command}`"
        )
    return found
