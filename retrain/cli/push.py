"""`retrain push`: install the bundle on a device over ssh."""

import json
import os
from pathlib import Path

import click

from deploy.errors import GateFailed
from deploy.system.terminal import say
from retrain.cli.options import json_option, output_dir_option


@click.command()
@click.argument("target", metavar="USER@HOST[:DIR]")
@output_dir_option
@click.option(
    "--python",
    metavar="PATH",
    help="Use this Python of the device.  [default: DIR.env, DIR/env, or python3]",
)
@click.option(
    "--ssh",
    default="ssh",
    show_default=True,
    metavar="COMMAND",
    type=click.UNPROCESSED,
    help="Connect with this command, such as 'ssh -p 2222 -i key'.",
)
@json_option
def push(target: str, output_dir: Path, python: str | None, ssh: str, as_json: bool) -> None:
    """Copy the bundle to a device over ssh, and install it once its self-test passes there.

    DIR is the folder on the device: `classifier` in the user's home unless you name one. The
    version that was there before is kept as DIR.previous.

    ssh://USER@HOST:PORT/DIR works too: there /DIR is an absolute path, and /~/DIR is in the home.
    """
    from deploy import files
    from deploy.bundle import write
    from deploy.cli.selftest import SelfTest, table
    from deploy.system.temporary_files import scratch
    from retrain.push.address import parse_address
    from retrain.push.device import require_ready
    from retrain.push.remote import Remote
    from retrain.report.model_card import make_card
    from retrain.run_folder import RunFolder

    run = RunFolder(output_dir)
    address = parse_address(target)
    card = make_card(run)
    remote = Remote(address, python, ssh)
    device = remote.describe()
    require_ready(device)
    with scratch() as folder:
        archive = write(run.model, folder / "bundle", card).archive
        size = archive.stat().st_size
        say(f"copying {size / 1e6:.1f} MB to {address.host}:{device.folder}", err=True)
        installation = remote.install(archive)
    record, passed = installation.selftest, installation.state != "failed"
    previous = f"{device.folder}.previous" if installation.state == "previous" else None
    result = {
        "schema": 1,
        "host": address.host,
        "folder": device.folder,
        "python": device.python,
        "packages": device.packages,
        "previous": previous,
        "selftest": record,
    }
    if passed and os.access(output_dir, os.W_OK):
        files.write_json(run.push, result)
    if as_json:
        say(json.dumps(result))
    else:
        say(*table(SelfTest.from_json(record, address.host, "push again")))
        if passed:
            say(f"In {device.folder}" + (f"; before: {previous}" if previous else ""))
    if not passed:
        raise GateFailed(f"{address.host}: the self-test failed there, and nothing is changed")
