"""Write and read the manifest of a run: each photo with its split."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged
from retrain.data.photo_folder import Photo


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
    """Return a photo of a manifest and its split; raise ValueError for a damaged line."""
    digest = bytes.fromhex(row["digest"])
    if len(digest) != 32 or not (row["path"] and row["split"]) or None in row:
        raise ValueError(f"{row['path']!r:.60}: its line is damaged")
    return Photo(Path(row["path"]), row["label"], digest), row["split"]
