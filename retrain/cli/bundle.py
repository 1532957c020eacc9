"""`retrain bundle`: write the folder that is copied to a device."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.cli.options import FOLDER, json_option, output_dir_option


@click.command()
@output_dir_option
@click.option(
    "--bundle-dir",
    type=FOLDER,
    help="Write the bundle to this folder.  [default: bundle/ in the run folder]",
)
@json_option
def bundle(output_dir: Path, bundle_dir: Path | None, as_json: bool) -> None:
    """Write the bundle: the folder, also as a .tar.gz, that is copied to a device.

    It contains the model, its labels, a program that classifies photos, and a README: the model's
    card, and what to install there. `retrain push` writes and copies it in one step.
    """
    from deploy.bundle import write
    from retrain.report.model_card import BLANK, make_card
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    run.accepted_model()  # raises if there is none, before a folder is created for one
    if not bundle_dir:
        click.get_current_context().with_resource(run.writing())
    card = make_card(run)
    result = write(run.model, bundle_dir or output_dir / "bundle", card)
    if BLANK in card and run.card.exists():
        say(f"{run.card}: purpose, data or licence is blank: fill it in there", err=True)
    if as_json:
        say(json.dumps(result.to_json()))
        return
    for name, size in result.sizes.items():
        say(f"{size / 1e3:10.1f} kB  {name}")
    say(f"Written to {result.folder} and {result.archive}")
