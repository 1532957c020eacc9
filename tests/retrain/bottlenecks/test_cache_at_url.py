"""A cache at a URL holds what a cache in a folder does."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from deploy.errors import BadData
from deploy.system.error_messages import explain
from retrain.backbones import Backbone
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, DistortedViews, extract
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import of_bytes
from retrain.data.photo_folder import scan
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace
from retrain.settings.training import Distortion
from tests.helpers.runs import Invoke
from tests.helpers.stores import BUCKET, rows_of, s3_server

TFLITE = EngineChoice("tflite", Path("no probe"))
WIDTH = 8
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["memory://", f"s3://{BUCKET}/"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> UrlPlace:
    """Return an empty folder at a URL."""
    return UrlPlace(f"{request.param}{tmp_path}".replace("s//", "s/"), tmp_path / "copies")


def names(place: UrlPlace, pattern: str = "*") -> list[str]:
    system, root = fsspec.core.url_to_fs(place.url, use_listings_cache=False)
    return sorted(str(path).rpartition("/")[2] for path in system.glob(f"{root}/{pattern}"))


def rows(count: int) -> list[Row]:
    return [
        Row(RANDOM.bytes(32), 0, None, RANDOM.normal(size=WIDTH).astype(np.float16))
        for _ in range(count)
    ]


def read(place: UrlPlace, keys: list[Row]) -> tuple[list[str], int]:
    """Return the damaged shards, and the number of rows that are missing."""
    digests = of_bytes([row.digest for row in keys])
    cached = Cache(place, WIDTH, {}).load(digests, range(1), FeatureStore(WIDTH))
    return cached.damaged, len(cached.missing())


def test_progress_is_shown_while_shards_are_copied(
    place: UrlPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = rows(3)
    for row in keys:
        Cache(place, WIDTH, {}).add([row])
    elsewhere = UrlPlace(place.url, tmp_path / "elsewhere")
    digests = of_bytes([row.digest for row in keys])
    for _ in range(2):
        Cache(elsewhere, WIDTH, {}).load(digests, range(1), FeatureStore(WIDTH), Progress())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cache copied 3/3 files (")


def run(root: Path, backbone: Backbone, place: Path | UrlPlace) -> tuple[Bottlenecks, Bottlenecks]:
    photos, quiet = scan(root).photos, Progress(verbosity="ERROR")
    views = DistortedViews(1, Distortion(random_brightness=20))
    return (
        extract(photos, backbone, TFLITE, place, quiet),
        extract(photos, backbone, TFLITE, place, quiet, distorted=views),
    )


def test_its_rows_are_those_of_a_folder(
    tiny: Path, backbone: Backbone, tmp_path: Path, place: UrlPlace
) -> None:
    expected = run(tiny, backbone, tmp_path / "folder")
    results = run(tiny, backbone, place)
    assert [result.analysed for result in results] == [8, 8]
    assert rows_of(place.copy) == rows_of(tmp_path / "folder")
    for result, of_folder in zip(results, expected, strict=True):
        values = [each.store.take(each.rows[:, 0]).tobytes() for each in (result, of_folder)]
        assert values[0] == values[1]
    assert [result.analysed for result in run(tiny, backbone, place)] == [0, 0]
    shutil.rmtree(place.copy)
    assert [result.analysed for result in run(tiny, backbone, place)] == [0, 0]


def test_a_shard_is_copied_once(place: UrlPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = rows(3), rows(3)
    cache = Cache(place, WIDTH, {})
    for shard in (first, second):
        cache.add(shard)
    assert read(place, first + second) == ([], 0)
    system, _ = fsspec.core.url_to_fs(place.url, use_listings_cache=False)
    monkeypatch.setattr(type(system), "cat_file", None)
    assert read(place, first + second) == ([], 0)
    assert names(place) == ["about.json", *names(place, "shard-*.parquet")]
    assert len(names(place)) == 3


def test_a_damaged_copy_is_copied_again(place: UrlPlace) -> None:
    shard = rows(3)
    name = Cache(place, WIDTH, {}).add(shard)
    assert read(place, shard) == ([], 0)
    (place.copy / name).write_bytes(b"damaged")
    assert read(place, shard) == ([], 0)


def test_a_damaged_shard_is_set_aside_there(place: UrlPlace) -> None:
    intact, shard = rows(2), rows(3)
    cache = Cache(place, WIDTH, {})
    cache.add(intact)
    name = cache.add(shard)
    system, root = fsspec.core.url_to_fs(place.url, use_listings_cache=False)
    system.pipe_file(f"{root}/{name}", b"damaged")
    for damaged in ([f"{name} (its SHA-256 is wrong)"], []):
        assert read(place, intact + shard) == (damaged, 3)
    assert names(place, "*.damaged") == [name.replace(".parquet", ".damaged")]
    cache.add(shard)
    assert read(place, intact + shard) == ([], 0)


def test_what_was_removed_there_is_missing(place: UrlPlace) -> None:
    shard = rows(3)
    name = Cache(place, WIDTH, {}).add(shard)
    assert read(place, shard) == ([], 0)
    system, root = fsspec.core.url_to_fs(place.url, use_listings_cache=False)
    system.rm_file(f"{root}/{name}")
    assert read(place, shard) == ([], 3)


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = UrlPlace("s3://nowhere/cache", tmp_path)
    with pytest.raises(OSError, match="No such file") as caught:
        Cache(place, WIDTH, {}).add(rows(1))
    assert explain(caught.value).startswith("cannot write s3://nowhere/cache/shard-")


def test_missing_credentials_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(OSError, match="credentials") as caught:
        Cache(UrlPlace(f"s3://{BUCKET}/c", tmp_path), WIDTH, {}).add(rows(1))
    assert explain(caught.value).startswith(f"cannot write s3://{BUCKET}/c/shard-")
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(BadData, match=r"abfs://.*pip install adlfs"):
        Cache(UrlPlace("abfs://c/d", tmp_path), WIDTH, {}).add(rows(1))


def test_an_unknown_kind_of_url_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Protocol not known: s4"):
        Cache(UrlPlace("s4://c/d", tmp_path), WIDTH, {}).add(rows(1))


def test_the_commands_of_the_cache_take_a_url(
    place: UrlPlace, tmp_path: Path, invoke: Invoke
) -> None:
    fill, damaged = rows(3), rows(2)
    inner = place / ("0" * 64)
    Cache(inner, WIDTH, {}).add(fill)
    assert read(inner, fill) == ([], 0)  # and says what the shards are of
    name = Cache(inner, WIDTH, {}).add(damaged)
    where = ("--bottleneck-dir", place.url, "--cache-dir", tmp_path)

    (entry, *_) = json.loads(invoke("cache", "ls", "--json", *where).stdout)["entries"]
    assert (entry["folder"], entry["shards"]) == (inner.url, 2)
    assert entry["days_since_use"] < 0.1
    content = json.loads(invoke("cache", "verify", "--json", *where).stdout)["contents"]
    assert [item["rows"] for item in content] == [5]

    system, root = fsspec.core.url_to_fs(inner.url, use_listings_cache=False)
    system.pipe_file(f"{root}/{name}", b"damaged")
    result = invoke("cache", "verify", *where)
    assert result.exit_code == 3
    assert f"{inner.url}/{name}: its SHA-256 is wrong" in result.stdout
    assert invoke("cache", "verify", "--repair", *where).exit_code == 0
    assert invoke("cache", "verify", *where).exit_code == 0

    result = invoke("cache", "export", "000", tmp_path / "all.npy", "--json", *where)
    assert json.loads(result.stdout)["rows"] == 3
    assert json.loads(invoke("cache", "gc", "--json", *where).stdout)["bytes"] == len(b"damaged")
    removed = json.loads(invoke("cache", "gc", "--max-size", 0, "--json", *where).stdout)["removed"]
    assert [item["folder"] for item in removed] == [inner.url]
    assert names(inner) == []
