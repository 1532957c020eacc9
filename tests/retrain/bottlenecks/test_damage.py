"""A damaged cache: all damage is found, none is trained on, and one run mends it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.caches import BottleneckFolder, digests
from tests.helpers.runs import STEPS

FLIPS = 200


def exported(folder: BottleneckFolder, target: Path) -> pa.Table:
    """Return the rows that `retrain cache export` reads, as every command that uses them does."""
    folder.cache("export", folder.fingerprint.name, target)
    with pq.ParquetFile(target) as file:
        return file.read()


def test_every_flipped_bit_is_found_and_none_is_used(
    folder: BottleneckFolder, tmp_path: Path
) -> None:
    seed = int(np.random.default_rng().integers(2**32))
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    intact = exported(folder, tmp_path / "rows.parquet")
    contents = {path: path.read_bytes() for path in folder.shards}
    sizes = np.cumsum([len(content) for content in contents.values()])
    for place in random.integers(0, sizes[-1], FLIPS).tolist():
        number = int(np.searchsorted(sizes, place, "right"))
        victim = list(contents)[number]
        damaged = bytearray(contents[victim])
        damaged[place - int(sizes[number])] ^= 1 << int(random.integers(8))
        lost = [digest.hex() for digest in digests(victim)]
        victim.write_bytes(damaged)
        assert folder.damaged() == {victim: "its SHA-256 is wrong"}
        rows = exported(folder, tmp_path / "rows.parquet")
        is_lost = np.isin(intact["digest"].to_pylist(), lost)
        assert rows.equals(intact.filter(pa.array(~is_lost)))
        assert victim.with_suffix(".damaged").read_bytes() == damaged
        victim.with_suffix(".damaged").unlink()
        victim.write_bytes(contents[victim])
    assert folder.damaged() == {}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _replace_by_another(path: Path) -> None:
    other = next(other for other in path.parent.glob("shard-*.parquet") if other != path)
    shutil.copy(other, path)


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("text")


def _rename(path: Path, content: bytes) -> None:
    """Replace a shard by another content, of the right name."""
    path.unlink()
    path.with_name(f"shard-{hashlib.sha256(content).hexdigest()}.parquet").write_bytes(content)


def _text(path: Path) -> None:
    _rename(path, b"no Parquet at all")


def _rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    with pq.ParquetFile(path) as file:
        table = change(file.read())
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    _rename(path, stream.getvalue().to_pybytes())


def _other_fingerprint(path: Path) -> None:
    _rewrite(path, lambda table: table.replace_schema_metadata({"fingerprint": "0" * 64}))


def _other_width(path: Path) -> None:
    def halve(table: pa.Table) -> pa.Table:
        values = [row and row[:640] for row in table["bottleneck"].to_pylist()]
        column = pa.array(values, pa.list_(pa.float16(), 640))
        number = table.schema.get_field_index("bottleneck")
        return table.set_column(number, "bottleneck", column)

    _rewrite(path, halve)


def _no_digests(path: Path) -> None:
    _rewrite(path, lambda table: table.drop_columns(["digest"]))


def _no_views(path: Path) -> None:
    _rewrite(path, lambda table: table.drop_columns(["view"]))


def _text_digests(path: Path) -> None:
    def cast(table: pa.Table) -> pa.Table:
        texts = pa.array([digest.hex() for digest in table["digest"].to_pylist()])
        return table.set_column(0, "digest", texts)

    _rewrite(path, cast)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        _truncate,
        _empty,
        _append,
        _replace_by_another,
        _replace_by_folder,
        _text,
        _other_fingerprint,
        _other_width,
        _no_digests,
        _no_views,
        _text_digests,
    ],
)
def test_a_run_analyses_the_photos_of_a_damaged_shard_again(
    folder: BottleneckFolder, original: BottleneckFolder, damage: Callable[[Path], None]
) -> None:
    victim = folder.shards[0]
    lost = digests(victim)
    damage(victim)
    ((path, reason),) = folder.damaged().items()
    assert reason
    assert folder.fill()["analysed"] == len(lost)
    assert folder.damaged() == {}
    assert folder.content() == original.content()
    aside = path.with_suffix(".damaged")
    files = [file for file in (aside, *aside.rglob("*")) if file.is_file()]
    bytes_aside = sum(file.stat().st_size for file in files)
    assert aside.exists()
    assert folder.cache("gc")["bytes"] == bytes_aside
    assert not list(folder.place.rglob("*.damaged"))
    assert folder.fill()["analysed"] == 0


def _unlink(path: Path) -> None:
    path.unlink()


def _replace_by_empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _unlink,
        _truncate,
        _empty,
        _flip,
        _append,
        _replace_by_empty_folder,
        _replace_by_folder,
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(path.read_text("utf-8").replace("1280", "640")),
        lambda path: path.write_text('{"schema": 1, "min_reader": 9}'),
        lambda path: path.chmod(0),
    ],
)
def test_a_damaged_description_damages_no_rows(
    folder: BottleneckFolder, original: BottleneckFolder, damage: Callable[[Path], None]
) -> None:
    damage(folder.fingerprint / "about.json")
    assert folder.content() == original.content()
    assert folder.damaged() == {}
    entries = {entry["folder"]: entry for entry in folder.cache("ls")["entries"]}
    entry = entries[str(folder.fingerprint)]
    assert entry["shards"] == len(original.shards)
    assert folder.fill()["analysed"] == 0
    for command in ("ls", "gc", "verify"):
        folder.cache(command)
    assert folder.content() == original.content()


def test_no_damaged_row_is_trained_on(
    folder: BottleneckFolder, original: BottleneckFolder, tmp_path: Path
) -> None:
    graphs = []
    for place in (original, folder):
        if place == folder:
            for path in folder.shards:
                _flip(path)
        run = tmp_path / place.place.parent.name
        steps = ("--output-dir", run, "--how-many-training-steps", STEPS)
        result = folder.invoke("train", folder.photos, *place.options, *steps)
        assert result.exit_code == 0, result.output
        graphs.append((run / "output_graph.pb").read_bytes())
    assert "damaged, set aside: shard-" in result.stderr
    assert json.loads((run / "metrics.json").read_text("utf-8"))["analysed"] == 72
    assert graphs[0] == graphs[1]
