"""What the cache holds: named, checked, cleared, and never taken from a process that uses it."""

import gc
import hashlib
import json
import os
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from deploy import files
from deploy.errors import WrongUse
from retrain.bottlenecks.cache import ABOUT, Cache
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.inventory import (
    Entry,
    check,
    choose,
    list_others,
    list_shards,
    remove_leftovers,
    remove_old,
)
from retrain.data.digest_index import of_bytes

FORMATS = Path(__file__).parents[2] / "formats/cache"
WIDTH = 8
DAY_S = 86_400
RANDOM = np.random.default_rng(0)


def fill(root: Path, name: str, days: float = 0.0, shards: int = 2) -> Cache:
    """Return a cache of that many shards, used last so many days ago."""
    cache = Cache(root / name, WIDTH, {})
    for _ in range(shards):
        values = RANDOM.normal(size=WIDTH).astype(np.float16)
        cache.add([Row(RANDOM.bytes(32), 0, None, values)])
    used_at = time.time() - days * DAY_S
    os.utime(root / name / ABOUT, (used_at, used_at))
    return Cache(root / name, WIDTH, {})


def names(entries: tuple[Entry, ...] | list[Entry]) -> list[str]:
    return [entry.folder.name for entry in entries]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_entries_have_size_and_age_the_latest_first(tmp_path: Path) -> None:
    fill(tmp_path, "old", days=3)
    fill(tmp_path, "new", days=1, shards=3)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    new, old = list_shards(tmp_path, tmp_path / "nowhere")
    assert (new.folder.name, new.shards) == ("new", 3)
    assert old.age_days == pytest.approx(3, abs=0.01)
    files = (tmp_path / "old").iterdir()
    assert old.size_bytes == sum(path.stat().st_size for path in files)


def test_reading_is_a_use(tmp_path: Path) -> None:
    cache = fill(tmp_path, "old", days=3)
    cache.load(of_bytes([]), range(1), FeatureStore(WIDTH))
    assert list_shards(tmp_path)[0].age_days < 0.01


def test_shards_of_an_earlier_version_are_listed_too(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    (tmp_path / "old" / ABOUT).unlink()
    (entry,) = list_shards(tmp_path)
    assert entry.text == "not known: of an earlier version"
    assert entry.age_days < 0.01


def test_a_damaged_description_is_not_known(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    (tmp_path / "old" / ABOUT).write_text('{"schema": 1, "backbone": 7}')
    assert "backbone is 7, not text: delete it" in list_shards(tmp_path)[0].text


@pytest.mark.parametrize(
    ("cache", "texts"),
    [
        (
            "before_issue_16",
            {
                "efficientnet_lite0 224x224, float32, bottlenecks, distorted views "
                "(flip_left_right True, random_crop 10, random_scale 20, random_brightness 30)",
                "efficientnet_lite0 224x224, float32, bottlenecks",
                "small pictures, or figures, of photos",
            },
        ),
        (
            "first_int8",
            {"tiny.pb 32x32, int8, bottlenecks, distorted views (blank_centre 80)"},
        ),
    ],
)
def test_descriptions_of_earlier_and_later_versions_open(
    cache: str, texts: set[str], tmp_path: Path
) -> None:
    shutil.copytree(FORMATS / cache, tmp_path / "cache")
    roots = (tmp_path / "cache" / "bottlenecks", tmp_path / "cache" / "pictures")
    assert {entry.text for entry in list_shards(*roots)} == texts
    for added, expected in (({"min_reader": 1}, texts), ({"min_reader": 2}, None)):
        for path in (tmp_path / "cache").rglob(ABOUT):
            values = json.loads(path.read_text("utf-8"))
            path.write_text(json.dumps({**values, **added, "schema": 7, "later": [1]}), "utf-8")
        shown = {entry.text for entry in list_shards(*roots)}
        if expected:
            assert shown == expected
        else:
            assert all("reader of version 2, and this program reads" in text for text in shown)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    cache = fill(tmp_path, "one", shards=1)
    (path,) = cache.folder.glob("shard-*.parquet")
    content = path.read_bytes()
    (entry,) = list_shards(tmp_path)
    assert not check(entry).damaged
    for place in RANDOM.integers(0, len(content), 50):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(RANDOM.integers(8))
        path.write_bytes(damaged)
        assert check(entry).damaged == ((path, "its SHA-256 is wrong"),)


def random_rows() -> list[Row]:
    """Return rows of three views, every fifth of a bad photo."""
    return [
        Row(RANDOM.bytes(32), i % 3, f"reason {i}", None)
        if i % 5 == 4
        else Row(RANDOM.bytes(32), i % 3, None, RANDOM.normal(size=WIDTH).astype(np.float16))
        for i in range(60)
    ]


def content(root: Path, *shards: list[Row]) -> str:
    """Return the SHA-256 of the content of a new cache with these shards."""
    cache = Cache(root / RANDOM.bytes(8).hex(), WIDTH, {})
    for rows in shards:
        cache.add(rows)
    result = check(next(entry for entry in list_shards(root) if entry.folder == cache.folder))
    assert not result.damaged
    assert result.rows == len({row[:2] for rows in shards for row in rows})
    return result.content_sha256


def test_the_content_does_not_depend_on_how_rows_lie_in_shards(tmp_path: Path) -> None:
    rows = random_rows()
    backwards = rows[::-1]
    small = [rows[first : first + 7] for first in range(0, len(rows), 7)]
    overlapping = [rows[:40], rows[20:], rows[::2]]
    layouts: list[list[list[Row]]] = [[rows], [backwards], small, overlapping]
    assert len({content(tmp_path, *shards) for shards in layouts}) == 1


def test_any_other_row_is_another_content(tmp_path: Path) -> None:
    rows = random_rows()
    usable, bad = rows[0], rows[4]
    assert usable.bottleneck is not None
    flipped = usable.bottleneck.copy()
    flipped.view(np.uint16)[3] ^= 1
    changed = [
        rows[1:],
        [*rows, usable._replace(view=9)],
        [usable._replace(digest=bytes(32)), *rows[1:]],
        [usable._replace(bottleneck=flipped), *rows[1:]],
        [usable._replace(error="damaged", bottleneck=None), *rows[1:]],
        [*rows[:4], bad._replace(error="reason 5"), *rows[5:]],
        [],
    ]
    contents = [content(tmp_path, shard) for shard in (rows, *changed)]
    assert len({*contents}) == len(contents)


def test_the_content_is_as_documented(tmp_path: Path) -> None:
    rows = random_rows()
    whole = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row[:2]):
        status = b"bad" if row.error else b"ok"
        bottleneck = b"" if row.bottleneck is None else row.bottleneck.tobytes()
        value = b"\0".join((status, (row.error or "").encode(), bottleneck))
        whole.update(row.digest + struct.pack(">h", row.view))
        whole.update(hashlib.sha256(value).digest()[:16])
    assert content(tmp_path, rows) == whole.hexdigest()


def test_the_beginning_of_a_fingerprint_is_enough(tmp_path: Path) -> None:
    for name in ("abc1", "abd2"):
        fill(tmp_path, name)
    entries = list_shards(tmp_path)
    assert choose(entries, "abc", "list").folder.name == "abc1"
    with pytest.raises(WrongUse, match=r"'ab' is the beginning of several .*: `list` lists"):
        choose(entries, "ab", "list")
    with pytest.raises(WrongUse, match="'x' is the beginning of no"):
        choose(entries, "x", "list")


def test_old_entries_are_removed(tmp_path: Path) -> None:
    for days in (1, 5, 9):
        fill(tmp_path, f"{days}", days=days)
    removal = remove_old(list_shards(tmp_path), max_age_days=4)
    assert sorted(names(removal.removed)) == ["5", "9"]
    assert names(list_shards(tmp_path)) == ["1"]


def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    for days in (1, 5, 9):
        fill(tmp_path, f"{days}", days=days)
    size = list_shards(tmp_path)[0].size_bytes
    removal = remove_old(list_shards(tmp_path), max_bytes=round(1.5 * size))
    assert names(removal.removed) == ["9", "5"]
    assert removal.size_bytes == sum(entry.size_bytes for entry in removal.removed)


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    cache = fill(tmp_path, "old", days=9)
    damaged = cache.folder / "shard-00.damaged"
    damaged.write_bytes(b"12345")
    assert names(remove_old(list_shards(tmp_path), 1, dry_run=True).removed) == ["old"]
    assert remove_leftovers(tmp_path, dry_run=True) == 5
    assert remove_leftovers(tmp_path, removed=[cache.folder], dry_run=True) == 0
    assert damaged.exists()


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    cache, store = fill(tmp_path, "old"), FeatureStore(WIDTH)
    cache.load(of_bytes([]), range(1), store)
    removal = remove_old(list_shards(tmp_path), max_bytes=0)
    assert (names(removal.removed), names(removal.in_use)) == ([], ["old"])
    assert list(cache.folder.glob("shard-*.parquet"))
    del store
    gc.collect()
    assert names(remove_old(list_shards(tmp_path), max_bytes=0).removed) == ["old"]
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "bottlenecks",
        "bottlenecks/without a shard",
        "pictures/rgb-8x8-1",
        "backbones/one",
        "engines",
        "scans/one",
        "copies/url/fingerprint",
        "downloads",
        "later/versions/folder",
    ],
)
def test_what_a_killed_process_left_is_removed_anywhere(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    with files.atomic(place / "whole") as stream:
        stream.write(b"12345")
        stream.flush()
        (living,) = place.glob(".*.part")
        dead = living.with_name(living.name[:-10] + "00000.part")
        dead.write_bytes(b"1234567")
        assert remove_leftovers(tmp_path, dry_run=True) == 12
        assert remove_leftovers(tmp_path) == 7
        assert living.exists()
    assert [path.name for path in place.glob("*.*")] == []


def test_leftovers_are_removed_and_entries_stay(tmp_path: Path) -> None:
    cache = fill(tmp_path, "new")
    (cache.folder / "shard-00.damaged").write_bytes(b"12345")
    assert remove_leftovers(tmp_path) == 5
    assert remove_old(list_shards(tmp_path)).removed == ()
    assert not list(cache.folder.glob("*.damaged"))
    assert len(list(cache.folder.glob("shard-*.parquet"))) == 2


def test_other_folders_are_listed_by_size(tmp_path: Path) -> None:
    (tmp_path / "backbones" / "one").mkdir(parents=True)
    (tmp_path / "backbones" / "one" / "graph.pb").write_bytes(bytes(70))
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "flowers.tgz").write_bytes(bytes(9))
    (tmp_path / "engines").mkdir()
    entries = list_others(tmp_path)
    assert [(entry.shards, entry.size_bytes) for entry in entries] == [(None, 70), (None, 9)]
    assert [entry.text for entry in entries] == [
        "prepared backbones and trunks",
        "sample data sets",
    ]
