"""Yield the photos of a folder that fills: each once, when it is complete."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import HEAD, claims_photo, open_image
from deploy.user_files import walk

Mark = tuple[int, int]
"""Size in bytes and modification time in ns of a file: a changed file has another mark."""
POLL_S = 0.5
"""Pause between two scans of the folder; a file that did not change in between is read."""
BAD_AFTER_S = 5.0
"""After this time without a change a photo that cannot be decoded is bad, not half-written."""
CHANGES = 3
"""Scans in a row in which a photo must have changed to be read before it rests: its writer never
stops, as that of a camera's latest.jpg."""
_UNREADABLE_MARK: Mark = -1, 0
"""Mark of a file or folder that cannot be read: it is reported once, its photos stay read."""


def photos(
    folder: Path, spec: InputSpec, read_marks: dict[Path, Mark]
) -> Iterator[tuple[Path, Image.Image | BadData | None]]:
    """Yield the photos below `folder` without end, oldest first; (folder, None) after each scan.

    `read_marks` are the marks of the files that were read, and is kept up to date: a photo that
    changes is yielded again; while it changes in every scan, it is yielded whenever it is whole. A
    photo that cannot be read is a BadData. Raises OSError for a folder that cannot be read.
    """
    first_scans: dict[Path, tuple[Mark, float]] = {}
    changes: dict[Path, int] = {}
    while True:
        scan_time = time.monotonic()
        marks, unreadable = _marks(folder)
        for path in read_marks.keys() - marks.keys():
            if unreadable.keys().isdisjoint(path.parents):
                del read_marks[path]
        fresh = {
            path: mark
            for path, mark in marks.items()
            if read_marks.get(path) != mark and not (path in unreadable and path in read_marks)
        }
        # How often in a row the mark of a file has changed.
        changes = {
            path: changes.get(path, 0) + 1
            for path, mark in fresh.items()
            if path in first_scans and first_scans[path][0] != mark
        }
        # The time of the scan in which a file first had its present mark.
        first_scans = {
            path: first_scans[path]
            if path in first_scans and first_scans[path][0] == mark
            else (mark, scan_time)
            for path, mark in fresh.items()
        }
        for path in sorted(first_scans, key=lambda path: (first_scans[path][0][1], path)):
            mark, first_time = first_scans[path]
            if first_time == scan_time and changes.get(path, 0) < CHANGES:
                continue
            reason = unreadable.get(path)
            image, mark = (
                (BadData(f"{path}: {reason}"), mark) if reason else _read(path, mark, spec)
            )
            if isinstance(image, BadData) and scan_time - first_time < BAD_AFTER_S:
                continue
            read_marks[path] = mark
            if image:
                yield path, image
        yield folder, None
        time.sleep(POLL_S)


def _marks(folder: Path) -> tuple[dict[Path, Mark], dict[Path, str]]:
    """Return the mark of each file, and the reason for each file or folder that is unreadable."""
    marks: dict[Path, Mark] = {}
    unreadable: dict[Path, str] = {}

    def on_error(error: OSError) -> None:
        if error.filename == str(folder):
            raise error
        unreadable[Path(error.filename)] = error.strerror or "cannot be read"

    for path in walk(folder, on_error):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            on_error(error)
            continue
        if stat.S_ISREG(about.st_mode):
            marks[path] = _mark(about)
    return marks | dict.fromkeys(unreadable, _UNREADABLE_MARK), unreadable


def _read(path: Path, mark: Mark, spec: InputSpec) -> tuple[Image.Image | BadData | None, Mark]:
    """Return the photo, or why it is bad, or None for another file; and the mark of what was read.

    `mark` is the file's mark in the last scan.
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
