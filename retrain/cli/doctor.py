"""`retrain doctor`: say what is wrong with the photos, and set chosen ones aside."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.typed import typed
from deploy.errors import BadData, WrongUse
from deploy.system.counts import with_noun
from deploy.system.terminal import say
from retrain.cli.options import (
    CACHE_GROUP,
    FILE,
    FOLDER,
    NETWORK_GROUPS,
    json_option,
    progress,
    source,
    source_options,
)
from retrain.settings.doctor import KINDS, quarantine_of
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings, TrainSettings

if TYPE_CHECKING:
    from retrain.doctor.finding import Finding
    from retrain.doctor.quarantine import Moves
    from retrain.progress import Progress

_GROUPS: Groups = {
    "Photos": ("--image-dir", "--labels-from"),
    "Findings": ("--kind",),
    "Set photos aside": ("--quarantine", "--apply", "--undo"),
    **NETWORK_GROUPS,
    **CACHE_GROUP,
    **GENERAL,
}
_MAX_PRINTED = 5


@click.command(cls=GroupedCommand, groups=_GROUPS)
@source_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(KINDS)),
    metavar="KIND",
    help=f"Look for this kind of finding only; may be repeated. One of {', '.join(KINDS)}.",
)
@click.option(
    "--quarantine",
    type=FOLDER,
    help="Move the photos that the findings suggest, or those of --apply, into this folder.  "
    "[default with --apply and --undo: DIR-quarantine, beside the folder of photos]",
)
@click.option(
    "--apply",
    "list_path",
    type=FILE,
    metavar="LIST",
    help="Set aside the photos of this list, one path a line, as the report writes it.",
)
@click.option("--undo", is_flag=True, help="Move back the photos that were set aside last.")
@json_option
def doctor(
    kinds: tuple[str, ...],
    quarantine: Path | None,
    list_path: Path | None,
    undo: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Say what is wrong with the photos of DIR, and what to do about it.

    DIR is the folder of photos, or that of a run; without DIR it is ./retrained. With a run, its
    photos, network and split are examined, and the findings are written to its doctor.json. Photos
    that are set aside are moved, never deleted, and --undo moves them back.
    """
    if undo and list_path:
        raise WrongUse("--undo moves photos back, and --apply sets them aside: leave one out")
    if kinds and (undo or list_path):
        raise WrongUse("--kind is for what the doctor finds: leave it out")
    target, photos, split, labels = _open(where)
    if undo or list_path:
        from retrain.doctor.quarantine import folder_of_photos

        image_dir = folder_of_photos(photos.image_dir)
        folder = quarantine or quarantine_of(image_dir)
        moves = _move(image_dir, folder, list_path)
        if as_json:
            say(json.dumps({"schema": 1, **moves.to_json()}))
        _report(moves, target, image_dir, folder, as_json, undo)
        return
    _examine(target, photos, split, labels, kinds, quarantine, as_json)


def _open(
    where: dict[str, Any],
) -> tuple[Path | str, Source, SplitSettings, tuple[str, ...] | None]:
    """Return the folder of photos or of a run that was named, and its photos and their split.

    The labels of an adopted graph come last, else None.
    """
    from retrain.run_folder import RunFolder
    from retrain.training.read_run import read_settings

    if where["image_dir"] and where["image_dir_option"]:
        raise WrongUse("name one folder, of photos or of a run: retrain doctor DIR")
    named = where["image_dir"] or where["image_dir_option"]
    target: Path | str = named or TrainSettings.output_dir
    run = RunFolder(Path(target))
    if not run.metrics.exists():
        if named is None:
            raise WrongUse(f"name a folder of photos: there is no run in ./{target}")
        photos = source(**where)
        if isinstance(photos.image_dir, Path):
            photos = replace(photos, image_dir=photos.image_dir.absolute())
        return target, photos, SplitSettings(), None
    for name in typed(where.keys() - {"image_dir", "image_dir_option"}):
        raise WrongUse(f"`{name}`: {target} is a run, which has its own: leave it out")
    return target, *read_settings(run)


def _move(image_dir: Path, folder: Path, list_path: Path | None) -> "Moves":
    """Set aside the photos of a list; without a list, move the last ones back."""
    from retrain.doctor.quarantine import read_list, set_aside, undo

    if list_path is None:
        return undo(image_dir, folder, progress())
    if not image_dir.is_dir():
        raise BadData(f"{image_dir}: no such folder of photos: name the folder where they are now")
    paths, missing = read_list(list_path, image_dir)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        listed = ", ".join(missing[:_MAX_PRINTED])
        progress().warn(
            f"{with_noun(len(missing), 'file')} of {list_path} {are} not there: {listed}"
        )
    return set_aside(paths, image_dir, folder, progress())


def _examine(
    target: Path | str,
    photos: Source,
    split: SplitSettings,
    labels: tuple[str, ...] | None,
    kinds: tuple[str, ...],
    quarantine: Path | None,
    as_json: bool,
) -> None:
    """Print what is wrong with the photos; move the suggested ones into `quarantine`, if named."""
    from deploy import files
    from retrain.data.photo import shown
    from retrain.doctor.examine import examine, load, name_photos, to_json
    from retrain.doctor.quarantine import (
        Moves,
        folder_of_photos,
        local_files,
        require_apart,
        set_aside,
    )
    from retrain.run_folder import RunFolder

    stages = progress()
    image_dir = photos.image_dir
    if quarantine:
        image_dir = folder_of_photos(image_dir)
        require_apart(image_dir, quarantine)
    run = RunFolder(Path(target))
    is_run = run.metrics.exists()
    is_locked = False
    if is_run and not kinds:
        with _warning_of(run.doctor, stages):
            click.get_current_context().with_resource(run.writing())
            is_locked = True
    data = load(photos, split, stages, labels)
    # As they were named: `photos` has the absolute place.
    words = [shown(target)] if is_run else name_photos(replace(photos, image_dir=target))
    findings = examine(data, photos, stages, kinds, words)
    record = to_json(data, findings)
    if is_locked:
        with _warning_of(run.doctor, stages):
            files.write_json(run.doctor, record)
    if not as_json:
        _print(findings, len(data.dataset.photos), photos.image_dir)
    moves = Moves(())
    if quarantine:
        suggested = [item.path for finding in findings for item in finding.suggested_photos]
        moves = set_aside(local_files(suggested), folder_of_photos(image_dir), quarantine, stages)
    if as_json:
        say(json.dumps({**record, **moves.to_json()} if quarantine else record))
    if quarantine:
        _report(moves, target, image_dir, quarantine, as_json)


@contextmanager
def _warning_of(record: Path, stages: "Progress") -> Iterator[None]:
    """Warn that the file `record` is not written, if the block raises OSError."""
    try:
        yield
    except OSError as error:
        from retrain.data.photo import shown

        stages.warn(f"{shown(record)} is not written: {error.strerror or error}")


def _print(findings: tuple["Finding", ...], photos: int, image_dir: Path | str) -> None:
    """Print the findings, with the first photos of each; name settings as options of `train`."""
    from retrain.data.photo import shown
    from retrain.data.remote_path import photo_path
    from retrain.doctor.finding import name_in
    from retrain.stored_settings import settings_to_options

    place = photo_path(image_dir)
    count = with_noun(len(findings), "finding") if findings else "no findings"
    say(f"{with_noun(photos, 'photo')} in {shown(image_dir)}: {count}")
    for number, finding in enumerate(findings, 1):
        say("", f"{number}. {finding.title} [{finding.kind}]")
        for text in (finding.reason, finding.remedy):
            say(f"   {settings_to_options(text, TrainSettings)}")
        if finding.command:
            say(f"   $ {finding.command}")
        for photo in finding.photos[:_MAX_PRINTED]:
            say(f"     {name_in(place, photo.path)}: {photo.reason}")
        rest = len(finding.photos) - _MAX_PRINTED
        if rest > 0:
            say(f"     and {_rest(rest, finding)}, which --json lists")


def _rest(count: int, finding: "Finding") -> str:
    """Return in words that the last `count` photos of a finding are not printed."""
    less_sure = min(count, len(finding.photos) - finding.suggested) if finding.suggested else 0
    numbers = ((count - less_sure, "more"), (less_sure, "less sure"))
    return " and ".join(f"{number:,} {words}" for number, words in numbers if number)


def _report(
    moves: "Moves",
    target: Path | str,
    image_dir: Path | str,
    folder: Path,
    as_json: bool,
    is_undo: bool = False,
) -> None:
    """Print what was moved, and how it comes back; raise BadData for files that stayed.

    `target` is the folder that was named, of photos or of a run.
    """
    from retrain.data.photo import shown

    if not as_json:
        outcome = f"back to {shown(image_dir)}" if is_undo else f"to {shown(folder)}"
        say(f"{with_noun(len(moves.moved), 'file')} moved {outcome}")
        if moves.moved and not is_undo:
            words = ("doctor", shown(target), "--undo", "--quarantine", shown(folder))
            say("To move back what was set aside last:", f"$ retrain {shlex.join(words)}")
    if moves.left:
        lines = [f"{shown(path)}: {reason}" for path, reason in moves.left[:_MAX_PRINTED]]
        raise BadData(f"{with_noun(len(moves.left), 'file')} could not be moved:", *lines)
