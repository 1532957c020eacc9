"""`retrain summary`: print what the stages of a run measured."""

import json
from collections.abc import Sequence
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
    from retrain.report.bench_figures import read_bench, runner_of
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    graph_sha256 = run.read_contract().graph_sha256
    train_again = f"run `{run.command('train', 'DIR')}`"
    convert_again = remedy_for(run.conversion)
    metrics = read_json(run.metrics, train_again)
    _require_graph(metrics, graph_sha256, run.metrics, train_again)
    conversion_json = read_json(run.conversion, convert_again)
    _require_graph(conversion_json, graph_sha256, run.conversion, convert_again)
    model = run.accepted_model()
    conversion = ConversionResult.from_json(conversion_json, run.conversion)
    model_sha256 = sha256(model.read_bytes()).hexdigest()
    # Versions before the digest wrote none.
    if conversion.model_sha256 not in ("", model_sha256):
        raise BadData(f"{run.conversion}: measured on another {model.name}: {convert_again}")
    bench = next(iter(read_bench(run)), None)
    if as_json:
        bench_json = bench.to_json() if bench else None
        records = {"bench": bench_json, "train": metrics, "convert": conversion_json}
        say(json.dumps({"schema": _SCHEMA_VERSION, **records}))
        return
    runners = [
        runner_of(bench, digest) if bench else None for digest in (graph_sha256, model_sha256)
    ]
    with damaged(f"{run.metrics}: cannot be read", train_again):
        train_seconds = _seconds(metrics.get("command", "train"), metrics["seconds"])
    latencies = [
        _latency("p50", [runner.ms.p50 if runner else None for runner in runners]),
        _latency("p90", [runner.ms.p90 if runner else None for runner in runners]),
    ]
    missing = f"- not measured of this file: run `{run.command('bench')}`"
    say(
        *align([*_measured(conversion), *latencies], (0, 1, 2)),
        *([] if all(runners) else [missing]),
        f"same best label on {conversion.parity.agreement:.1%} of the test photos",
        train_seconds,
        _seconds("convert", conversion.seconds),
        *([_seconds("bench", bench.seconds)] if bench else []),
    )


def _require_graph(record: Any, graph_sha256: str, path: Path, remedy: str) -> None:
    """Raise BadData if the record at `path` was measured on another graph."""
    if record.get("graph_sha256") != graph_sha256:
        raise BadData(f"{path}: measured on another graph than the one there: {remedy}")


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


def _latency(percentile: str, times: Sequence[float | None]) -> tuple[str, ...]:
    """Return the row of a percentile of the latency of both files, in milliseconds."""
    texts = ("-" if time is None else f"{time:.2f} ms" for time in times)
    return (f"latency {percentile}", *texts)


def _seconds(command: str, seconds: Any) -> str:
    stages = ", ".join(f"{stage} {duration:.1f}" for stage, duration in seconds.items())
    return f"seconds, {command}: {stages}"
