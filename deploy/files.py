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

    Missing folders are created. The bytes are on disk before the name is. Raises OSError that
    names `path`.
    """
    with doing("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def write(path: Path, data: bytes | str) -> None:
    """Write the file `path` whole or not at all; text as UTF-8."""
    with atomic(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
