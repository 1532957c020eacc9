"""Write files whole or not at all; find those of a folder."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.system.error_messages import doing
from deploy.system.known_names import owner_of
from deploy.system.temporary_files import part_of


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a stream that becomes the file `path` when the block ends well, and nothing otherwise.

    Folders are made; the bytes are on disk before the name is. Raises OSError that names `path`.
    """
    with doing("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_of(path) as part:
            try:
                with part.open("wb") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                part.replace(path)
            except OSError as error:
                if error.filename == str(part):
                    error.filename = str(path)
                raise


def write(path: Path, data: bytes | str) -> None:
    """Write the file `path` whole or not at all; text as UTF-8."""
    with atomic(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def shown(name: str) -> bool:
    """Return whether a file or folder of this name is a user's, not hidden, not a system's."""
    return not name.startswith(".") and owner_of(name) is None


def holds(folder: Path, other: Path) -> bool:
    """Return whether `walk` of `folder` finds what is in the folder `other`."""
    # `walk` follows links: a place counts as it is named, and as where it leads.
    return any(
        place.is_relative_to(root) and all(map(shown, place.relative_to(root).parts))
        for root, place in (
            (Path(os.path.abspath(folder)), Path(os.path.abspath(other))),  # noqa: PTH100
            (folder.resolve(), other.resolve()),
        )
    )


def walk(
    folder: Path,
    unreadable: Callable[[OSError], None] | None = None,
    left_out: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Yield the files below `folder`, links followed, each real folder once, in a fixed order.

    Files and folders that `shown` denies are left out; `left_out` is called with each. A folder
    that cannot be read is told to `unreadable`, whose `filename` it is; without that the OSError
    is raised.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=unreadable or _stop, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if left_out:
            for name in (*folders, *names):
                if not shown(name):
                    left_out(Path(parent, name))
        folders[:] = sorted(filter(shown, folders))
        yield from (Path(parent, name) for name in sorted(filter(shown, names)))


def _stop(error: OSError) -> None:
    raise error
