"""Scan a source: know the digest of each photo, from the list, the last scan, or its bytes."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deploy.errors import BadData
from deploy.image import HEAD, MAX_PHOTO_BYTES, claims_photo
from deploy.system.cores import cores
from retrain.data import similar_labels, store
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import SPLITS, ClassFolder
from retrain.data.listed import SCHEMA, PhotoSource, in_blocks, why_left_out
from retrain.data.photo import BadPhoto
from retrain.data.photo_table import PhotoTable
from retrain.data.read_ahead import read_ahead
from retrain.data.remote_path import PhotoPath, RemotePath, local_facts, look, photo_path
from retrain.data.scan_parts import PartWriter, Plan, ScanParts, folder_of, in_use, remove_others
from retrain.data.store import Facts

_REMOTE_READERS = 32
"""Reads at a time from a store: each waits for the network most of its time."""
_LOOKS_PER_TASK, _READS_PER_TASK = 256, 16
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says where no file is."""


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
            if pc.any(is_open).as_py():
                batch = _with_digests(batch, last, source.all_claim, pool)
            yield batch


def _with_digests(
    batch: pa.RecordBatch, last: ScanParts, all_claim: bool, pool: Executor
) -> pa.RecordBatch:
    """Return the rows with their digests: look at each file, and read those that `last` lacks."""
    paths = batch["path"].to_pylist()
    digests, sizes, versions, reasons = (
        batch[name].to_pylist() for name in ("digest", "size", "version", "reason")
    )
    is_remote = any(b"://" in path for path in paths)
    ahead = _REMOTE_READERS if is_remote else cores() + 4

    def look_at(numbers: list[int]) -> list[Facts | str]:
        return [_look(paths[i], all_claim) for i in numbers]

    def read(numbers: list[int]) -> list[tuple[bytes | None, str | None]]:
        return [_read(paths[i], sizes[i], all_claim) for i in numbers]

    open_rows = [i for i, path in enumerate(paths) if digests[i] is None and reasons[i] is None]
    unknown = [i for i in open_rows if sizes[i] is None or not versions[i]]
    block = _READS_PER_TASK if is_remote else _LOOKS_PER_TASK
    facts = chain.from_iterable(read_ahead(pool, look_at, in_blocks(unknown, block), ahead))
    for i, fact in zip(unknown, facts, strict=True):
        if isinstance(fact, str):
            reasons[i] = fact
        else:
            sizes[i], versions[i] = fact.size, fact.version
    # A size of 0 is what some systems say of a file that they make while it is read.
    firm = [i for i in open_rows if reasons[i] is None and sizes[i] and versions[i]]
    known = last.digests_of([(_absolute(paths[i]), sizes[i], versions[i]) for i in firm])
    for i, digest in zip(firm, known, strict=True):
        digests[i] = digest
    unread = [i for i in open_rows if digests[i] is None and reasons[i] is None]
    results = chain.from_iterable(read_ahead(pool, read, in_blocks(unread, _READS_PER_TASK), ahead))
    for i, result in zip(unread, results, strict=True):
        digests[i], reasons[i] = result
    columns = {"digest": digests, "size": sizes, "version": versions, "reason": reasons}
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else batch[field.name]
        for field in SCHEMA
    ]
    return pa.record_batch(arrays, schema=SCHEMA)


def _look(path: bytes, all_claim: bool) -> Facts | str:
    """Return the facts of a file, or the reason why it is no photo."""
    place = photo_path(os.fsdecode(path)) if b"://" in path else path
    try:
        if isinstance(place, RemotePath):
            return look(place)
        about = os.stat(place)  # noqa: PTH116 (a Path takes longer than this)
    except OSError as error:
        if error.errno not in _NOTHING:
            return f"cannot be read ({error.strerror})"
        name = Path(os.fsdecode(path if isinstance(place, RemotePath) else place))
        problem = "a link to nothing" if name.is_symlink() else "there is no such file"
        return why_left_out(name, b"", 0, all_claim, problem) or ""
    if not stat.S_ISREG(about.st_mode):
        return "not a file" if all_claim else ""
    return local_facts(about)


def _read(path: bytes, size: int | None, all_claim: bool) -> tuple[bytes | None, str | None]:
    """Return the digest of a file, or the reason why it is no photo.

    One whose size the store did not say may be without end.
    """
    place = photo_path(os.fsdecode(path))
    name = place if isinstance(place, Path) else Path(place.name)
    is_large = size is not None and size > MAX_PHOTO_BYTES
    try:
        if size == 0 and isinstance(place, RemotePath) and not store.is_web(str(place)):
            content = b""  # a store refuses to send a part of nothing
        elif not is_large:
            content = place.read_bytes()
        elif all_claim or claims_photo(name, b""):
            content = b""
        else:
            content = _head(place)
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    length = size if size is not None and is_large else len(content)
    reason = why_left_out(name, content[:HEAD], length, all_claim)
    return (hashlib.sha256(content).digest(), None) if reason is None else (None, reason)


def _head(place: PhotoPath) -> bytes:
    if isinstance(place, RemotePath):
        return store.read_start(str(place), HEAD)
    with place.open("rb") as stream:
        return stream.read(HEAD)


def _absolute(path: bytes) -> bytes:
    is_absolute = path.startswith(b"/") or b"://" in path
    return path if is_absolute else os.fsencode(Path.cwd()) + b"/" + path


def _with_absolute_paths(batch: pa.RecordBatch) -> pa.RecordBatch:
    paths = batch["path"]
    is_absolute = pc.or_(pc.starts_with(paths, b"/"), pc.match_substring(paths, b"://"))
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
