"""`retrain train`: the final layer."""

import json
from pathlib import Path
from typing import Any

import click

from retrain.cli.options import json_option, output_dir_option, source, source_options


@click.command()
@source_options
@output_dir_option
@click.option("--how-many-training-steps", default=4000, show_default=True, type=click.IntRange(1))
@click.option(
    "--learning-rate", default=0.01, show_default=True, type=click.FloatRange(0, min_open=True)
)
@click.option(
    "--weight-decay",
    default=0.3,
    show_default=True,
    type=click.FloatRange(0, 10),
    help="Pull on the weights of standardized bottlenecks.",
)
@click.option(
    "--class-weight",
    default="none",
    show_default=True,
    type=click.Choice(["none", "balanced"]),
    help="balanced: as if all classes were equally frequent.",
)
@click.option("--train-batch-size", default=100, show_default=True, type=click.IntRange(1))
@click.option(
    "--validation-batch-size",
    default=100,
    show_default=True,
    type=click.IntRange(-1),
    help="-1: the whole validation set.",
)
@click.option("--eval-step-interval", default=10, show_default=True, type=click.IntRange(1))
@click.option("--testing-percentage", default=10.0, show_default=True, type=float)
@click.option("--validation-percentage", default=10.0, show_default=True, type=float)
@click.option("--split-salt", default="", help="Another salt, another split.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--final-tensor-name", default="final_result", show_default=True)
@json_option
def train(
    output_dir: Path,
    testing_percentage: float,
    validation_percentage: float,
    split_salt: str,
    final_tensor_name: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train the final layer on the photos of DIR, one sub-folder a class."""
    from retrain.head import HeadConfig
    from retrain.progress import Progress
    from retrain.split import SplitConfig
    from retrain.train import TrainConfig
    from retrain.train import train as run

    head = HeadConfig(**{name: settings.pop(name) for name in HeadConfig.__dataclass_fields__})
    config = TrainConfig(
        source(**settings),
        output_dir,
        SplitConfig(testing_percentage, validation_percentage, split_salt),
        head,
        final_tensor_name,
    )
    metrics = run(config, Progress())
    if as_json:
        click.echo(json.dumps(metrics, ensure_ascii=False))
        return
    from retrain.scores import Accuracy

    test = metrics["accuracy"]["testing"]
    click.echo(f"Final test accuracy = {Accuracy(test['right'], test['total'])}")
    click.echo(f"Written to {output_dir}: output_graph.pb, output_labels.txt, metrics.json")
