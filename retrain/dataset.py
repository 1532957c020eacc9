"""Read a folder of photos, one sub-folder a class: what there is, by content."""

import csv
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import files
from deploy.errors import BadData
from deploy.foreign import damaged
from deploy.image import FORMATS, MAX_BYTES, claims_photo, why_not_photo

FEW_PHOTOS = 20
"""A class with fewer is worth a warning: its accuracy is a guess."""


@dataclass(frozen=True)
class Photo:
    """One photo: where it is, its class, and the SHA-256 of its bytes, which is its identity."""

    path: Path
    label: str
    digest: bytes

    def read(self) -> bytes:
        """Return the photo's bytes; raise BadData if they are not those of its digest any more."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read ({error.strerror}): train again") from error
        if hashlib.sha256(content).digest() != self.digest:
            raise BadData(f"{self.path}: changed since training: train again")
        return content


def shown(path: Path) -> str:
    """Return `path` as text that any file takes: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


@dataclass(frozen=True)
class BadPhoto:
    """A file that should be a photo of the data set and cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """What a folder holds: labels in order, photos by path, and what was left out.

    `photos` has each content once; `copies` counts the exact copies passed over.
    """

    root: Path
    labels: tuple[str, ...]
    photos: tuple[Photo, ...]
    bad: tuple[BadPhoto, ...]
    copies: int = 0

    @property
    def sha256(self) -> str:
        """The digest of contents and labels, whatever the paths."""
        pairs = sorted((photo.digest, photo.label) for photo in self.photos)
        return hashlib.sha256(repr(pairs).encode()).hexdigest()

    def without(self, bad: Iterable[BadPhoto]) -> "Dataset":
        """Return this data set with some photos found bad, each class still holding some.

        Raises BadData when a class is left with none.
        """
        bad = tuple(bad)
        gone = {item.path for item in bad}
        photos = tuple(photo for photo in self.photos if photo.path not in gone)
        left = Counter(photo.label for photo in photos)
        _require_classes(self.root, {label: left[label] for label in self.labels}, self.bad + bad)
        return replace(self, photos=photos, bad=self.bad + bad)

    def warnings(self) -> list[str]:
        """Return what a user should know of this data set before trusting a figure."""
        counts = Counter(photo.label for photo in self.photos)
        found = [
            f"only {counts[label]} photos of {label}: with fewer than {FEW_PHOTOS} "
            "its accuracy is a guess; add photos"
            for label in self.labels
            if counts[label] < FEW_PHOTOS
        ]
        if self.copies:
            found.append(f"{self.copies} exact copies of other photos are passed over")
        return found


def scan(root: Path) -> Dataset:
    """Read the folder `root`: each sub-folder is a class, named as it is, nested folders included.

    Photos are found by content; hidden files and folders are skipped. A file that claims by its
    name to be a photo and is none is listed as bad, and so is a content found under two labels.
    Raises BadData without two classes, or when a class has no photo.
    """
    if not root.is_dir():
        raise BadData(f"{root}: no such folder: expected one holding a sub-folder for each class")
    with os.scandir(root) as entries:
        classes = sorted(
            entry.name for entry in entries if entry.is_dir() and files.shown(entry.name)
        )
    photos: list[Photo] = []
    bad: list[BadPhoto] = []
    with ThreadPoolExecutor() as pool:
        for label in classes:
            _check_label(root, label)
            for found in pool.map(
                lambda path, label=label: _read(path, label), files.walk(root / label)
            ):
                if isinstance(found, Photo):
                    photos.append(found)
                elif found:
                    bad.append(found)
    unique, ambiguous, copies = _by_content(photos)
    return Dataset(root, tuple(classes), unique, tuple(bad), copies).without(ambiguous)


def _read(path: Path, label: str) -> Photo | BadPhoto | None:
    """Return the file at `path` as a photo, as a bad one, or None if it never claimed to be one."""
    try:
        if not path.is_file():
            return None if path.exists() else BadPhoto(path, "a link to nothing")
        if path.stat().st_size > MAX_BYTES:
            return BadPhoto(path, f"larger than {MAX_BYTES // 1024**2} MB")
        content = path.read_bytes()
    except OSError as error:
        return BadPhoto(path, f"cannot be read ({error.strerror})")
    reason = why_not_photo(content[:16])
    if reason is None:
        return Photo(path, label, hashlib.sha256(content).digest())
    claims = not content or claims_photo(path, content[:16])
    return BadPhoto(path, reason) if claims else None


def _check_label(root: Path, label: str) -> None:
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"{root / label!r}: the folder's name is not UTF-8: rename it") from error
    if "\n" in label or "\r" in label:
        raise BadData(f"{label!r} in {root}: a label cannot hold a line break: rename the folder")


def _require_classes(root: Path, counts: dict[str, int], bad: Sequence[BadPhoto]) -> None:
    expected = f"expected one folder per label holding {', '.join(FORMATS)} files"
    if len(counts) < 2:
        found = f"one class ({next(iter(counts))})" if counts else "no sub-folder"
        raise BadData(f"{root}: {found}: {expected}, and at least two labels")
    for label, count in counts.items():
        if not count:
            folder = root / label
            inside = [item for item in bad if folder in item.path.parents]
            why = f" ({inside[0].path.name}: {inside[0].reason})" if inside else ""
            raise BadData(f"no usable photos under {folder}{why}: {expected}; or remove the folder")


def _by_content(photos: list[Photo]) -> tuple[tuple[Photo, ...], list[BadPhoto], int]:
    same: dict[bytes, list[Photo]] = defaultdict(list)
    for photo in photos:
        same[photo.digest].append(photo)
    unique: list[Photo] = []
    ambiguous: list[BadPhoto] = []
    copies = 0
    for group in same.values():
        labels = sorted({photo.label for photo in group})
        if len(labels) > 1:
            reason = f"the same photo is in {len(labels)} classes: {', '.join(labels)}"
            ambiguous += [BadPhoto(photo.path, reason) for photo in group]
        else:
            unique.append(group[0])
            copies += len(group) - 1
    return tuple(unique), ambiguous, copies


def write_manifest(path: Path, photos: Sequence[Photo], splits: Sequence[str]) -> None:
    """Write CSV lines of absolute path, label, digest (hexadecimal) and split, one a photo."""
    text = io.StringIO()
    # All are quoted: Python before 3.13 leaves a lone carriage return bare, and cannot read it.
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(("path", "label", "digest", "split"))
    for photo, split in zip(photos, splits, strict=True):
        table.writerow((photo.path.absolute(), photo.label, photo.digest.hex(), split))
    files.write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_manifest(path: Path) -> list[tuple[Photo, str]]:
    """Return each photo of a manifest with its split; raise BadData if it is not one."""
    try:
        with (
            damaged(f"{path}: cannot be read as a manifest", "train again"),
            path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream,
        ):
            return [_row(row) for row in csv.DictReader(stream)]
    except OSError as error:
        raise BadData(
            f"{path}: cannot be read as a manifest ({error.strerror}): train again"
        ) from error


def _row(row: dict[str, str]) -> tuple[Photo, str]:
    """Return a photo of a manifest and its split; raise ValueError for another one's line."""
    digest = bytes.fromhex(row["digest"])
    if len(digest) != 32 or not (row["path"] and row["split"]) or None in row:
        raise ValueError(f"{row['path']!r:.60}: its line is damaged")
    return Photo(Path(row["path"]), row["label"], digest), row["split"]
