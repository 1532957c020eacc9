"""Hold the photos of a data set with the files left out, and its warnings."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.errors import BadData
from deploy.image import FORMATS
from retrain.data import folder_layout
from retrain.data.folder_layout import SPLITS, ClassFolder
from retrain.data.photo import BadPhoto, ExactCopy, Photo
from retrain.data.remote_path import PhotoPath

MIN_PHOTOS_PER_CLASS = 20
"""A class with fewer photos gets a warning."""


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder, ordered by path, its class folders, and the files left out.

    The photos of a list are in its order. Its classes have no folders: their path is the list's.
    `photos` has each content once; `copies` are passed over. `remarks` are warnings of the scan.
    """

    root: PhotoPath
    classes: tuple[ClassFolder, ...]
    photos: tuple[Photo, ...]
    bad: tuple[BadPhoto, ...]
    copies: tuple[ExactCopy, ...] = ()
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        root: PhotoPath,
        classes: tuple[ClassFolder, ...],
        photos: list[Photo],
        bad: Iterable[BadPhoto],
        remarks: tuple[str, ...],
    ) -> "Dataset":
        """Return the data set of all `photos`, of which some may have the same content.

        Photos of one content and two labels are bad. Raises BadData without two classes, or if a
        class has no photo.
        """
        unique, ambiguous, copies = _by_content(photos)
        return cls(root, classes, unique, tuple(bad), copies, remarks).without(ambiguous)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(sorted({folder.label for folder in self.classes}))

    @property
    def sha256(self) -> str:
        """The SHA-256 of the photos' digests and labels, in hexadecimal; paths do not matter."""
        pairs = sorted((photo.digest, photo.label) for photo in self.photos)
        return hashlib.sha256(repr(pairs).encode()).hexdigest()

    def label_of(self, path: PhotoPath) -> str:
        """Return the label of a file, bad ones too: that of its class folder; "" beside them."""
        if not self.has_folders:
            return ""
        labels: dict[PhotoPath, str] = {folder.path: folder.label for folder in self.classes}
        return next((labels[parent] for parent in path.parents if parent in labels), "")

    @property
    def has_folders(self) -> bool:
        """Whether the classes have folders; those of a list have none."""
        return any(folder.path != self.root for folder in self.classes)

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


def _require_classes(dataset: Dataset) -> None:
    """Raise BadData without two classes, or if a class or a split of the folders has no photo."""
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


def _require_labels(dataset: Dataset) -> None:
    """Raise BadData if the rows of a list have fewer than two labels, or no photo of a label."""
    counts = Counter(photo.label for photo in dataset.photos)
    if len(dataset.labels) < 2:
        raise BadData(
            f"{dataset.root}: one label ({dataset.labels[0]}): expected at least two labels",
            *dataset.remarks,
        )
    for label in dataset.labels:
        if not counts[label]:
            bad = next((item for item in dataset.bad if item.label == label), None)
            why = f" ({bad.path.name}: {bad.reason})" if bad else ""
            raise BadData(
                f"{dataset.root}: no usable photo of {label}{why}: mend its rows, or remove them"
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
                ambiguous.append(BadPhoto(photo.path, reason, twin.path, photo.label))
            continue
        # Unless the folders are of splits, all have split "", and the first by path is kept.
        first = min(group, key=lambda photo: ("", *SPLITS).index(photo.split))
        unique.append(first)
        copies += [ExactCopy(photo, first) for photo in group if photo is not first]
    return tuple(unique), ambiguous, tuple(copies)
