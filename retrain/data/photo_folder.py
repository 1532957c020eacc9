"""List a folder of photos, one sub-folder per class, by the contents of its files."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from deploy import user_files
from deploy.contract import check_label
from deploy.errors import BadData
from retrain.data import folder_layout, ignored_files
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import ClassFolder, Layout
from retrain.data.listed import Listed, to_batches
from retrain.data.scan import scan as scan_source
from retrain.data.scan_parts import ScanParts


def scan(root: Path, labels_from: int | None = None) -> Dataset:
    """Return the photos below `root`; folders inside a class folder belong to its class.

    Content decides what is a photo. Hidden files and those of systems are left out. A file that
    claims by its name to be a photo and is none is bad, and so is a photo with two labels.
    `labels_from` is the level of the class folders, as in `folder_layout.read`. Each file is read
    and hashed once. Raises BadData without two classes, or if a class has no photo.
    """
    return scan_source(PhotoFolder.open(root, labels_from))


@dataclass(frozen=True)
class PhotoFolder:
    """A folder of photos on this machine, as a source."""

    root: Path
    layout: Layout
    _left_out: list[Path] = field(default_factory=list)
    all_claim: bool = False

    @classmethod
    def open(cls, root: Path, labels_from: int | None = None) -> "PhotoFolder":
        """Read the layout of a folder; raise BadData as `scan` does."""
        if not root.is_dir():
            raise BadData(
                f"{root}: no such folder: expected one holding a sub-folder for each class"
            )
        layout = folder_layout.read(root, labels_from)
        for folder in layout.classes:
            _check_label(Path(folder.path).parent, folder.label)
        _check_links(layout.classes)
        return cls(root, layout)

    @property
    def classes(self) -> tuple[ClassFolder, ...]:
        """The class folders."""
        return self.layout.classes

    def batches(self, _last: ScanParts) -> Iterator[pa.RecordBatch]:
        """Yield the user's files below the class folders."""
        return to_batches(self._rows())

    def _rows(self) -> Iterator[Listed]:
        closed: list[OSError] = []
        self._left_out[:] = [path for folder in self.layout.parents for path in _not_shown(folder)]
        for folder in self.layout.classes:
            for path in user_files.walk(Path(folder.path), closed.append, self._left_out.append):
                yield Listed(os.fsencode(path), folder.label, folder.split)
            for error in closed:
                reason = f"the folder cannot be opened ({error.strerror})"
                yield Listed(os.fsencode(error.filename), folder.label, reason=reason)
            closed.clear()

    def remarks(self) -> tuple[str, ...]:
        """Return the warnings of the layout, and those of the files that were left out."""
        return (
            *self.layout.warnings,
            *ignored_files.warnings(self.layout.parents),
            *ignored_files.system_warnings(self._left_out),
        )


def _not_shown(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not user_files.is_user_file(path.name)]


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
