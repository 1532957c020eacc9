"""Write files whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.system.error_messages import doing
from deploy.system.temporary_files import part_of


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a stream whose bytes become the file `path` when the block ends without an error.

    Missing folders are created. The bytes are on disk before the name is. A link stays: the file
    that it leads to is written. A device or pipe stays too, and gets the bytes as they come.
    Raises OSError that names the file.
    """
    with doing("write", path):
        is_link = path.is_symlink() and not _is_special(path)
    if is_link:
        path = Path(os.path.realpath(path))
    with doing("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_special(path):
            with path.open("wb") as stream:
                yield stream
            return
        with part_of(path) as temporary:
            try:
                with temporary.open("wb") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            except OSError as error:
                if error.filename == str(temporary):
                    error.filename = str(path)
                raise


def _is_special(path: Path) -> bool:
    """Return whether `path` is, or leads to, what exists and cannot be replaced by a file."""
    return path.exists() and not path.is_file()


def write(path: Path, data: bytes | str) -> None:
    """Write the file `path` whole or not at all; text as UTF-8."""
    with atomic(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
