"""`retrain bundle`: the folder that is copied to a device."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.cli.options import FOLDER, json_option, output_dir_option


@click.command()
@output_dir_option
@click.option(
    "--bundle-dir", type=FOLDER, help="The folder to write.  [default: bundle/ in the run]"
)
@json_option
def bundle(output_dir: Path, bundle_dir: Path | None, as_json: bool) -> None:
    """Make the folder, and its .tar.gz, that is copied to a device."""
    from deploy.bundle import write
    from retrain.run_folder import RunFolder

    model = RunFolder(output_dir).accepted_model()
    result = write(model, bundle_dir or output_dir / "bundle")
    if as_json:
        say(json.dumps(result.to_json()))
        return
    for name, size in result.sizes.items():
        say(f"{size / 1e3:10.1f} kB  {name}")
    say(f"Written to {result.folder} and {result.archive}")
