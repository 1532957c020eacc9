"""`retrain push`: the bundle, onto a device over ssh."""

import json
from pathlib import Path

import click

from deploy.errors import GateFailed
from deploy.system.terminal import say
from retrain.cli.options import json_option, output_dir_option


@click.command()
@click.argument("target", metavar="USER@HOST[:DIR]")
@output_dir_option
@click.option("--python", help="The Python there.  [default: DIR.env, DIR/env, or python3]")
@click.option(
    "--ssh",
    default="ssh",
    show_default=True,
    type=click.UNPROCESSED,
    help="The command, such as 'ssh -p 2222 -i key'.",
)
@json_option
def push(target: str, output_dir: Path, python: str | None, ssh: str, as_json: bool) -> None:
    """Copy the bundle to a device over ssh, once its self-test passes there.

    What was there is kept as DIR.previous. DIR is `classifier` in the home there unless named.
    ssh://USER@HOST:PORT/DIR is understood too, where /DIR is absolute and /~/DIR in the home.
    """
    from deploy.bundle import write
    from deploy.cli.selftest import SelfTest, table
    from deploy.system.temporary_files import scratch
    from retrain.push.remote import Remote, check, parse
    from retrain.run_folder import RunFolder

    place = parse(target)
    model = RunFolder(output_dir).accepted_model()
    remote = Remote(place, python, ssh)
    found = remote.look()
    check(found)
    with scratch() as folder:
        archive = write(model, folder / "bundle").archive
        size = archive.stat().st_size
        say(f"copying {size / 1e6:.1f} MB to {place.host}:{found['folder']}", err=True)
        state, record = remote.put(archive)
    previous = f"{found['folder']}.previous" if state == "previous" else None
    if as_json:
        told = {name: found[name] for name in ("folder", "python", "packages")}
        told = {"schema": 1, "host": place.host, **told, "previous": previous, "selftest": record}
        say(json.dumps(told))
    else:
        say(*table(SelfTest.from_json(record, place.host, "push again")))
        if record["passed"]:
            say(f"In {found['folder']}" + (f"; before: {previous}" if previous else ""))
    if not record["passed"]:
        raise GateFailed(f"{place.host}: the self-test failed there, and nothing is changed")
