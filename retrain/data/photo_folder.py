"""Scan a folder of photos, one sub-folder per class, by the contents of its files."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from deploy import user_files
from deploy.contract import check_label
from deploy.errors import BadData
from deploy.image import FORMATS, HEAD, MAX_BYTES, claims_photo, why_not_photo
from deploy.system.cores import cores
from retrain.data import folder_layout, ignored_files, similar_labels
from retrain.data.folder_layout import SPLITS, ClassFolder

MIN_PHOTOS_PER_CLASS = 20
"""A class with fewer photos gets a warning."""


@dataclass(frozen=True)
class Photo:
    """A photo: its path, its label, and its digest, the SHA-256 of its bytes.

    `split` is the split of its folder; it is empty unless the folders are of splits.
    """

    path: Path
    label: str
    digest: bytes
    split: str = ""

    def read(self) -> bytes:
        """Return the photo's bytes; raise BadData if they no longer have its digest."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read ({error.strerror}): train again") from error
        if hashlib.sha256(content).digest() != self.digest:
            raise BadData(f"{self.path}: changed since training: train again")
        return content


def shown(path: Path) -> str:
    r"""Return `path` as text that any file takes: a byte that is not UTF-8 is written as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class BadPhoto:
    """A file that should be a photo of the data set, and the reason why it cannot be used.

    `twin` is the same photo in another class, if that is the reason.
    """

    path: Path
    reason: str
    twin: Path | None = None


class ExactCopy(NamedTuple):
    """A photo that is passed over, and the `original`, of the same bytes, that is used."""

    photo: Photo
    original: Photo


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder, ordered by path, its class folders, and the files left out.

    `photos` has each content once; `copies` are passed over. `remarks` are warnings of the scan.
    """

    root: Path
    classes: tuple[ClassFolder, ...]
    photos: tuple[Photo, ...]
    bad: tuple[BadPhoto, ...]
    copies: tuple[ExactCopy, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(sorted({folder.label for folder in self.classes}))

    @property
    def sha256(self) -> str:
        """The SHA-256 of the photos' digests and labels, in hexadecimal; paths do not matter."""
        pairs = sorted((photo.digest, photo.label) for photo in self.photos)
        return hashlib.sha256(repr(pairs).encode()).hexdigest()

    def label_of(self, path: Path) -> str:
        """Return the label of a file, bad ones too: that of its class folder; "" beside them."""
        labels = {folder.path: folder.label for folder in self.classes}
        return next((labels[parent] for parent in path.parents if parent in labels), "")

    def without(self, bad: Iterable[BadPhoto]) -> "Dataset":
        """Return this data set with photos moved to the bad ones.

        Raises BadData if a class is left without photos.
        """
        bad = tuple(bad)
        bad_paths = {photo.path for photo in bad}
        photos = tuple(photo for photo in self.photos if photo.path not in bad_paths)
        dataset = replace(self, photos=photos, bad=self.bad + bad)
        _require_classes(dataset)
        return dataset

    def warnings(self) -> list[str]:
        """Return the warnings of this data set, one line each."""
        counts = Counter(photo.label for photo in self.photos)
        lines = [
            f"only {counts[label]} photos of {label}: with fewer than {MIN_PHOTOS_PER_CLASS} "
            "its accuracy is a guess; add photos"
            for label in self.labels
            if counts[label] < MIN_PHOTOS_PER_CLASS
        ]
        leaks = sum(copy.photo.split != copy.original.split for copy in self.copies)
        if leaks:
            lines.append(
                f"{leaks} photos are exact copies of one in another split, which is a leak: "
                f"each is kept in the first of {', '.join(SPLITS)} that has it, and left out of "
                "the others"
            )
        if len(self.copies) > leaks:
            lines.append(f"{len(self.copies) - leaks} exact copies of other photos are passed over")
        return [*self.remarks, *lines]


def scan(root: Path, labels_from: int | None = None) -> Dataset:
    """Return the photos below `root`; folders inside a class folder belong to its class.

    Content decides what is a photo. Hidden files and those of systems are left out. A file that
    claims by its name to be a photo and is none is bad, and so is a photo with two labels.
    `labels_from` is the level of the class folders, as in `folder_layout.read`. Each file is read
    and hashed once. Raises BadData without two classes, or if a class has no photo.
    """
    if not root.is_dir():
        raise BadData(f"{root}: no such folder: expected one holding a sub-folder for each class")
    layout = folder_layout.read(root, labels_from)
    for folder in layout.classes:
        _check_label(folder.path.parent, folder.label)
    _check_links(layout.classes)
    photos: list[Photo] = []
    bad: list[BadPhoto] = []
    left_out = [path for folder in layout.parents for path in _not_shown(folder)]

    def add_closed(error: OSError) -> None:
        reason = f"the folder cannot be opened ({error.strerror})"
        bad.append(BadPhoto(Path(error.filename), reason))

    with ThreadPoolExecutor(cores() + 4) as pool:
        for folder in layout.classes:
            for item in pool.map(
                lambda path, folder=folder: _read(path, folder),
                user_files.walk(folder.path, add_closed, left_out.append),
            ):
                if isinstance(item, Photo):
                    photos.append(item)
                elif item:
                    bad.append(item)
    remarks = (
        *layout.warnings,
        *similar_labels.warnings(sorted({folder.label for folder in layout.classes})),
        *ignored_files.warnings(layout.parents),
        *ignored_files.system_warnings(left_out),
    )
    unique, ambiguous, copies = _by_content(photos)
    dataset = Dataset(root, layout.classes, unique, tuple(bad), copies, remarks)
    return dataset.without(ambiguous)


def _not_shown(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not user_files.is_user_file(path.name)]


def _read(path: Path, folder: ClassFolder) -> Photo | BadPhoto | None:
    """Return the file at `path` as a photo or a bad photo, None if it does not claim to be one."""
    try:
        if not path.is_file():
            return None if path.exists() else BadPhoto(path, "a link to nothing")
        if path.stat().st_size > MAX_BYTES:
            return BadPhoto(path, f"larger than {MAX_BYTES // 1024**2} MB")
        content = path.read_bytes()
    except OSError as error:
        return BadPhoto(path, f"cannot be read ({error.strerror})")
    reason = why_not_photo(content[:HEAD], path)
    if reason is None:
        return Photo(path, folder.label, hashlib.sha256(content).digest(), folder.split)
    claims = not content or claims_photo(path, content[:HEAD])
    return BadPhoto(path, reason) if claims else None


def _check_label(root: Path, label: str) -> None:
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"{root / label}: the folder's name is not UTF-8: rename it") from error
    try:
        check_label(label)
    except BadData as error:
        raise BadData(f"{root}: {error}: rename the folder") from error


def _check_links(classes: Iterable[ClassFolder]) -> None:
    first: dict[str, ClassFolder] = {}
    for folder in classes:
        other = first.setdefault(os.path.realpath(folder.path), folder)
        if (other.label, other.split) != (folder.label, folder.split):
            raise BadData(
                f"{folder.path} and {other.path} are the same folder, by a link: remove the link, "
                "or all its photos would be in both"
            )


def _require_classes(dataset: Dataset) -> None:
    """Raise BadData without two classes, or if a class or a split of the folders has no photo."""
    expected = f"expected one folder per label holding {', '.join(FORMATS)} files"
    labels = dataset.labels
    if len(labels) < 2:
        there = f"one class ({labels[0]})" if labels else "no sub-folder"
        inner = [
            path for folder in dataset.classes for path in folder_layout.sub_folders(folder.path)
        ]
        where = (
            f"name {inner[0].parent}"
            if len({path.parent for path in inner}) == 1
            else f"use `labels_from` {len(inner[0].relative_to(dataset.root).parts)}"
            if inner
            else ""
        )
        hint = f"; or, if its sub-folders are the classes, {where}" if inner[1:] else ""
        raise BadData(
            f"{dataset.root}: {there}: {expected}, and at least two labels{hint}", *dataset.remarks
        )
    counts = Counter(photo.label for photo in dataset.photos)
    for label in labels:
        if not counts[label]:
            folders = [folder.path for folder in dataset.classes if folder.label == label]
            inside = [
                item for item in dataset.bad if not set(folders).isdisjoint(item.path.parents)
            ]
            why = f" ({inside[0].path.name}: {inside[0].reason})" if inside else ""
            where = ", ".join(map(str, folders))
            raise BadData(f"no usable photos under {where}{why}: {expected}; or remove the folder")
    held = Counter(photo.split for photo in dataset.photos)
    for split in sorted({folder.split for folder in dataset.classes}):
        if not held[split]:
            level = len(dataset.classes[0].path.relative_to(dataset.root).parts)
            raise BadData(
                f"{dataset.root}: no photo is left for {split}: all are bad, or copies of photos "
                f"in another split: add photos to it, or use `labels_from` {level} for a new split"
            )


def _by_content(
    photos: list[Photo],
) -> tuple[tuple[Photo, ...], list[BadPhoto], tuple[ExactCopy, ...]]:
    """Return each content once, the photos with two labels, and the copies."""
    by_digest: dict[bytes, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_digest[photo.digest].append(photo)
    unique: list[Photo] = []
    ambiguous: list[BadPhoto] = []
    copies: list[ExactCopy] = []
    for group in by_digest.values():
        labels = sorted({photo.label for photo in group})
        if len(labels) > 1:
            reason = f"the same photo is in {len(labels)} classes: {', '.join(labels)}"
            for photo in group:
                twin = next(other for other in group if other.label != photo.label)
                ambiguous.append(BadPhoto(photo.path, reason, twin.path))
            continue
        # Unless the folders are of splits, all have split "", and the first by path is kept.
        first = min(group, key=lambda photo: ("", *SPLITS).index(photo.split))
        unique.append(first)
        copies += [ExactCopy(photo, first) for photo in group if photo is not first]
    return tuple(unique), ambiguous, tuple(copies)
