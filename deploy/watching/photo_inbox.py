"""Photos of a folder that fills: each is taken once, when it is whole."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from deploy import files
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import HEAD, claims_photo, open_image

Mark = tuple[int, int]
"""Bytes and time of a file: another mark is another file."""
POLL = 0.5
"""Seconds between two looks; a file that did not change between them is read."""
PATIENCE = 5.0
"""Seconds without a change after which a photo that cannot be decoded is not half-written, but
bad. If it changes later it is read again."""

_LOCKED = -1, 0
"""Of what cannot be looked at: it is told of once, and what was taken from it stays so."""


def photos(
    folder: Path, spec: InputSpec, done: dict[Path, Mark]
) -> Iterator[tuple[Path, Image.Image | BadData | None]]:
    """Yield the photos below `folder` without end, oldest first; (folder, None) after each look.

    `done` is what was taken, and is kept up to date; a photo that changes is taken again. A photo
    that cannot be read is a BadData. Raises OSError for a folder that cannot be read.
    """
    since: dict[Path, tuple[Mark, float]] = {}
    while True:
        now = time.monotonic()
        marks, locked = _marks(folder)
        for path in done.keys() - marks.keys():
            if locked.keys().isdisjoint(path.parents):
                del done[path]
        fresh = {
            path: (mark, now)
            for path, mark in marks.items()
            if done.get(path) != mark and not (path in locked and path in done)
        }
        # Since when a file has had its mark.
        since = {
            path: since[path] if path in since and since[path][0] == seen[0] else seen
            for path, seen in fresh.items()
        }
        for path in sorted(since, key=lambda path: (since[path][0][1], path)):
            mark, first = since[path]
            if first == now:
                continue
            why = locked.get(path)
            image, mark = (BadData(f"{path}: {why}"), mark) if why else _read(path, mark, spec)
            if isinstance(image, BadData) and now - first < PATIENCE:
                continue
            done[path] = mark
            if image:
                yield path, image
        yield folder, None
        time.sleep(POLL)


def _marks(folder: Path) -> tuple[dict[Path, Mark], dict[Path, str]]:
    """Return the mark of each file; and why, where one or a sub-folder cannot be looked at."""
    marks: dict[Path, Mark] = {}
    locked: dict[Path, str] = {}

    def lock(error: OSError) -> None:
        if error.filename == str(folder):
            raise error
        locked[Path(error.filename)] = error.strerror or "cannot be read"

    for path in files.walk(folder, lock):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            lock(error)
            continue
        if stat.S_ISREG(about.st_mode):
            marks[path] = _mark(about)
    return marks | dict.fromkeys(locked, _LOCKED), locked


def _read(path: Path, mark: Mark, spec: InputSpec) -> tuple[Image.Image | BadData | None, Mark]:
    """Return the photo, why there is none, or None for other files; and the mark of what is read.

    `mark` is the one that the file had.
    """
    try:
        with path.open("rb") as stream:
            mark = _mark(os.fstat(stream.fileno()))
            if not claims_photo(path, stream.read(HEAD)):
                return None, mark
            return open_image(stream, spec), mark
    except FileNotFoundError:
        return None, mark
    except OSError as error:
        return BadData(f"{path}: {error.strerror}"), mark
    except BadData as error:
        return BadData(f"{path}: {error}"), mark


def _mark(about: os.stat_result) -> Mark:
    return about.st_size, about.st_mtime_ns
