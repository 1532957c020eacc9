"""`retrain summary`: print what the stages of a run measured."""

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.errors import BadData
from deploy.system.terminal import align, say
from deploy.untrusted_files import damaged, read_json
from retrain.cli.options import json_option, output_dir_option

if TYPE_CHECKING:
    from retrain.conversion.result import ConversionResult

_SCHEMA_VERSION = 1


@click.command()
@output_dir_option
@json_option
def summary(output_dir: Path, as_json: bool) -> None:
    """Print accuracy, size and latency of the graph and of the TFLite model, and the seconds.

    Run it after `retrain train` and `retrain convert`. Latency is of `retrain bench` of the same
    files.
    """
    from retrain.conversion.result import ConversionResult, remedy_for
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    graph_sha256 = run.read_contract().graph_sha256
    train_again, bench_again = (
        f"run `{run.command(*words)}`" for words in (("train", "DIR"), ("bench",))
    )
    convert_again = remedy_for(run.conversion)
    metrics = read_json(run.metrics, train_again)
    _require_graph(metrics, graph_sha256, run.metrics, train_again)
    conversion_json = read_json(run.conversion, convert_again)
    _require_graph(conversion_json, graph_sha256, run.conversion, convert_again)
    model = run.accepted_model()
    conversion = ConversionResult.from_json(conversion_json, run.conversion)
    digests = {path.name: sha256(path.read_bytes()).hexdigest() for path in (run.graph, model)}
    # Versions before the digest wrote none.
    if conversion.model_sha256 not in ("", digests[model.name]):
        raise BadData(f"{run.conversion}: measured on another {model.name}: {convert_again}")
    bench = _read_bench(run.bench, digests, bench_again) if run.bench.exists() else None
    if as_json:
        records = {"bench": bench, "train": metrics, "convert": conversion_json}
        say(json.dumps({"schema": _SCHEMA_VERSION, **records}))
        return
    with damaged(f"{run.bench}: cannot be read", bench_again):
        runners = [_runner(bench, name) for name in (run.graph.name, model.name)]
        latencies = _latencies(runners)
        bench_seconds = [_seconds("bench", bench["seconds"])] if bench else []
    with damaged(f"{run.metrics}: cannot be read", train_again):
        train_seconds = _seconds(metrics.get("command", "train"), metrics["seconds"])
    missing = [] if all(runners) else [f"- not measured of this file: {bench_again}"]
    say(
        *align([*_measured(conversion), *latencies], (0, 1, 2)),
        *missing,
        f"same best label on {conversion.parity.agreement:.1%} of the test photos",
        train_seconds,
        _seconds("convert", conversion.seconds),
        *bench_seconds,
    )


def _require_graph(record: Any, graph_sha256: str, path: Path, remedy: str) -> None:
    """Raise BadData if the record at `path` was measured on another graph."""
    if record.get("graph_sha256") != graph_sha256:
        raise BadData(f"{path}: measured on another graph than the one there: {remedy}")


def _read_bench(path: Path, digests: dict[str, str], remedy: str) -> dict[str, Any]:
    """Return the bench's record, without what was measured of other files than those of `digests`.

    `digests` are SHA-256 by name.
    """
    bench = read_json(path, remedy)
    with damaged(f"{path}: cannot be read", remedy):
        bench["runners"] = [
            runner
            for runner in bench["runners"]
            if digests.get(runner["model"], runner["sha256"]) == runner["sha256"]
        ]
    return bench


def _measured(conversion: "ConversionResult") -> list[tuple[str, ...]]:
    """Return the rows of accuracy and size."""
    accuracies = conversion.parity.graph, conversion.parity.model
    return [
        ("", "output_graph.pb", "model.tflite"),
        ("test accuracy", *(f"{accuracy.value:.1%}" for accuracy in accuracies)),
        (
            f"  95% interval, N={conversion.parity.graph.total}",
            *("{:.1%} to {:.1%}".format(*accuracy.interval) for accuracy in accuracies),
        ),
        (
            "size",
            f"{conversion.graph_bytes / 1e6:.1f} MB",
            f"{conversion.model_bytes / 1e6:.1f} MB",
        ),
    ]


def _latencies(runners: list[Any]) -> list[tuple[str, ...]]:
    """Return the rows of the latency of both files."""
    return [
        (
            f"latency {percentile}",
            *(f"{runner['ms'][percentile]:.2f} ms" if runner else "-" for runner in runners),
        )
        for percentile in ("p50", "p90")
    ]


def _runner(bench: Any, name: str) -> Any:
    """Return the bench's figures of the file `name` on one thread, or on the fewest."""
    runners = [runner for runner in bench["runners"] if runner["model"] == name] if bench else []
    return min(runners, key=lambda runner: runner["threads"], default=None)


def _seconds(command: str, seconds: Any) -> str:
    stages = ", ".join(f"{stage} {duration:.1f}" for stage, duration in seconds.items())
    return f"seconds, {command}: {stages}"
