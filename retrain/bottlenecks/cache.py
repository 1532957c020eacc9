"""The bottleneck cache: Parquet shards in one folder a fingerprint, keyed by a photo's digest."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files
from deploy.errors import BadData
from deploy.system.cores import cores
from deploy.system.temporary_files import sweep
from retrain.bottlenecks.feature_store import Matrix

Key = tuple[bytes, int]
"""A photo's digest, and the number of a view of it."""


class Row(NamedTuple):
    """A photo that was analysed: its bottleneck, float16 (D,), or the error that it gave.

    `view` is 0 for the photo as it is, and counts from 1 for distorted ones.
    """

    digest: bytes
    view: int
    error: str | None
    bottleneck: npt.NDArray[np.float16] | None


def _name(content: bytes) -> str:
    """Return the name of a shard: Parquet's own checksums leave out its headers and footer."""
    return f"shard-{hashlib.sha256(content).hexdigest()}.parquet"


def _keys(table: pa.Table) -> Iterator[Key]:
    return zip(table["digest"].to_pylist(), table["view"].to_pylist(), strict=True)


class DamagedShards(Exception):
    """Shards were damaged, and set aside: what they held must be analysed again."""


class Cache:
    """The shards of one fingerprint. Any number of processes may add shards at once."""

    def __init__(self, folder: Path, width: int) -> None:
        """Use `folder` for bottlenecks of `width` values; it is made when first written."""
        self.folder = folder
        self.width = width
        pa.set_cpu_count(cores())  # it counts all that the machine has
        self._schema = pa.schema(
            {
                "digest": pa.binary(32),
                "view": pa.int16(),
                "status": pa.string(),
                "error": pa.string(),
                "bottleneck": pa.list_(pa.float16(), width),
            }
        )

    def add(self, rows: Sequence[Row]) -> None:
        """Write `rows` as a shard of their own, whole or not at all, named by its SHA-256."""
        columns = {
            "digest": [row.digest for row in rows],
            "view": [row.view for row in rows],
            "status": ["bad" if row.error else "ok" for row in rows],
            "error": [row.error for row in rows],
            "bottleneck": [row.bottleneck for row in rows],
        }
        table = pa.table(columns, schema=self._schema)
        content = io.BytesIO()
        # A dictionary of values that hardly repeat makes reading take six times as long.
        pq.write_table(table, content, compression="zstd", use_dictionary=False)
        files.write(self.folder / _name(content.getvalue()), content.getvalue())

    def known(self) -> dict[Key, str | None]:
        """Return what was analysed: its error if it gave one, of each digest and view.

        Shards that killed processes left unfinished are removed.
        """
        sweep(self.folder)
        found: dict[Key, str | None] = {}
        for table in self._tables(["digest", "view", "error"]):
            found.update(zip(_keys(table), table["error"].to_pylist(), strict=True))
        return found

    def load(self, keys: Sequence[Key], matrix: Matrix) -> npt.NDArray[np.int64]:
        """Append the bottlenecks of `keys` to `matrix`; return the row of each, int64 (N,).

        Raises DamagedShards when a shard's SHA-256 is wrong: it is set aside, to be made
        again; BadData when a photo has no bottleneck.
        """
        place = {key: i for i, key in enumerate(keys)}
        rows = np.full(len(keys), -1)
        for table in self._tables(["digest", "view", "status", "bottleneck"]):
            good = table.filter(pa.compute.equal(table["status"], "ok")).combine_chunks()
            found = [(place[key], i) for i, key in enumerate(_keys(good)) if key in place]
            if found:
                target, source = np.array(found).T
                values = good["bottleneck"].chunk(0).flatten().to_numpy()
                rows[target] = matrix.append(values.reshape(-1, self.width)[source])
        if (rows < 0).any():
            raise BadData(f"{self.folder}: {np.sum(rows < 0)} bottlenecks vanished: run again")
        return rows

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        damaged = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            try:
                content = path.read_bytes()
                why = None if path.name == _name(content) else "its SHA-256 is not its name"
            except OSError as error:
                why = error.strerror
            if why:
                with suppress(FileNotFoundError):  # another process was first
                    path.replace(path.with_suffix(".damaged"))
                damaged.append(f"{path.name} ({why})")
                continue
            # The bytes whose digest was checked, not the file, which may change meanwhile.
            yield pq.read_table(pa.BufferReader(content), columns=columns)
        if damaged:
            raise DamagedShards(f"{self.folder}: damaged, set aside: {', '.join(damaged)}")
