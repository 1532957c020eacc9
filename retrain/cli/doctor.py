"""`retrain doctor`: say what is wrong with the photos, and set chosen ones aside."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.errors import WrongUse
from deploy.system.terminal import say
from retrain.cli.options import (
    CACHE_GROUP,
    NETWORK_GROUPS,
    json_option,
    progress,
    source,
    source_options,
)
from retrain.settings.doctor import KINDS
from retrain.settings.training import Source, SplitSettings, TrainSettings

if TYPE_CHECKING:
    from retrain.doctor.finding import Finding

_GROUPS: Groups = {
    "Photos": ("--image-dir", "--labels-from"),
    "Findings": ("--kind",),
    **NETWORK_GROUPS,
    **CACHE_GROUP,
    **GENERAL,
}
_MAX_PRINTED_PHOTOS = 5


@click.command(cls=GroupedCommand, groups=_GROUPS)
@source_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(KINDS)),
    metavar="KIND",
    help=f"Look for this kind only; may be repeated. Kinds: {', '.join(KINDS)}.",
)
@json_option
def doctor(kinds: tuple[str, ...], as_json: bool, **where: Any) -> None:
    """Say what is wrong with the photos of DIR, and what to do about it.

    DIR is a folder of photos or of a run; by default it is the run in ./retrained. With a run, its
    photos, network and split are examined, and the findings are written to its doctor.json.
    """
    from deploy import files
    from retrain.doctor.examine import examine, load, to_json
    from retrain.run_folder import RunFolder

    stages = progress()
    target, photos, split = _open(where)
    data = load(photos, split, stages)
    findings = examine(data, photos, stages, kinds, target)
    record = to_json(data, findings)
    if target != photos.image_dir and not kinds:
        files.write_json(RunFolder(target).doctor, record)
    if as_json:
        say(json.dumps(record))
    else:
        _print(findings, len(data.dataset.photos), data.dataset.root)


def _open(where: dict[str, Any]) -> tuple[Path, Source, SplitSettings]:
    """Return the folder of photos or of a run that was named, its photos, and their split."""
    from retrain.run_folder import RunFolder
    from retrain.training.read_run import read_settings

    named = where["image_dir"] or where["image_dir_option"]
    target: Path = named or TrainSettings.output_dir
    run = RunFolder(target)
    if not run.metrics.exists():
        if named is None:
            raise WrongUse(f"name a folder of photos: {run.metrics} of a run is not there")
        photos = source(**where)
        return target, replace(photos, image_dir=photos.image_dir.absolute()), SplitSettings()
    ctx = click.get_current_context()
    for name in where:
        is_typed = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if is_typed and name not in ("image_dir", "image_dir_option"):
            raise WrongUse(f"`{name}`: {target} is a run, which has its own: leave it out")
    return target, *read_settings(run)


def _print(findings: tuple["Finding", ...], photos: int, root: Path) -> None:
    """Print the findings as text, with the first photos of each."""
    from retrain.data.photo_folder import shown

    say(f"{photos:,} photos in {shown(root)}: {len(findings) or 'no'} findings")
    for number, finding in enumerate(findings, 1):
        say("", f"{number}. {finding.title} [{finding.kind}]")
        say(f"   {finding.reason}", f"   {finding.remedy}")
        if finding.command:
            say(f"   $ {finding.command}")
        for photo in finding.photos[:_MAX_PRINTED_PHOTOS]:
            path = photo.path
            name = path.relative_to(root) if path.is_relative_to(root) else path
            say(f"     {shown(name)}: {photo.reason}")
        rest = len(finding.photos) - _MAX_PRINTED_PHOTOS
        if rest > 0:
            say(f"     and {rest:,} more: --json lists all")
