"""`retrain cache`: list, check, clear and export what is cached."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli import SETTINGS
from deploy.cli.numbers import Number
from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.system.terminal import align, say
from retrain.cli.options import (
    Command,
    bottleneck_dir_option,
    cache_dir_option,
    json_option,
    progress,
)
from retrain.settings.cache import PICTURES, SCANS, bottleneck_place, default_cache_dir

if TYPE_CHECKING:
    from retrain.bottlenecks.inventory import Entry

_SCHEMA_VERSION = 1
_MAX_GB = 1e9
_NAME_DIGITS = 12
"""Digits of a fingerprint that are shown; a command takes any that are enough."""


@click.group(context_settings=SETTINGS)
def cache() -> None:
    """List, check, clear and export cached bottlenecks.

    Nothing in the cache is needed: what is removed is computed again. These commands cover
    bottlenecks, feature maps, small pictures and statistics of photos; ls and gc also the digests
    that scans keep. Prepared backbones, measured speeds and downloaded samples are only listed, by
    ls: delete their folders to be rid of them.
    """


def _places(command: Command) -> Command:
    return cache_dir_option(bottleneck_dir_option(command))


@cache.command("ls")
@_places
@json_option
def list_(cache_dir: Path | None, bottleneck_dir: Path | str | None, as_json: bool) -> None:
    """List what each fingerprint is of, its size, and the days since its last use.

    Folders that hold no bottlenecks come last: prepared backbones, measured speeds, downloaded
    samples. They have no shards, and the days are those since the last file was written.
    """
    from retrain.bottlenecks.inventory import list_others, list_shards

    place = cache_dir or default_cache_dir()
    scans = list_shards(place / SCANS)
    entries = [*_entries(place, bottleneck_dir), *scans, *list_others(place)]
    if as_json:
        values = [entry.to_json() for entry in entries]
        say(json.dumps({"schema": _SCHEMA_VERSION, "entries": values}))
    elif entries:
        say(*_table(entries))
    else:
        say(f"Nothing in {place}")


@cache.command()
@_places
@click.option(
    "--repair", is_flag=True, help="Set damaged shards aside: the next run analyses their photos."
)
@json_option
def verify(
    cache_dir: Path | None, bottleneck_dir: Path | str | None, repair: bool, as_json: bool
) -> None:
    """Check the SHA-256 of every shard; damage is exit code 3.

    For each fingerprint it prints the SHA-256 of the content: that of all undamaged rows in order,
    which is equal for two caches with the same rows, however they lie in shards. A run checks the
    shards that it reads, too. Prepared backbones and downloads are not checked.
    """
    from retrain.bottlenecks.cache import set_aside
    from retrain.bottlenecks.inventory import check

    entries = _entries(cache_dir, bottleneck_dir)
    checks = [check(entry, progress()) for entry in entries]
    damage = [damaged for entry in checks for damaged in entry.damaged]
    if repair:
        for path, _ in damage:
            set_aside(path)
    shards = sum(entry.shards or 0 for entry in entries)
    if as_json:
        values = [{"path": str(path), "reason": reason} for path, reason in damage]
        record = {"schema": _SCHEMA_VERSION, "shards": shards, "damaged": values}
        contents = [entry.to_json() for entry in checks]
        say(json.dumps({**record, "repaired": repair, "contents": contents}))
    else:
        if checks:
            rows = [("fingerprint", "rows", "SHA-256 of the content")]
            for result in checks:
                name = result.entry.folder.name[:_NAME_DIGITS]
                rows.append((name, f"{result.rows:,}", result.content_sha256))
            say(*align(rows, (0, 2)))
        say(*(f"{path}: {reason}" for path, reason in damage))
        state = ", set aside: the next run analyses their photos" if repair and damage else ""
        say(f"{with_noun(shards, 'shard')}, {len(damage):,} damaged{state}")
    if damage and not repair:
        raise BadData(
            f"{with_noun(len(damage), 'shard', 'is/are')} damaged: --repair sets them aside"
        )


@cache.command()
@_places
@click.option(
    "--older-than",
    type=Number(0),
    metavar="DAYS",
    help="Remove what was not used for so many days.",
)
@click.option(
    "--max-size",
    type=Number(0, _MAX_GB),
    metavar="GB",
    help="Remove what was not used for longest, until the rest is smaller.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def gc(
    cache_dir: Path | None,
    bottleneck_dir: Path | str | None,
    older_than: float | None,
    max_size: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove cached bottlenecks and scans by age and size, and what killed runs left.

    What a running command uses stays; at a URL that is not known, and it goes too. Without
    --older-than and --max-size only damaged shards and unfinished files are removed. Prepared
    backbones and downloads stay, and do not count for --max-size.
    """
    from retrain.bottlenecks.inventory import list_shards, remove_leftovers, remove_old

    place = cache_dir or default_cache_dir()
    entries = [*_entries(cache_dir, bottleneck_dir), *list_shards(place / SCANS)]
    max_bytes = None if max_size is None else round(max_size * 1e9)
    result = remove_old(entries, older_than, max_bytes, dry_run)
    places = {place, bottleneck_place(bottleneck_dir, place)}
    removed = [entry.folder for entry in result.removed]
    size = result.size_bytes + remove_leftovers(*places, removed=removed, dry_run=dry_run)
    if as_json:
        record: dict[str, Any] = {
            "schema": _SCHEMA_VERSION,
            "dry_run": dry_run,
            "removed": [entry.to_json() for entry in result.removed],
            "in_use": [entry.to_json() for entry in result.in_use],
            "bytes": size,
        }
        say(json.dumps(record))
        return
    if result.removed:
        say(*_table(result.removed))
    for entry in result.in_use:
        say(f"{entry.folder}: in use, not removed", err=True)
    say(f"{size / 1e6:,.1f} MB {'would be' if dry_run else 'were'} freed")


@cache.command()
@click.argument("fingerprint")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_places
@json_option
def export(
    fingerprint: str,
    file: Path,
    cache_dir: Path | None,
    bottleneck_dir: Path | str | None,
    as_json: bool,
) -> None:
    """Write the bottlenecks of FINGERPRINT as FILE, a .parquet or .npy file.

    The first digits of the fingerprint are enough. A .parquet file has the columns digest, view
    and bottleneck. Beside a .npy file a .csv file of the same name has digest and view of its rows.
    """
    from retrain.bottlenecks.export import export as run
    from retrain.bottlenecks.inventory import choose

    places = (("--cache-dir", cache_dir), ("--bottleneck-dir", bottleneck_dir))
    words = (text for option, place in places if place for text in (option, str(place)))
    command = shlex.join(("retrain", "cache", "ls", *words))
    entry = choose(_entries(cache_dir, bottleneck_dir), fingerprint, command)
    rows = run(entry.folder, file, progress())
    if as_json:
        values = {"fingerprint": entry.folder.name, "file": str(file), "rows": rows}
        say(json.dumps({"schema": _SCHEMA_VERSION, **values}))
    else:
        say(f"{with_noun(rows, 'row')} of {entry.text}", f"Written to {file}")


def _entries(cache_dir: Path | None, bottleneck_dir: Path | str | None) -> "list[Entry]":
    from retrain.bottlenecks.inventory import list_shards

    place = cache_dir or default_cache_dir()
    return list_shards(bottleneck_place(bottleneck_dir, place), place / PICTURES)


def _table(entries: "Sequence[Entry]") -> list[str]:
    """Return the lines of a table of entries."""
    rows = [("fingerprint", "shards", "MB", "days", "of")]
    for entry in entries:
        damaged = f" ({entry.damaged} damaged)" if entry.damaged else ""
        rows.append(
            (
                entry.folder.name[:_NAME_DIGITS],
                "-" if entry.shards is None else f"{entry.shards:,}",
                f"{entry.size_bytes / 1e6:,.1f}",
                f"{entry.age_days:.1f}",
                f"{entry.text}{damaged}",
            )
        )
    return align(rows, (0, 4))
