"""Name the folders of a cache, and its place: a folder, or a URL."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

BOTTLENECKS, PICTURES, SCANS = "bottlenecks", "pictures", "scans"
"""Folders of a cache: two that hold shards, and that of what the last scans know."""
_COPIES = "copies"
"""The folder of a cache for what is read at a URL."""


def default_cache_dir() -> Path:
    """Return the user's cache folder, which all runs share."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("retrain"))


@dataclass(frozen=True)
class UrlPlace:
    """A file or folder at a URL of fsspec, such as s3://bucket/cache.

    `copy` is the local path of the copy of what is read there.
    """

    url: str
    copy: Path

    def __truediv__(self, name: str) -> "UrlPlace":
        return UrlPlace(f"{self.url.rstrip('/')}/{name}", self.copy / name)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.copy.name


def bottleneck_place(bottleneck_dir: Path | str | None, cache_dir: Path) -> Path | UrlPlace:
    """Return the folder that holds a cache for each fingerprint."""
    if isinstance(bottleneck_dir, str):
        name = hashlib.sha256(bottleneck_dir.encode()).hexdigest()
        return UrlPlace(bottleneck_dir, cache_dir / _COPIES / name)
    return bottleneck_dir or cache_dir / BOTTLENECKS
