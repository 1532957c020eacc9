"""Read files of the stores that fsspec knows; whatever a store raises becomes an OSError.

fsspec is imported when a URL is read, and not before. It keeps one file system for each protocol
and process, so nothing here outlives a call: a forked process gets file systems of its own.
"""

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, NamedTuple

from deploy.errors import BadData

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PACKAGES = {
    "s3": "'retrain-tflite[s3]'",
    "s3a": "'retrain-tflite[s3]'",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "az": "adlfs",
    "abfs": "adlfs",
}
"""What pip installs to read the URLs of a protocol."""
_CONTENT_KEYS = ("ETag", "etag", "md5Hash", "blob_id", "sha256")
"""What stores call a name that changes with the content of a file."""
_TIME_KEYS = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_MAX_REASON = 200
LONGEST_TICK_NS = 2_000_000_000
"""The coarsest clock of a file system, that of FAT, in nanoseconds."""


class Facts(NamedTuple):
    """What a store says of a file.

    `size` is in bytes, None if the store does not say it. `mark` changes with the content: a tag
    of the content, or the times of the last change; it is "" if there is neither. `changed_ns` is
    the latest of these times, in nanoseconds since 1970, and 0 for a tag.
    """

    size: int | None
    mark: str
    changed_ns: int

    @property
    def version(self) -> str:
        """The mark, if the next change of the file is sure to change it, else "".

        A file may change twice in one tick of the clock that its times are of. So the mark holds
        only once the last change is older than the longest tick, and it must be read before the
        content. A time in the future shows nothing.
        """
        return self.mark if time.time_ns() - self.changed_ns > LONGEST_TICK_NS else ""


def is_url(text: str) -> bool:
    """Return whether a text begins as a URL does: `s3://`, `https://`."""
    return bool(_URL.match(text))


def is_web(url: str) -> bool:
    """Return whether a web server answers, which need not know what it will send."""
    return url.lower().startswith(("http://", "https://"))


def read(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Return the bytes of a file from `start` up to `end`, which is not read, all by default."""
    with reading(url):
        store, path = connect(url)
        content: bytes = store.cat_file(path, start=start, end=end)
    if end is not None and len(content) > end - (start or 0):
        return content[start:end]  # some web servers always send the whole file
    return content


def read_start(url: str, max_bytes: int) -> bytes:
    """Return the first bytes of a file, `max_bytes` at most, with one request.

    A web server may not say the size of a file, and send without end whatever it is asked for.
    """
    with reading(url):
        store, path = connect(url)
        if not is_web(url):
            start: bytes = store.cat_file(path, end=max_bytes)
            return start
        content = bytearray()
        # Without blocks it is read as it comes. A size, of whatever value, spares asking for it.
        with store.open(path, "rb", block_size=0, size=1) as stream:
            while len(content) < max_bytes and (chunk := stream.read(max_bytes - len(content))):
                content += chunk
        return bytes(content)


def look(url: str) -> Facts:
    """Return the facts of one file; raise OSError."""
    with reading(url):
        store, path = connect(url)
        return _facts(store.info(path))


def open_stream(url: str, block_bytes: int = 8 * 1024**2) -> IO[bytes]:
    """Open a file to be read from its beginning to its end; read it in a block of `reading`."""
    with reading(url):
        store, path = connect(url)
        stream: IO[bytes] = store.open(path, "rb", block_size=block_bytes)
        return stream


def list_names(url: str) -> list[tuple[str, bool]]:
    """Return the names directly in the folder `url`, in order, each with whether it is a folder."""
    with reading(url):
        store, path = connect(url)
        store.invalidate_cache(path)
        items = store.ls(path, detail=True)
        names = {
            last_part(item): item["type"] == "directory"
            for item in items
            if item["name"].rstrip("/") != path.rstrip("/")
        }
        return sorted(names.items())


def list_files(url: str) -> Iterator[tuple[str, Facts]]:
    """Yield each file below the folder `url`, in the order of the names: its URL, its facts."""
    with reading(url):
        store, path = connect(url)
        store.invalidate_cache(path)
        below = path.rstrip("/")
        files = store.find(path, detail=True)
    for name in sorted(files):
        yield url.rstrip("/") + name[len(below) :], _facts(files[name])


def expand(url: str) -> list[str]:
    """Return the URLs that a pattern with `*` or `?` matches, in order."""
    with reading(url):
        store, path = connect(url)
        store.invalidate_cache()
        return sorted(store.unstrip_protocol(name) for name in store.glob(path))


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Raise OSError, with `url` and a short reason, for what a store raises in the block.

    Raises BadData, which names what to install, if the package of the store is missing.
    """
    try:
        yield
    except ImportError as error:
        protocol = url.partition("://")[0].lower()
        package = _PACKAGES.get(protocol)
        remedy = f"pip install {package}" if package else str(error)
        raise BadData(f"{url}: a package is missing that reads {protocol}://: {remedy}") from error
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec says so too of a server that it cannot reach
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise OSError(errno.EIO, _reason(cause), url) from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), url) from error
    except BadData:
        raise
    except Exception as error:  # each store's library has errors of its own
        raise OSError(errno.EIO, _reason(error), url) from error


def connect(url: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of a URL, and the path of the URL in it.

    `options` are those of fsspec's file systems; call it in a block of `reading`.
    """
    from fsspec.core import url_to_fs

    store, path = url_to_fs(url, **options)
    return store, path


def changed_at(info: dict[str, Any]) -> float:
    """Return when a file was changed, in seconds since 1970, by fsspec's `info`; 0 if unknown."""
    changed = next((info[key] for key in _TIME_KEYS if info.get(key)), 0.0)
    if isinstance(changed, str):
        try:
            changed = datetime.fromisoformat(changed)
        except ValueError:
            return 0.0
    return changed.timestamp() if isinstance(changed, datetime) else float(changed)


def last_part(info: dict[str, Any]) -> str:
    """Return the last part of the name of a file or folder, by fsspec's `info`."""
    return str(info["name"]).rstrip("/").rpartition("/")[2]


def _reason(error: Exception) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if status and message:
        return f"HTTP {status} {message}"[:_MAX_REASON]
    strerror = error.strerror if isinstance(error, OSError) else None
    text = " ".join((strerror or str(error)).split())
    return (text or type(error).__name__)[:_MAX_REASON]


def _facts(info: dict[str, Any]) -> Facts:
    tag = next((str(info[key]) for key in _CONTENT_KEYS if info.get(key)), "")
    changed_ns = 0 if tag else round(changed_at(info) * 1e9)
    return Facts(info.get("size"), tag or (str(changed_ns) if changed_ns else ""), changed_ns)
