"""Hold the photos of a data set with the files left out, and its warnings."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import overload

import numpy as np

from deploy.contract import check_labels
from deploy.errors import BadData
from deploy.image import FORMATS
from deploy.system.counts import with_noun
from deploy.untrusted_files import naming
from retrain.data import folder_layout
from retrain.data.digest_index import DigestIndex, to_list
from retrain.data.folder_layout import SPLITS, ClassFolder
from retrain.data.photo import BadPhoto, ExactCopy, Photo
from retrain.data.photo_table import PhotoTable
from retrain.data.remote_path import PhotoPath

MIN_PHOTOS_PER_CLASS = 20
"""A class with fewer photos gets a warning."""
_BLOCK = 4096
"""Photos that are hashed at a time."""


class Copies(Sequence[ExactCopy]):
    """Photos that are passed over, each with its original, as columns."""

    def __init__(self, photos: Iterable[Photo] = (), originals: Iterable[Photo] = ()) -> None:
        self.photos = PhotoTable.of(photos)
        self.originals = PhotoTable.of(originals)

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self.photos)

    @overload
    def __getitem__(self, selection: int) -> ExactCopy: ...
    @overload
    def __getitem__(self, selection: slice) -> "Copies": ...
    def __getitem__(self, selection: int | slice) -> "ExactCopy | Copies":
        """Return a copy, or some of them."""
        if isinstance(selection, slice):
            return Copies(self.photos[selection], self.originals[selection])
        return ExactCopy(self.photos[selection], self.originals[selection])

    def __iter__(self) -> Iterator[ExactCopy]:
        """Yield each copy."""
        return map(ExactCopy, self.photos, self.originals)

    def across_splits(self) -> int:
        """Return the number of copies whose original is in the folder of another split."""
        return int(np.sum(self.photos.split_codes != self.originals.split_codes))


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder, ordered by path, its class folders, and the files left out.

    The photos of a list are in its order. Its classes have no folders: their path is the list's.
    `photos` has each content once; `copies` are passed over. `remarks` are warnings of the scan.
    """

    root: PhotoPath
    classes: tuple[ClassFolder, ...]
    photos: PhotoTable
    bad: tuple[BadPhoto, ...]
    copies: Copies = field(default_factory=Copies)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        root: PhotoPath,
        classes: tuple[ClassFolder, ...],
        photos: Iterable[Photo],
        bad: Iterable[BadPhoto],
        remarks: tuple[str, ...],
    ) -> "Dataset":
        """Return the data set of all `photos`, of which some may have the same content.

        Photos of one content and two labels are bad. Raises BadData without two classes, or if a
        class has no photo.
        """
        unique, ambiguous, copies = _by_content(PhotoTable.of(photos))
        dataset = cls(root, classes, unique, (*bad, *ambiguous), copies, remarks)
        _require_classes(dataset)
        return dataset

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(sorted({folder.label for folder in self.classes}))

    @property
    def sha256(self) -> str:
        """The SHA-256 of the photos' digests and labels, in hexadecimal; paths do not matter.

        It is that of the text of a sorted list of pairs, which is never in memory as a whole.
        """
        photos = self.photos
        order = DigestIndex(photos.digests).order
        result = hashlib.sha256(b"[")
        names = [repr(name) for name in photos.label_names]
        for start in range(0, len(order), _BLOCK):
            rows = order[start : start + _BLOCK]
            labels = photos.label_numbers[rows].tolist()
            digests = to_list(photos.digests[rows])
            pairs = (f"({digest!r}, {names[i]})" for digest, i in zip(digests, labels, strict=True))
            result.update((", " * bool(start) + ", ".join(pairs)).encode())
        result.update(b"]")
        return result.hexdigest()

    def label_of(self, bad: BadPhoto) -> str:
        """Return the label of a bad file: its own, or that of its class folder; "" beside them."""
        if bad.label or not self.has_folders:
            return bad.label
        labels: dict[PhotoPath, str] = {folder.path: folder.label for folder in self.classes}
        return next((labels[parent] for parent in bad.path.parents if parent in labels), "")

    @property
    def has_folders(self) -> bool:
        """Whether the classes have folders; those of a list have none."""
        return any(folder.path != self.root for folder in self.classes)

    def without(self, bad: Iterable[BadPhoto]) -> "Dataset":
        """Return this data set with photos moved to the bad ones.

        Raises BadData if a class is left without photos.
        """
        bad = tuple(bad)
        photos = self.photos
        if bad:
            photos = photos.take(~photos.is_at(photo.path for photo in bad))
        dataset = replace(self, photos=photos, bad=self.bad + bad)
        _require_classes(dataset)
        return dataset

    def warnings(self) -> list[str]:
        """Return the warnings of this data set, one line each."""
        counts = self.photos.label_counts()
        lines = [
            f"only {with_noun(counts.get(label, 0), 'photo')} of {label}: with fewer than "
            f"{MIN_PHOTOS_PER_CLASS} its accuracy is a guess; add photos"
            for label in self.labels
            if counts.get(label, 0) < MIN_PHOTOS_PER_CLASS
        ]
        leaks = self.copies.across_splits()
        if leaks:
            copies = "is an exact copy" if leaks == 1 else "are exact copies"
            lines.append(
                f"{with_noun(leaks, 'photo')} {copies} of one in another split, which is a leak: "
                f"each is kept in the first of {', '.join(SPLITS)} that has it, and left out of "
                "the others"
            )
        if len(self.copies) > leaks:
            count = len(self.copies) - leaks
            originals = "another photo is" if count == 1 else "other photos are"
            lines.append(f"{with_noun(count, 'exact copy')} of {originals} passed over")
        return [*self.remarks, *lines]


def _require_classes(dataset: Dataset) -> None:
    """Raise BadData without two classes, or if a class or a split of the folders has no photo."""
    with naming(dataset.root):
        check_labels(dataset.labels)
    if dataset.classes and not dataset.has_folders:
        _require_labels(dataset)
        return
    expected = f"expected one folder per label holding {', '.join(FORMATS)} files"
    labels = dataset.labels
    if len(labels) < 2:
        there = f"one class ({labels[0]})" if labels else "no sub-folder"
        inner = [
            path
            for folder in dataset.classes
            if isinstance(folder.path, Path)
            for path in folder_layout.sub_folders(folder.path)
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
    counts = dataset.photos.label_counts()
    for label in labels:
        if label not in counts:
            folders = [folder.path for folder in dataset.classes if folder.label == label]
            inside = [
                item for item in dataset.bad if not set(folders).isdisjoint(item.path.parents)
            ]
            where = ", ".join(map(str, folders)) + _because(next(iter(inside), None))
            raise BadData(f"no usable photos under {where}: {expected}; or remove the folder")
    held = dataset.photos.split_counts()
    for split in sorted({folder.split for folder in dataset.classes}):
        if not held[split]:
            level = len(dataset.classes[0].path.relative_to(dataset.root).parts)
            raise BadData(
                f"{dataset.root}: no photo is left for {split}: all are bad, or copies of photos "
                f"in another split: add photos to it, or use `labels_from` {level} for a new split"
            )


def _require_labels(dataset: Dataset) -> None:
    """Raise BadData if the rows of a list have fewer than two labels, or no photo of a label."""
    counts = dataset.photos.label_counts()
    if len(dataset.labels) < 2:
        without_label = [item for item in dataset.bad if not item.label]
        # Where a tar file is cut off, that is its last row.
        why = _because(without_label[-1] if without_label else None)
        raise BadData(
            f"{dataset.root}: one label ({dataset.labels[0]}){why}: expected at least two labels",
            *dataset.remarks,
        )
    for label in dataset.labels:
        if label not in counts:
            bad = next((item for item in dataset.bad if item.label == label), None)
            raise BadData(
                f"{dataset.root}: no usable photo of {label}{_because(bad)}: mend its rows, or "
                "remove them"
            )


def _because(bad: BadPhoto | None) -> str:
    """Return a bad file and its reason in brackets, or no text."""
    return f" ({bad.path.name}: {bad.reason})" if bad else ""


def _by_content(photos: PhotoTable) -> tuple[PhotoTable, list[BadPhoto], Copies]:
    """Return each content once, the photos with two labels, and the copies.

    Of equal photos the first is used, by path; if the folders are of splits, the first in the first
    split that has one.
    """
    index = DigestIndex(photos.digests)
    if not len(index.repeats):
        return photos, [], Copies()
    first = index.first()
    count = np.bincount(first, minlength=len(photos))
    # The rows of contents that occur again, one content after the other, in the order of the rows.
    rows = np.flatnonzero(count[first] > 1)
    rows = rows[np.argsort(first[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(first[rows], prepend=-1))
    labels = photos.label_numbers[rows]
    lowest, highest = np.minimum.reduceat(labels, starts), np.maximum.reduceat(labels, starts)
    content = np.cumsum(np.diff(first[rows], prepend=-1) != 0) - 1
    is_ambiguous = (lowest != highest)[content]
    # Codes of splits are in the order of SPLITS, and 0 for all unless the folders are of splits.
    ranks = photos.split_codes[rows] * np.int64(len(photos)) + rows
    used = (np.minimum.reduceat(ranks, starts) % len(photos))[content]
    is_copy = ~is_ambiguous & (rows != used)
    copies = Copies(photos.take(rows[is_copy]), photos.take(used[is_copy]))

    used_row = np.arange(len(photos))
    used_row[first[rows]] = used
    is_leader = first == np.arange(len(photos))
    is_leader[rows[is_ambiguous]] = False
    return (
        photos.take(used_row[is_leader]),
        _ambiguous(photos.take(rows[is_ambiguous])),
        copies,
    )


def _ambiguous(photos: PhotoTable) -> list[BadPhoto]:
    """Return the bad photos among `photos`, those of each content together, in several classes."""
    bad: list[BadPhoto] = []
    for _, members in groupby(photos, key=lambda photo: photo.digest):
        group = list(members)
        labels = sorted({photo.label for photo in group})
        reason = f"the same photo is in {len(labels)} classes: {', '.join(labels)}"
        for photo in group:
            twin = next(other for other in group if other.label != photo.label)
            bad.append(BadPhoto(photo.path, reason, twin.path, photo.label))
    return bad
