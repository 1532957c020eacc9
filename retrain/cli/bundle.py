"""`retrain bundle`: the folder that is copied to a device."""

import json
from pathlib import Path

import click

from deploy.errors import BadData, GateFailed
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

    run = RunFolder(output_dir)
    if run.rejected.exists():
        raise GateFailed(
            f"{run.rejected}: the last conversion did not pass: `retrain convert` again, with "
            "what it advised"
        )
    if not run.model.exists():
        raise BadData(f"{run.model}: no such file: run `retrain convert` first")
    made = write(run.model, bundle_dir or output_dir / "bundle")
    if as_json:
        click.echo(json.dumps(made))
        return
    for name, size in made["bytes"].items():
        click.echo(f"{size / 1e3:10.1f} kB  {name}")
    click.echo(f"Written to {made['folder']} and {made['archive']}")
