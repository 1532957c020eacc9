"""`retrain cache`, on the cache of a real run."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrain.data.source import read_photos
from retrain.settings.cache import SCANS
from tests.helpers.runs import Invoke


@pytest.fixture(scope="module")
def place(tiny: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: Any) -> Path:
    """Return a folder of bottlenecks of the photos in `tiny`."""
    place: Path = tmp_path_factory.mktemp("place")
    folders = ("--cache-dir", cache_dir, "--bottleneck-dir", place)
    result = invoke("bottlenecks", tiny, *folders)
    assert result.exit_code == 0, result.output
    return place


@pytest.fixture
def call(invoke: Invoke, place: Path, tmp_path: Path) -> Any:
    """Return a function that runs a command of `retrain cache` on these bottlenecks."""
    folders = ("--cache-dir", tmp_path / "empty", "--bottleneck-dir", place)
    return lambda *words: invoke("cache", *words, *folders)


def damage(place: Path) -> Path:
    (path,) = place.glob("*/shard-*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    return path


def test_ls_says_what_a_fingerprint_is_of(call: Any, place: Path) -> None:
    (entry,) = json.loads(call("ls", "--json").stdout)["entries"]
    assert entry["of"] == "efficientnet_lite0 224x224, float32, bottlenecks"
    (folder,) = place.iterdir()
    assert entry["folder"] == str(folder)
    heading, line = call("ls").stdout.splitlines()
    assert heading.split() == ["fingerprint", "shards", "MB", "days", "of"]
    assert line.startswith(folder.name[:12])
    assert line.endswith(entry["of"])


def test_export_names_the_command_that_lists_the_same_folders(
    invoke: Invoke, tmp_path: Path
) -> None:
    places = ("--cache-dir", tmp_path / "my cache", "--bottleneck-dir", tmp_path / "b")
    result = invoke("cache", "export", "abc", tmp_path / "all.npy", *places)
    assert result.exit_code == 2
    words = ("retrain", "cache", "ls", *map(str, places))
    assert f"fingerprint: `{shlex.join(words)}` lists them" in result.stderr


def test_export_takes_the_first_digits(call: Any, place: Path, tmp_path: Path) -> None:
    (folder,) = place.iterdir()
    result = call("export", folder.name[:6], tmp_path / "all.npy", "--json")
    assert json.loads(result.stdout)["rows"] == 8
    assert np.load(tmp_path / "all.npy").shape == (8, 1280)


def test_verify_finds_damage_and_repair_lets_the_next_run_mend_it(
    call: Any, place: Path, tiny: Path, cache_dir: Path, invoke: Invoke
) -> None:
    heading, line, last = call("verify").stdout.splitlines()
    assert heading.split()[:2] == ["fingerprint", "rows"]
    assert last == "1 shard, 0 damaged"
    (content,) = json.loads(call("verify", "--json").stdout)["contents"]
    assert line.split() == [Path(content["folder"]).name[:12], "8", content["content_sha256"]]
    path = damage(place)
    result = call("verify")
    assert result.exit_code == 3
    assert f"{path}: its SHA-256 is wrong" in result.stdout
    assert path.exists()
    result = call("verify", "--repair")
    assert result.exit_code == 0
    assert "1 damaged, set aside" in result.stdout
    assert not path.exists()
    folders = ("--cache-dir", cache_dir, "--bottleneck-dir", place)
    assert "8 analysed now" in invoke("bottlenecks", tiny, *folders).stdout
    assert json.loads(call("verify", "--json").stdout)["contents"] == [content]


@pytest.mark.parametrize("size", ["nan", "inf", "1e300"])
def test_a_size_that_is_no_number_is_wrong_use(call: Any, size: str) -> None:
    assert call("gc", "--max-size", size).exit_code == 2


def test_a_dry_run_counts_a_damaged_shard_once(call: Any, place: Path) -> None:
    (about,) = place.glob("*/about.json")
    os.utime(about, (0, 0))
    dry_run = ("gc", "--older-than", 30, "--dry-run", "--json")
    before = json.loads(call(*dry_run).stdout)["bytes"]
    damaged = about.with_name("shard-00.damaged")
    damaged.write_bytes(b"12345")
    assert json.loads(call(*dry_run).stdout)["bytes"] == before + 5
    damaged.unlink()


def test_gc_removes_by_age(call: Any, place: Path) -> None:
    (about,) = place.glob("*/about.json")
    os.utime(about, (0, 0))
    result = call("gc", "--older-than", 30, "--dry-run")
    assert "would be freed" in result.stdout
    assert about.exists()
    record = json.loads(call("gc", "--older-than", 30, "--json").stdout)
    assert [Path(entry["folder"]) for entry in record["removed"]] == [about.parent]
    assert record["bytes"] > 0
    assert call("ls").stdout.startswith("Nothing in ")


def test_digests_of_scans_are_listed_and_removed_by_age(
    tiny: Path, tmp_path: Path, invoke: Invoke
) -> None:
    read_photos(tiny, None, tmp_path / SCANS)
    folders = ("--cache-dir", tmp_path, "--bottleneck-dir", tmp_path / "none", "--json")
    (entry,) = json.loads(invoke("cache", "ls", *folders).stdout)["entries"]
    assert entry["of"] == f"digests of the photos in {tiny}"
    assert entry["shards"] == 1
    record = json.loads(invoke("cache", "gc", *folders, "--older-than", 30).stdout)
    assert record["removed"] == []
    for path in (tmp_path / SCANS).glob("*/*"):
        os.utime(path, (0, 0))
    record = json.loads(invoke("cache", "gc", *folders, "--older-than", 30).stdout)
    assert [removed["folder"] for removed in record["removed"]] == [entry["folder"]]
    assert list((tmp_path / SCANS).iterdir()) == []
