"""Read files of others: whatever goes wrong on the way is a damaged file, not a bug of ours."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.errors import BadData, MissingPackage, RetrainError
from deploy.system.error_messages import doing

MAX_BYTES = 8 * 1024**2
"""Of a JSON text inside a model: parsed, it takes up to thirty times the memory."""
MAX_RECORD = 256 * 1024**2
"""Of a JSON file of a run: it lists photos, of which there may be millions."""
_CHUNK = 1024**2


@contextmanager
def damaged(message: str, remedy: str = "") -> Iterator[None]:
    """Raise BadData, `message` with the reason and `remedy`, for any exception of the block.

    Only bytes of others belong into the block. Errors of the system and of packages that are not
    installed stay as they are.
    """
    try:
        yield
    except (RetrainError, OSError, ImportError):
        raise
    except Exception as error:  # parsers raise any kind on bytes that somebody chose
        reason = f"{message} ({_reason(error)})"
        raise BadData(f"{reason}: {remedy}" if remedy else reason) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have each error of ours in the block name the file `path`."""
    try:
        yield
    except MissingPackage:
        raise
    except RetrainError as error:
        first, *rest = error.args or ("",)
        if str(path) in str(first):
            raise
        raise type(error)(f"{path}: {first}", *rest) from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, KeyError):
        return f"{error} is not there"
    first = (str(error).splitlines() or [""])[0]
    return first[:200] or type(error).__name__


def read(path: Path, most: int) -> bytes:
    """Return the bytes of a file; raise BadData for a device or beyond `most` bytes, OSError."""
    with doing("read", path), path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        if stat.S_ISCHR(about.st_mode):
            raise BadData(f"{path}: a device, not a file")
        if about.st_size > most:
            raise BadData(f"{path}: {about.st_size:,} bytes, more than the {most:,} that are read")
        content = stream.read() if stat.S_ISREG(about.st_mode) else _of_pipe(stream, most)
    if len(content) > most:
        raise BadData(f"{path}: more than the {most:,} bytes that are read")
    return content


def _of_pipe(stream: IO[bytes], most: int) -> bytes:
    content = bytearray()
    while len(content) <= most and (chunk := stream.read(_CHUNK)):
        content += chunk
    return bytes(content)


def parse_json(content: bytes | str, most: int = MAX_BYTES) -> Any:
    """Return the value of a JSON text in UTF-8; raise ValueError or RecursionError for others.

    A key that is there twice, and half a character, are no JSON here. Numbers may be NaN.
    """
    if len(content) > most:
        raise ValueError(f"more than {most // 1024**2} MB")
    text = content.decode() if isinstance(content, bytes) else content
    value = json.loads(text, object_pairs_hook=_distinct)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a character
    return value


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Return the JSON object in the file `path`; raise BadData with `remedy`."""
    try:
        with damaged(f"{path}: cannot be read", remedy):
            value = parse_json(read(path, MAX_RECORD), MAX_RECORD)
            if not isinstance(value, dict):
                raise ValueError("it is no object")
            return value
    except OSError as error:
        reason = f"{path}: cannot be read ({error.strerror})"
        raise BadData(f"{reason}: {remedy}" if remedy else reason) from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"{twice!r:.40} is there twice")
    return values
