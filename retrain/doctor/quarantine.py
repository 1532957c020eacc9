"""Set photos aside in a folder, and move them back; no file is deleted or overwritten.

The folder holds `undo.json`, a list of batches, the last one last. A batch has the folder of
photos, and for each file its path in that folder and its path in the quarantine. It is written
before the first file moves, so that whatever ends the program, `undo` moves all back.
"""

import errno
import filecmp
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from deploy import files, user_files, versioned_json
from deploy.errors import BadData, WrongUse
from deploy.system.counts import with_noun
from deploy.system.temporary_files import part_of, sweep
from deploy.system.terminal import printable
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, read
from retrain.data.photo import shown
from retrain.data.photo_list import LISTS
from retrain.data.remote_path import PhotoPath, photo_path
from retrain.progress import Progress
from retrain.run_folder import lock_folder
from retrain.settings.doctor import UNDO_LIST, quarantine_of

_SCHEMA_VERSION = 1
_REMEDY = "move the files back by hand, then remove this list"
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of a file system that has no hard links, or of two file systems."""


@dataclass(frozen=True)
class Moves:
    """The files that were moved, by their paths among the photos, and those that were not.

    `left` has a reason for each file.
    """

    moved: tuple[Path, ...]
    left: tuple[tuple[Path, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        left = [{"path": shown(path), "reason": reason} for path, reason in self.left]
        return {"moved": [shown(path) for path in self.moved], "left": left}


@dataclass(frozen=True)
class _Batch:
    """The files that one call moved out of `image_dir`: relative paths there and in the folder."""

    image_dir: Path
    paths: tuple[tuple[Path, Path], ...]


def set_aside(paths: Iterable[Path], image_dir: Path, folder: Path, progress: Progress) -> Moves:
    """Move files of `image_dir` into `folder`, below the names of their folders.

    A name that is taken there gets a number. Raises WrongUse for a folder among the photos, or
    above them, and for a file outside `image_dir`; then nothing has moved.
    """
    image_dir, folder = _absolute(image_dir), _absolute(folder)
    require_apart(image_dir, folder)
    origins = list(dict.fromkeys(_relative(path, image_dir) for path in paths))
    if not origins:
        return Moves(())
    with lock_folder(folder, "quarantine"):
        batches = _read(folder)
        places: dict[Path, Path] = {}
        for origin in origins:
            places[_free_name(origin, folder, places)] = origin
        batch = _Batch(image_dir, tuple((origin, place) for place, origin in places.items()))
        _write(folder, [*batches, batch])
        pairs = [(image_dir / origin, folder / place) for origin, place in batch.paths]
        outcome = "set aside: `undo` with this `quarantine` moves them back"
        problems = _move_all(pairs, outcome, progress)
        moved = [pair for pair, text in zip(batch.paths, problems, strict=True) if not text]
        _write(folder, [*batches, *_batch(image_dir, moved)])
    return _moves([origin for origin, _ in pairs], problems)


def folder_of_photos(image_dir: Path | str) -> Path:
    """Return the folder whose photos may be moved: of a list, the one that holds it.

    Raises WrongUse for tar files, and for a URL.
    """
    place = photo_path(image_dir)
    if not isinstance(place, Path) or place.suffix.lower() == ".tar":
        raise WrongUse(
            f"{place}: its photos are no files of their own on this machine, and are not moved: "
            "remove what is wrong where the photos are made, or from a list of them"
        )
    return place if place.is_dir() or place.suffix.lower() not in LISTS else place.parent


def require_movable(paths: Iterable[PhotoPath], image_dir: Path) -> None:
    """Raise WrongUse if a path is no file of this machine, or is not below `image_dir`."""
    for path in paths:
        _relative(_local(path), _absolute(image_dir))


def local_files(paths: Iterable[PhotoPath]) -> list[Path]:
    """Return the files that exist among `paths`; raise WrongUse for one of another machine."""
    return [path for path in map(_local, paths) if os.path.lexists(path)]


def _local(path: PhotoPath) -> Path:
    if not isinstance(path, Path):
        raise WrongUse(f"{shown(path)}: not a file of its own on this machine: it is not moved")
    return path


def require_apart(image_dir: Path, folder: Path) -> None:
    """Raise WrongUse for a quarantine among the photos, or one that holds their folder."""
    if user_files.contains(image_dir, folder) or user_files.contains(folder, image_dir):
        raise WrongUse(
            f"`quarantine` {folder}: it must neither be among the photos nor hold their folder: "
            f"name another, such as {quarantine_of(image_dir)}"
        )


def undo(image_dir: Path, folder: Path, progress: Progress) -> Moves:
    """Move the files of the last batch in `folder` back to where they were in `image_dir`.

    Raises WrongUse if there is no batch, or if the last one is of another folder of photos. A file
    whose name is taken again stays in `folder`, and in the list.
    """
    image_dir, folder = _absolute(image_dir), _absolute(folder)
    if not (folder / UNDO_LIST).exists():
        raise WrongUse(f"{folder}: nothing to move back: no {UNDO_LIST} is there")
    with lock_folder(folder, "quarantine"):
        batches = _read(folder)
        if not batches:
            raise WrongUse(f"{folder}: nothing to move back: all is where it was")
        last = batches.pop()
        if last.image_dir != image_dir and last.image_dir.exists():
            raise WrongUse(
                f"{folder}: the last photos there came from {last.image_dir}, not from "
                f"{image_dir}: name that folder"
            )
        pairs = [(folder / place, image_dir / origin) for origin, place in last.paths]
        problems = _move_all(pairs, "moved back: run this again", progress)
        stuck = [
            pair
            for pair, problem in zip(last.paths, problems, strict=True)
            if problem and os.path.lexists(folder / pair[1])
        ]
        _write(folder, [*batches, *_batch(last.image_dir, stuck)])
        for place, _ in pairs:
            _remove_empty(place.parent, folder)
    return _moves([origin for _, origin in pairs], problems)


def read_list(path: Path, image_dir: Path) -> tuple[list[Path], list[str]]:
    """Return the files of `image_dir` that a list names, and the lines whose file is not there.

    A line is a path, absolute or from `image_dir` on, also with the escapes of `printable`. Raises
    BadData, with the number of the line, for a path outside the folder and for one that two files
    have when it is printed.
    """
    image_dir = _absolute(image_dir)
    files_of: dict[str, list[Path]] = defaultdict(list)
    for file in user_files.walk(image_dir):
        files_of[printable(shown(file))].append(file)
    text = read(path, MAX_RECORD_BYTES).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    named: list[Path] = []
    missing: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        try:
            place = image_dir / _relative(image_dir / line, image_dir)
        except WrongUse as error:
            raise BadData(f"{path}, line {number}: {error}") from error
        matches = files_of.get(printable(shown(place)), [])
        if len(matches) > 1:
            raise BadData(f"{path}, line {number}: {line}: two files have this name: rename one")
        named += matches
        if not matches:
            missing.append(line)
    return named, missing


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (`resolve` would follow links)


def _relative(path: Path, image_dir: Path) -> Path:
    """Return `path` from `image_dir` on; raise WrongUse if it is not below it."""
    place = _absolute(path)
    if not place.is_relative_to(image_dir):  # a link may lead there
        place = image_dir / os.path.relpath(place.parent.resolve(), image_dir.resolve()) / path.name
        place = _absolute(place)
    if place == image_dir or not place.is_relative_to(image_dir):
        raise WrongUse(f"{shown(path)}: not in the folder of photos {shown(image_dir)}")
    return place.relative_to(image_dir)


def _free_name(origin: Path, folder: Path, reserved: Iterable[Path]) -> Path:
    """Return `origin`, with a number if a file in `folder`, or one of `reserved`, has its name."""
    place, number = origin, 1
    while place in reserved or os.path.lexists(folder / place) or place == Path(UNDO_LIST):
        number += 1
        place = origin.with_name(f"{origin.stem}-{number}{origin.suffix}")
    return place


def _move_all(pairs: Sequence[tuple[Path, Path]], outcome: str, progress: Progress) -> list[str]:
    """Move each file to its place; return the reason for each that could not be moved, or "".

    `outcome` is what an interrupted user reads of the files that were moved.
    """
    problems: list[str] = []
    sweep(*{place.parent for _, place in pairs})
    try:
        with progress.bar("moved", len(pairs), "files") as advance:
            for origin, place in pairs:
                problems.append(_try_to_move(origin, place))
                advance(1)
    except KeyboardInterrupt:
        were = "was" if len(pairs) == 1 else "were"
        progress.warn(f"{len(problems)} of {with_noun(len(pairs), 'file')} {were} {outcome}")
        raise
    return problems


def _try_to_move(origin: Path, place: Path) -> str:
    try:
        _move(origin, place)
    except FileExistsError:
        if not _is_same(origin, place):
            return f"{shown(place)} is there already"
        try:
            origin.unlink()  # the program ended between the two steps of `_move`
        except OSError as error:
            return str(error.strerror)
    except FileNotFoundError:
        return "" if os.path.lexists(place) else "no such file"
    except OSError as error:
        return str(error.strerror)
    return ""


def _is_same(first: Path, second: Path) -> bool:
    """Return whether two names are of one file, or of two with the same bytes."""
    try:
        if first.is_symlink() or second.is_symlink():
            return first.readlink() == second.readlink()
        return first.samefile(second) or filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def _move(origin: Path, place: Path) -> None:
    """Move a file or a link, also to another disk; raise FileExistsError rather than overwrite."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin, place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(origin, place)
    try:
        origin.unlink()
    except OSError:
        place.unlink()
        raise


def _copy(origin: Path, place: Path) -> None:
    """Copy a file or a link; its bytes are on the disk when this ends."""
    if origin.is_symlink():
        place.symlink_to(origin.readlink())
        return
    with part_of(place) as temporary:
        with origin.open("rb") as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        with suppress(OSError):  # a file system without times or permissions
            shutil.copystat(origin, temporary)
        try:
            os.link(temporary, place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if os.path.lexists(place):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from error
            temporary.rename(place)
    with suppress(OSError):  # Windows opens no folder
        descriptor = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root`, as far as they are empty."""
    with suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _moves(paths: Sequence[Path], problems: Sequence[str]) -> Moves:
    pairs = list(zip(paths, problems, strict=True))
    return Moves(
        tuple(path for path, problem in pairs if not problem),
        tuple((path, problem) for path, problem in pairs if problem),
    )


def _batch(image_dir: Path, pairs: Sequence[tuple[Path, Path]]) -> list[_Batch]:
    return [_Batch(image_dir, tuple(pairs))] if pairs else []


def _write(folder: Path, batches: Sequence[_Batch]) -> None:
    record = {
        "schema": _SCHEMA_VERSION,
        "batches": [
            {
                "image_dir": str(batch.image_dir),
                "moved": [{"from": str(a), "to": str(b)} for a, b in batch.paths],
            }
            for batch in batches
        ],
    }
    # ASCII: a byte of a name that is not UTF-8 is half a surrogate pair, which is written escaped.
    files.write(folder / UNDO_LIST, json.dumps(record, indent=1) + "\n")


def _read(folder: Path) -> list[_Batch]:
    """Return the batches in `folder`; raise BadData for a list that names files outside of it."""
    path = folder / UNDO_LIST
    if not path.exists():
        return []
    with damaged(f"{path}: cannot be read", _REMEDY):
        record = json.loads(read(path, MAX_RECORD_BYTES))
    fields = versioned_json.read(record, str(path), _SCHEMA_VERSION, _REMEDY)
    batches = []
    for batch in fields.objects("batches"):
        pairs = [(pair.text("from"), pair.text("to")) for pair in batch.objects("moved")]
        for name in (name for pair in pairs for name in pair):
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise fields.error(f"{name} is not in its folder")
        paths = tuple((Path(origin), Path(place)) for origin, place in pairs)
        batches.append(_Batch(Path(batch.text("image_dir")), paths))
    return batches
