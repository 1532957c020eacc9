"""Write and read the manifest of a run: each photo with its split.

A manifest is a CSV file with the columns `path` (absolute, or a URL: `remote_path.photo_path`),
`label`, `digest` (SHA-256 of the photo's bytes, hexadecimal) and `split`. Its versions follow the
rule of `deploy.versioned_json`:

- A reader finds columns by their names, and ignores those that it does not know.
- A file may have a column `min_reader`: the lowest version whose readers understand it. A reader
  refuses the file only if that is above the reader's own version. Files of version 1 have none.

A value of a wrong type is refused, and so is an unknown split.
"""

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged
from retrain.data.folder_layout import SPLITS
from retrain.data.photo import Photo
from retrain.data.photo_table import SPLIT_OF_CODE, PhotoTable
from retrain.data.remote_path import photo_path
from retrain.data.split import Splits

_VERSION = 1
_COLUMNS = ("path", "label", "digest", "split")


def write_manifest(path: Path, photos: Sequence[Photo], splits: Sequence[str]) -> None:
    """Write the manifest `path`, one line per photo, whole or not at all."""
    with files.atomic(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        # All are quoted: Python before 3.13 leaves a lone carriage return bare, and cannot read it.
        table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(_COLUMNS)
        pairs = zip(PhotoTable.of(photos).texts(), splits, strict=True)
        table.writerows((*texts, split) for texts, split in pairs)
        text.detach()  # which flushes it, and leaves the stream open


class Manifest(Sequence[tuple[Photo, str]]):
    """The photos of a run, each with its split, as columns."""

    def __init__(self, photos: PhotoTable, splits: Splits) -> None:
        self.photos = photos
        self.splits = splits

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.photos)

    @overload
    def __getitem__(self, selection: int) -> tuple[Photo, str]: ...
    @overload
    def __getitem__(self, selection: slice) -> "Manifest": ...
    def __getitem__(self, selection: int | slice) -> "tuple[Photo, str] | Manifest":
        """Return the photo and the split of a line, or some lines."""
        if isinstance(selection, slice):
            return Manifest(self.photos[selection], self.splits[selection])
        return self.photos[selection], self.splits[selection]

    def __iter__(self) -> Iterator[tuple[Photo, str]]:
        """Yield each photo with its split."""
        return zip(self.photos, self.splits, strict=True)

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of the same pairs."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def read_manifest(path: Path) -> Manifest:
    """Return each photo of a manifest with its split; raise BadData if it is not one."""
    try:
        with (
            damaged(f"{path}: cannot be read as a manifest", "train again"),
            path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream,
        ):
            table = csv.DictReader(stream)
            absent = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
            if absent:
                raise ValueError(f"it has no column {', '.join(absent)}")
            codes = array("b")

            def photos() -> Iterator[Photo]:
                for row in table:
                    photo, split = _photo_and_split(row, path)
                    codes.append(SPLIT_OF_CODE.index(split))
                    yield photo

            return Manifest(PhotoTable.of(photos()), Splits(np.array(codes, np.int8)))
    except OSError as error:
        raise BadData(
            f"{path}: cannot be read as a manifest ({error.strerror}): train again"
        ) from error


def _photo_and_split(row: dict[str, str], path: Path) -> tuple[Photo, str]:
    """Return the photo of a line, and its split; raise ValueError for a damaged line."""
    min_reader = int(row.get("min_reader") or 1)
    if min_reader > _VERSION:
        raise BadData(
            f"{path}: it needs a reader of version {min_reader}, and this program reads version "
            f"{_VERSION}: install a newer version of retrain-tflite"
        )
    digest = bytes.fromhex(row["digest"])
    is_whole = len(digest) == 32 and row["path"] and row["label"] and None not in row
    if not is_whole or row["split"] not in SPLITS:
        raise ValueError(f"{row['path']!r:.60}: its line is damaged")
    return Photo(photo_path(row["path"]), row["label"], digest), row["split"]
