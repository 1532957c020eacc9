"""Fill a cache with `retrain bottlenecks`, and ask `retrain cache` what it holds."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.helpers.runs import Invoke


@dataclass(frozen=True)
class BottleneckFolder:
    """A folder of bottlenecks of `photos`, with the commands that use it; `cache_dir` has the rest.

    Its places are as documented; nothing of it is known but that.
    """

    invoke: Invoke
    photos: Path
    cache_dir: Path
    place: Path

    @property
    def options(self) -> tuple[object, ...]:
        """The options of every command that name the places."""
        return ("--cache-dir", self.cache_dir, "--bottleneck-dir", self.place)

    @property
    def fingerprint(self) -> Path:
        """The folder of the only fingerprint."""
        (folder,) = self.place.iterdir()
        return folder

    @property
    def shards(self) -> list[Path]:
        """The shards of the only fingerprint."""
        return sorted(self.fingerprint.glob("shard-*.parquet"))

    def empty(self, root: Path) -> "BottleneckFolder":
        """Return the same commands with a cache of their own in `root`, without a bottleneck."""
        (root / "cache").mkdir()
        (root / "cache/backbones").symlink_to(self.cache_dir / "backbones")
        return BottleneckFolder(self.invoke, self.photos, root / "cache", root / "bottlenecks")

    def copy(self, root: Path) -> "BottleneckFolder":
        """Return the same commands with a cache of their own in `root`, and the bottlenecks."""
        copy = self.empty(root)
        shutil.copytree(self.place, copy.place)
        return copy

    def fill(self, *options: object) -> dict[str, Any]:
        """Run `retrain bottlenecks`, and return what it prints."""
        result = self.invoke("bottlenecks", self.photos, *self.options, *options, "--json")
        assert result.exit_code == 0, result.output
        values: dict[str, Any] = json.loads(result.stdout)
        return values

    def cache(self, command: str, *words: object, code: int = 0) -> dict[str, Any]:
        """Run a command of `retrain cache` that ends with `code`, and return what it prints."""
        result = self.invoke("cache", command, *words, *self.options, "--json")
        assert result.exit_code == code, result.output
        values: dict[str, Any] = json.loads(result.stdout)
        return values

    def damaged(self) -> dict[Path, str]:
        """Return the damaged shards with the reasons, as `retrain cache verify` gives them."""
        result = self.invoke("cache", "verify", *self.options, "--json")
        damaged = {Path(one["path"]): one["reason"] for one in json.loads(result.stdout)["damaged"]}
        assert result.exit_code == (3 if damaged else 0), result.output
        return damaged

    def content(self) -> tuple[int, str]:
        """Return the number of rows and the SHA-256 of the content of the undamaged shards."""
        result = self.invoke("cache", "verify", *self.options, "--json")
        contents = json.loads(result.stdout)["contents"]
        (content,) = (one for one in contents if Path(one["folder"]).parent == self.place)
        return content["rows"], content["content_sha256"]


def digests(*shards: Path) -> list[bytes]:
    """Return the digest of each row of these shards."""
    columns = [pq.ParquetFile(path).read(columns=["digest"])["digest"] for path in shards]
    return [digest for column in columns for digest in column.to_pylist()]
