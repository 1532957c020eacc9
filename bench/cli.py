"""`retrain bench`: the figures of a run folder, as a table or as JSON."""

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--output-dir",
    default=Path("retrained"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The run folder, with output_graph.pb and model.tflite.",
)
@click.option(
    "--runs",
    default=100,
    show_default=True,
    type=click.IntRange(min=50),
    help="Timed runs of each.",
)
@click.option(
    "--warmup",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    help="Runs of each before the timed ones.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="CPU threads, the same for both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(output_dir: Path, runs: int, warmup: int, threads: int, as_json: bool) -> None:
    """Time the TFLite model against the frozen graph on this CPU.

    The figures, raw samples included, are saved as bench.json in the run folder.
    """
    from bench.latency import Settings, compare
    from bench.machine import save

    click.echo(f"timing {runs} runs of each, threads: {threads}", err=True)
    figures = compare(output_dir, Settings(runs, warmup, threads))
    text = save(output_dir / "bench.json", figures)
    click.echo(text if as_json else table(json.loads(text)), nl=not as_json)


def table(record: dict[str, Any]) -> str:
    """Return the text that shows a record of bench.json to a person."""
    machine, settings, runners = record["machine"], record["settings"], record["runners"]
    graph, model = runners.values()
    rows = [
        ("", *runners),
        ("runtime", *(f"{each['runtime']} {each['version']}" for each in runners.values())),
        ("delegate", *(each["delegate"] or "none" for each in runners.values())),
        ("input", *(each["input"] for each in runners.values())),
        ("size (MB)", *(f"{each['size_bytes'] / 1e6:.2f}" for each in runners.values())),
        ("load (s)", *(f"{each['load_s']:.3f}" for each in runners.values())),
    ]
    for name in graph["ms"]:
        rows.append((f"{name} (ms)", *(f"{each['ms'][name]:.3f}" for each in runners.values())))
    return "\n".join(
        [
            f"{machine['cpu']} ({machine['architecture']}), {machine['cores']} cores",
            f"{machine['os']}, Python {machine['python']}",
            f"threads: {settings['threads']}, batch: 1, timed runs of each: {settings['runs']}",
            "",
            *(f"{name:<10}{first:>20}{second:>22}" for name, first, second in rows),
            "",
            _verdict(record["ratio_p50"], model, machine["architecture"]),
        ]
    )


def _verdict(ratio: float, model: dict[str, Any], architecture: str) -> str:
    if ratio <= 1:
        pace = f"{1 / ratio:.1f} times as fast"
        return f"model.tflite takes {ratio:.2f} of the frozen graph's time: {pace}"
    text = f"model.tflite is slower here: it takes {ratio:.2f} times the frozen graph's time"
    x86 = architecture.lower() in ("x86_64", "amd64", "i386", "i686")
    if x86 and model["runtime"] == "tflite-runtime" and model["input"] == "uint8":
        text += "\n(tflite-runtime has no fast int8 kernels on x86; it does on ARM)"
    return text
