"""List the photos that a CSV or Parquet file names, with their labels; the photos stay in place.

The columns are `uri` and `label`, and where there are such, `digest` (SHA-256 of the photo's bytes,
as 64 hexadecimal digits, or in Parquet as 32 bytes) and `split`. Other columns are ignored. A `uri`
is a path or a URL; one that is relative begins at the folder of the list.
"""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from deploy.contract import check_label
from deploy.errors import BadData
from deploy.system.cores import cores
from deploy.system.counts import with_noun
from deploy.untrusted_files import damaged
from retrain.data import store
from retrain.data.folder_layout import SPLIT_BY_NAME, ClassFolder
from retrain.data.listed import SCHEMA, Listed, to_batch
from retrain.data.remote_path import PhotoPath, look
from retrain.data.scan_parts import ScanParts

Array: TypeAlias = Any
"""An array of pyarrow, which has no types."""
LISTS = (".csv", ".parquet")
"""The suffixes of lists."""
_REQUIRED, _OPTIONAL = ("uri", "label"), ("digest", "split")
_ROWS = 65_536
_MAX_LINE_BYTES = 4 * 1024**2
_MAX_SHOWN = 200
_ABSOLUTE = r"^(?:/|[A-Za-z][A-Za-z0-9+.\-]*://)"
_IS_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_DIGITS = np.full(256, 255, np.uint8)
for _value, _digit in enumerate(b"0123456789abcdef"):
    _DIGITS[[_digit, bytes([_digit]).upper()[0]]] = _value


@dataclass(frozen=True)
class PhotoList:
    """The rows of a CSV or Parquet file at a path or URL, as a source."""

    root: PhotoPath
    classes: tuple[ClassFolder, ...] | None = None
    all_claim: bool = True
    _short_lines: list[Listed] = field(default_factory=list)
    _skipped: list[int] = field(default_factory=list)

    def batches(self, _last: ScanParts) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the list; raise BadData without the columns, or without a row."""
        is_csv = self.root.suffix.lower() == ".csv"
        rows = 0
        self._skipped.clear()
        with self._errors("CSV" if is_csv else "Parquet"):
            for batch in self._read_csv() if is_csv else self._read_parquet():
                if batch.num_rows:
                    yield self._checked(batch, rows, is_csv)
                rows += batch.num_rows
                if self._short_lines:
                    yield to_batch(self._short_lines)
                    self._short_lines.clear()
        if not rows:
            raise BadData(f"{self.root}: it has no row: name a photo and its label in each row")

    def remarks(self) -> tuple[str, ...]:
        """Return no warnings: all that is wrong with a list is wrong with a row of it."""
        return ()

    @contextmanager
    def _errors(self, form: str) -> Iterator[None]:
        message = f"{self.root}: cannot be read as a list in {form}"
        remedy = f"write it as {form} with the columns {' and '.join(_REQUIRED)}"
        try:
            with damaged(message, remedy):
                yield
        except OSError as error:
            if error.errno is None:  # of pyarrow, for what is no Parquet
                raise BadData(f"{message} ({str(error)[:_MAX_SHOWN]}): {remedy}") from error
            raise BadData(f"{self.root}: cannot be read ({error.strerror})") from error

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with ExitStack() as stack:
            if isinstance(self.root, Path):
                look(self.root)
                yield stack.enter_context(self.root.open("rb"))
            else:
                stack.enter_context(store.reading(str(self.root)))
                yield stack.enter_context(store.open_stream(str(self.root)))

    def _read_parquet(self) -> Iterator[pa.RecordBatch]:
        pa.set_cpu_count(cores())  # pyarrow counts all cores of the machine
        # A part of a column is read at a time: one group may hold all rows of the list.
        options = {"pre_buffer": False, "buffer_size": 1024**2}
        with self._open() as stream, pq.ParquetFile(stream, **options) as file:
            columns = self._columns(file.schema_arrow.names)
            yield from file.iter_batches(_ROWS, columns=columns)

    def _read_csv(self) -> Iterator[pa.RecordBatch]:
        with self._open() as stream:
            first = stream.read(_MAX_LINE_BYTES)
        text = io.StringIO(first.decode("utf-8-sig", "replace"), newline="")
        columns = self._columns(next(csv.reader(text), []))
        read = pacsv.ReadOptions(block_size=_MAX_LINE_BYTES, use_threads=False)
        parse = pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=self._skip_line)
        convert = pacsv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.binary()),
            strings_can_be_null=False,
        )
        with self._open() as stream:
            yield from pacsv.open_csv(stream, read, parse, convert)

    def _skip_line(self, line: Any) -> str:
        reason = (
            f"line {line.number} has {with_noun(line.actual_columns, 'column')}, not "
            f"{line.expected_columns}"
        )
        self._skipped.append(line.number)
        self._short_lines.append(Listed(os.fsencode(self.root), "", reason=reason))
        return "skip"

    def _columns(self, names: list[str]) -> list[str]:
        """Return the columns to read, of `names`; raise BadData if one is missing."""
        for name in _REQUIRED:
            if name not in names:
                listed = ", ".join(map(repr, names[:8]))[:_MAX_SHOWN] or "none"
                raise BadData(
                    f"{self.root}: it has no column {name}: its columns are {listed}: name the "
                    "columns uri and label, in the first line of a CSV file, separated by commas"
                )
        return [name for name in (*_REQUIRED, *_OPTIONAL) if name in names]

    def _checked(self, batch: pa.RecordBatch, first: int, is_csv: bool) -> pa.RecordBatch:
        """Return rows of the list as rows of `SCHEMA`; `first` is the number of rows before."""
        count, names = batch.num_rows, batch.schema.names
        uris = pc.fill_null(_plain(batch["uri"], pa.binary()), b"")
        paths, uri_reasons = self._paths(uris, first, is_csv)
        labels, label_reasons = _translated(batch["label"], _check)
        digests, digest_reasons = pa.nulls(count, pa.binary(32)), pa.nulls(count, pa.string())
        splits, split_reasons = pa.repeat("", count), pa.nulls(count, pa.string())
        if "digest" in names:
            digests, digest_reasons = _digests(batch["digest"], is_csv)
        if "split" in names:
            splits, split_reasons = _translated(batch["split"], _split)
        columns = {
            "path": paths,
            "label": labels,
            "split": splits,
            "digest": digests,
            "size": pa.nulls(count, pa.int64()),
            "version": pa.repeat("", count),
            "reason": pc.coalesce(uri_reasons, label_reasons, digest_reasons, split_reasons),
        }
        return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _paths(self, uris: Array, first: int, is_csv: bool) -> tuple[Array, Array]:
        """Return the place of each photo, and why a row has none."""
        folder = self._folder()
        is_absolute = pc.starts_with(uris, b"/")
        if not pc.all(is_absolute).as_py():
            is_absolute = pc.match_substring_regex(uris, _ABSOLUTE)
        paths = uris
        if folder and not pc.all(is_absolute).as_py():
            relative = pc.replace_substring_regex(uris, r"^(?:\./+)+", "")
            end = pa.scalar(b"", pa.binary())
            joined = pc.binary_join_element_wise(pa.scalar(folder, pa.binary()), relative, end)
            paths = pc.if_else(is_absolute, uris, joined)
        is_empty, has_null = pc.equal(uris, b""), pc.match_substring(uris, b"\0")
        is_none = pc.or_(is_empty, has_null)
        reasons = pa.nulls(len(uris), pa.string())
        if pc.any(is_none).as_py():
            texts: list[str | None] = [None] * len(uris)
            for number in np.flatnonzero(is_none.to_numpy(zero_copy_only=False)).tolist():
                problem = "no uri" if is_empty[number].as_py() else "a null byte in its uri"
                texts[number] = f"{self._name(first + number, is_csv)} has {problem}"
            reasons = pa.array(texts, pa.string())
            paths = pc.if_else(is_none, pa.scalar(os.fsencode(self.root), pa.binary()), paths)
        return paths, reasons

    def _name(self, row: int, is_csv: bool) -> str:
        """Return what a person finds row `row`, from 0, by; a CSV file has other lines too."""
        if not is_csv:
            return f"row {row + 1}"
        line = row + 2
        # Each line that was skipped before moves the row on by one.
        between = np.array(self._skipped, np.int64) - np.arange(len(self._skipped))
        return f"line {line + np.searchsorted(between, line, side='right')}"

    def _folder(self) -> bytes:
        """Return the beginning of relative places, with its slash."""
        if isinstance(self.root, Path):
            return b"" if self.root.parent == Path() else os.fsencode(self.root.parent) + b"/"
        return os.fsencode(str(self.root).partition("?")[0].rpartition("/")[0]) + b"/"


def _plain(column: Array, kind: Any) -> Array:
    """Return a column in the type `kind`, whichever of the types it has that hold the same."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    return column if column.type == kind else column.cast(kind)


def _translated(column: Array, translate: Any) -> tuple[Array, Array]:
    """Return each value as text as `translate` returns it, and the reasons that it returns.

    It is called once for each distinct value, None for null.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not pa.types.is_binary(column.type):
        column = column.cast(pa.string()).cast(pa.binary())
    encoded = column.dictionary_encode(null_encoding="encode")
    pairs = [translate(value) for value in encoded.dictionary.to_pylist()]
    texts, reasons = (
        pa.array(values, pa.string()).take(encoded.indices) for values in zip(*pairs, strict=True)
    )
    return texts, reasons


def _check(value: bytes | None) -> tuple[str, str | None]:
    """Return the label, and why it is none."""
    try:
        label = (value or b"").decode()
        check_label(label)
    except UnicodeDecodeError:
        return "", "its label is not UTF-8"
    except BadData as error:
        return "", str(error)
    return (label, None) if label.strip() else ("", "its label is empty")


def _split(value: bytes | None) -> tuple[str, str | None]:
    """Return the split that a name means, "" for an empty one, and why it means none."""
    name = (value or b"").decode("utf-8", "backslashreplace").strip()
    if not name:
        return "", None
    if split := SPLIT_BY_NAME.get(name.casefold()):
        return split, None
    return "", f"its split {name[:40]!r} is none of train, validation and test"


def _digests(column: Array, is_csv: bool) -> tuple[Array, Array]:
    """Return the digests as 32 bytes, null where a row has none, and why a digest is none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_text = is_csv or not any(is_kind(column.type) for is_kind in _IS_BYTES)
    values = pc.fill_null(_plain(column, pa.binary()), b"")
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False)
    width = 64 if is_text else 32
    is_whole = lengths == width
    whole = values.filter(pa.array(is_whole))
    rows = np.frombuffer(b"".join(whole.to_pylist()), np.uint8).reshape(-1, width)
    if is_text:
        digits = _DIGITS[rows]
        is_whole[is_whole] = (digits < 16).all(axis=1)
        digits = digits[(digits < 16).all(axis=1)]
        rows = np.bitwise_or(digits[:, ::2] * np.uint8(16), digits[:, 1::2])
    packed = np.zeros((len(values), 32), np.uint8)
    packed[is_whole] = rows
    array = pa.Array.from_buffers(pa.binary(32), len(values), [None, pa.py_buffer(packed)])
    form = "64 hexadecimal digits" if is_text else "32 bytes"
    reason = pa.scalar(f"its digest is not {form}, a SHA-256", pa.string())
    is_missing = pa.array(lengths == 0)
    is_usable = pa.array(is_whole)
    no_reason = pa.scalar(None, pa.string())
    digests = pc.if_else(is_usable, array, pa.scalar(None, pa.binary(32)))
    return digests, pc.if_else(pc.or_(is_usable, is_missing), no_reason, reason)
