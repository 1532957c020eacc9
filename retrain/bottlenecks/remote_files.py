"""Read and write the files of a cache at a URL of fsspec; who reads them keeps a copy.

What the store raises is an OSError that names the URL, a missing package is BadData.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from deploy import files
from deploy.system.error_messages import doing
from retrain.data import store
from retrain.progress import SILENT, Progress
from retrain.settings.cache import UrlPlace

_TRANSFERS = 16
"""Files that are copied at once: most of the time of each is waiting."""


class RemoteFile(NamedTuple):
    """A file at a URL: its name in its folder, bytes, and seconds since 1970, 0 if unknown."""

    name: str
    size: int
    written_at: float


def list_files(folder: UrlPlace) -> list[RemoteFile]:
    """Return the files in a folder, none if it does not exist."""
    return [_file(info) for info in _list(folder) if info["type"] == "file"]


def list_folders(folder: UrlPlace) -> list[UrlPlace]:
    """Return the folders in a folder, none if it does not exist."""
    return [folder / store.last_part(info) for info in _list(folder) if info["type"] == "directory"]


def copy_all(
    folder: UrlPlace, pattern: str, progress: Progress = SILENT, again: bool = False
) -> None:
    """Make the local files whose names match `pattern` copies of those at the URL.

    Files without a copy are read, and with `again` all; copies of files that are gone are removed.
    """
    names = {file.name for file in list_files(folder) if Path(file.name).match(pattern)}
    local = {path.name for path in folder.copy.glob(pattern)}
    for name in local - names:
        (folder.copy / name).unlink(missing_ok=True)
    unread = sorted(names if again else names - local)
    if not unread:
        return
    with (
        progress.bar("cache copied", len(unread), "files") as advance,
        ThreadPoolExecutor(_TRANSFERS) as pool,
    ):
        for _ in pool.map(lambda name: copy(folder / name), unread):
            advance(1)


def copy(file: UrlPlace) -> Path:
    """Read a file, write its local copy, and return the path of that."""
    with _opening("read", file) as (system, path):
        content = system.cat_file(path)
    files.write(file.copy, content)
    return file.copy


def write(file: UrlPlace, content: bytes) -> None:
    """Write a file whole or not at all: with one PUT, where the store has them."""
    with _opening("write", file) as (system, path):
        system.pipe_file(path, content)


def rename(file: UrlPlace, name: str) -> None:
    """Rename a file, if it is still there, and remove its copy."""
    file.copy.unlink(missing_ok=True)
    with suppress(FileNotFoundError), _opening("rename", file) as (system, path):
        system.mv(path, f"{path.rpartition('/')[0]}/{name}")


def remove(file: UrlPlace) -> None:
    """Remove a file, if it is still there, and its copy."""
    file.copy.unlink(missing_ok=True)
    with suppress(FileNotFoundError), _opening("remove", file) as (system, path):
        system.rm_file(path)


def _list(folder: UrlPlace) -> list[dict[str, Any]]:
    with suppress(FileNotFoundError), _opening("list", folder) as (system, path):
        return list(system.ls(path, detail=True))
    return []


@contextmanager
def _opening(action: str, place: UrlPlace) -> Iterator[tuple[Any, str]]:
    """Yield the file system of a URL, and the path in it; note what could not be done."""
    with doing(action, place.url), store.reading(place.url):
        # A list that it keeps lacks what others write.
        yield store.connect(place.url, use_listings_cache=False)


def _file(info: dict[str, Any]) -> RemoteFile:
    return RemoteFile(store.last_part(info), int(info["size"] or 0), store.changed_at(info))
