"""Scan a source: know the digest of each photo, from the list, the last scan, or its bytes."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deploy.errors import BadData
from deploy.image import HEAD, MAX_BYTES, claims_photo, why_not_photo
from deploy.system.cores import cores
from retrain.data import similar_labels
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import SPLITS, ClassFolder
from retrain.data.listed import SCHEMA, Listed, PhotoSource, in_blocks, to_batch
from retrain.data.photo import BadPhoto
from retrain.data.photo_table import PhotoTable
from retrain.data.read_ahead import read_ahead
from retrain.data.remote_path import PhotoPath, look, photo_path
from retrain.data.scan_parts import PartWriter, Plan, ScanParts, folder_of, in_use, remove_others

TOO_LARGE = f"larger than {MAX_BYTES // 1024**2} MB"
_REMOTE_READERS = 32
"""Reads at a time from a store: each waits for the network most of its time."""
_ROWS_PER_TASK = 16


def scan(source: PhotoSource, scans: Path | None = None) -> Dataset:
    """Return the photos of a source, and the rows that are none, with their reasons.

    Digests come from the list, or from the parts of the last scan below `scans` if path, size and
    version of the file are the same; else the file is read and hashed. The parts are renewed; that
    they cannot be written is no error. Raises BadData if the source cannot be read, without two
    classes, or if a class has no photo.
    """
    folder = scans and folder_of(scans, source.root)
    batches = digested(source, ScanParts(folder))
    if folder:
        batches = _written_by_the_way(batches, folder, source.root)
    return _to_dataset(source, batches)


def write_plan(source: PhotoSource, folder: Path) -> Plan:
    """Write the parts of a scan of `source` into `folder`; return them, in order.

    The rows are streamed. Parts of former scans in `folder` are used, and removed in the end.
    Raises OSError if a part cannot be written, BadData as `scan` does.
    """
    with in_use(folder, source.root) as lock:
        writer = PartWriter(folder)
        for batch in digested(source, ScanParts(folder)):
            writer.add(_with_absolute_paths(batch))
        plan = writer.finish()
        remove_others(folder, plan, lock)
    return plan


def _written_by_the_way(
    batches: Iterator[pa.RecordBatch], folder: Path, address: PhotoPath
) -> Iterator[pa.RecordBatch]:
    """Yield `batches`, and write them as parts into `folder` for as long as that succeeds."""
    writer = None
    with ExitStack() as stack:
        with suppress(OSError):
            lock = stack.enter_context(in_use(folder, address))
            writer = PartWriter(folder)
        for batch in batches:
            try:
                if writer:
                    writer.add(_with_absolute_paths(batch))
            except OSError:
                writer = None
            yield batch
        with suppress(OSError):
            if writer:
                remove_others(folder, writer.finish(), lock)


def digested(source: PhotoSource, last: ScanParts) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a source, each with a digest or with the reason why it has none."""
    with ThreadPoolExecutor(_REMOTE_READERS) as pool:
        for batch in source.batches(last):
            is_open = pc.and_(pc.is_null(batch["digest"]), pc.is_null(batch["reason"]))
            if not pc.any(is_open).as_py():
                yield batch
                continue
            columns = (column.to_pylist() for column in batch.columns)
            rows = [Listed(*values) for values in zip(*columns, strict=True)]
            is_remote = any(b"://" in row.path for row in rows)
            ahead = _REMOTE_READERS if is_remote else cores() + 4
            call = partial(_examine_all, last=last, all_claim=source.all_claim)
            tasks = in_blocks(rows, _ROWS_PER_TASK)
            yield to_batch([row for block in read_ahead(pool, call, tasks, ahead) for row in block])


def _examine_all(rows: list[Listed], last: ScanParts, all_claim: bool) -> list[Listed]:
    return [
        _examine(row, last, all_claim) if row.digest is None and row.reason is None else row
        for row in rows
    ]


def _examine(row: Listed, last: ScanParts, all_claim: bool) -> Listed:
    """Return a row with the digest of its file, or with the reason why that is no photo."""
    place = photo_path(os.fsdecode(row.path))
    try:
        if isinstance(place, Path) and not place.is_file():
            return row._replace(reason=_why_no_file(place, all_claim))
        if row.size is None or not row.version:
            size, _, _ = facts = look(place)
            row = row._replace(size=size, version=facts.version)
        if row.size and row.size > MAX_BYTES:
            return row._replace(reason=TOO_LARGE)
        if row.size and row.version:
            digest = last.digest_of(_absolute(row.path), row.size, row.version)
            if digest:
                return row._replace(digest=digest)
        content = place.read_bytes()
    except OSError as error:
        return row._replace(reason=f"cannot be read ({error.strerror})")
    name = place if isinstance(place, Path) else Path(place.name)
    reason = why_not_photo(content[:HEAD], name)
    if reason is None:
        return row._replace(digest=hashlib.sha256(content).digest())
    claims = all_claim or not content or claims_photo(name, content[:HEAD])
    return row._replace(reason=reason if claims else "")


def _why_no_file(path: Path, all_claim: bool) -> str:
    """Return why there is no file at `path`; "" for a pipe or the like that no list names."""
    if path.exists():
        return "not a file" if all_claim else ""
    return "a link to nothing" if path.is_symlink() else "there is no such file"


def _absolute(path: bytes) -> bytes:
    is_absolute = path.startswith(b"/") or b"://" in path
    return path if is_absolute else os.fsencode(Path.cwd()) + b"/" + path


def _with_absolute_paths(batch: pa.RecordBatch) -> pa.RecordBatch:
    paths = batch["path"]
    is_absolute = pc.match_substring_regex(paths, "^/|://")
    if pc.all(is_absolute).as_py():
        return batch
    folder = pa.scalar(os.fsencode(Path.cwd()) + b"/", pa.binary())
    joined = pc.binary_join_element_wise(folder, paths, pa.scalar(b"", pa.binary()))
    return batch.set_column(0, SCHEMA.field("path"), pc.if_else(is_absolute, paths, joined))


def _to_dataset(source: PhotoSource, batches: Iterator[pa.RecordBatch]) -> Dataset:
    """Return the rows as a data set; raise BadData as `scan` does."""
    columns = ["path", "label", "split", "digest"]
    usable = [SCHEMA.empty_table().select(columns)]
    bad: list[BadPhoto] = []
    classes: set[tuple[str, str]] = set()
    for batch in batches:
        table = pa.Table.from_batches([batch])
        is_photo = pc.is_null(table["reason"])
        usable.append(table.filter(is_photo).select(columns))
        bad += _bad_photos(table.filter(pc.invert(is_photo)))
        if source.classes is None:
            pairs = table.group_by(["label", "split"]).aggregate([])
            classes |= set(
                zip(*(pairs[name].to_pylist() for name in ("label", "split")), strict=True)
            )
    photos = pa.concat_tables(usable)
    folders = source.classes
    if folders is None:
        folders = tuple(
            ClassFolder(label, source.root, split) for label, split in sorted(classes) if label
        )
        if not folders:
            why = f" ({bad[0].path.name}: {bad[0].reason})" if bad else ""
            raise BadData(f"{source.root}: no row has a label{why}")
        photos, without_split = _split_of_list(source.root, photos)
        bad += without_split
    labels = sorted({folder.label for folder in folders})
    remarks = (*source.remarks(), *similar_labels.warnings(labels))
    by_name = {name: photos[name] for name in columns}
    del usable, photos  # each column goes as soon as its own form is there
    return Dataset.of(source.root, folders, PhotoTable.of_arrow(by_name), bad, remarks)


def _bad_photos(rows: pa.Table, reason: str | None = None) -> list[BadPhoto]:
    """Return rows as bad photos, with `reason` or with their own; not those of no reason."""
    return [
        BadPhoto(photo_path(os.fsdecode(row["path"])), reason or row["reason"], label=row["label"])
        for row in rows.to_pylist()
        if reason or row["reason"]
    ]


def _split_of_list(root: PhotoPath, photos: pa.Table) -> tuple[pa.Table, list[BadPhoto]]:
    """Return the photos that have a split, all if none has one, and the others.

    Raises BadData unless there are photos of each split, or of none.
    """
    splits = set(pc.unique(photos["split"]).to_pylist()) - {""}
    if not splits:
        return photos, []
    absent = [name for name in SPLITS if name not in splits]
    if absent:
        raise BadData(
            f"{root}: its column `split` makes no whole split: no photo is of "
            f"{', '.join(absent)}: add some, or leave the column out to split all photos anew"
        )
    has_split = pc.not_equal(photos["split"], "")
    reason = "its `split` is empty, and other rows have one"
    return photos.filter(has_split), _bad_photos(photos.filter(pc.invert(has_split)), reason)
