"""Define what a source of photos yields: batches of rows with the place and label of each photo."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from deploy.image import MAX_PHOTO_BYTES, TOO_LARGE, claims_photo, why_not_photo
from retrain.data.folder_layout import ClassFolder
from retrain.data.remote_path import PhotoPath

if TYPE_CHECKING:
    from retrain.data.scan_parts import ScanParts

SCHEMA = pa.schema(
    {
        "path": pa.binary(),
        "label": pa.string(),
        "split": pa.string(),
        "digest": pa.binary(32),
        "size": pa.int64(),
        "version": pa.string(),
        "reason": pa.string(),
    }
)
"""The columns of a batch, and of the parts of a scan.

`path` is the text of a place (`remote_path.photo_path`) in the bytes of the file system. `digest`
is null until the file is read. `size` is in bytes, null if it is not known. A file of the same
path, size and `version` has the same content; "" is the version of a file that may have changed
without showing it. `reason` says why a row is not used; it is "" for what is passed over in
silence, and null for a photo.
"""
ROWS_PER_BATCH = 4096
Item = TypeVar("Item")


class Listed(NamedTuple):
    """A row of `SCHEMA`."""

    path: bytes
    label: str
    split: str = ""
    digest: bytes | None = None
    size: int | None = None
    version: str = ""
    reason: str | None = None


class PhotoSource(Protocol):
    """A place that photos are listed from, in an order that is the same each time.

    Without `all_claim` only a file that has the content or the suffix of an image claims to be one.
    """

    @property
    def root(self) -> PhotoPath:
        """The place."""

    @property
    def all_claim(self) -> bool:
        """Whether each row claims to be a photo."""

    @property
    def classes(self) -> tuple[ClassFolder, ...] | None:
        """The class folders; None if the rows alone have the labels."""

    def batches(self, last: "ScanParts") -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of `SCHEMA`; `last` is what earlier scans know.

        Raises BadData if the whole source cannot be read.
        """

    def remarks(self) -> tuple[str, ...]:
        """Return the warnings of the listing, after `batches` has ended."""


def why_left_out(
    name: Path, head: bytes, size: int, all_claim: bool = False, problem: str | None = None
) -> str | None:
    """Return the `reason` of a file's row: of each source the same files are photos.

    `head` are its first HEAD bytes, or none where they need not be read, and `size` all its bytes.
    `problem` is what is wrong with it, if that is known already.
    """
    if problem is None:
        problem = TOO_LARGE if size > MAX_PHOTO_BYTES else why_not_photo(head, name)
    claims = problem is None or all_claim or claims_photo(name, head)
    return problem if claims else ""


def to_batch(rows: Sequence[Listed]) -> pa.RecordBatch:
    """Return rows as one batch."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(SCHEMA)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)],
        schema=SCHEMA,
    )


def to_batches(rows: Iterable[Listed]) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches."""
    for block in in_blocks(rows, ROWS_PER_BATCH):
        yield to_batch(block)


def in_blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last one may be shorter."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block
