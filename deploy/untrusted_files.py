"""Read files that others wrote, within limits; any exception in a parser means a damaged file."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.errors import BadData, MissingPackage, RetrainError
from deploy.system.error_messages import doing

MAX_JSON_BYTES = 8 * 1024**2
"""Limit for a JSON text inside a model; parsed, it takes up to thirty times the memory."""
MAX_RECORD_BYTES = 256 * 1024**2
"""Limit for a JSON file of a run, which may list millions of photos."""
MAX_MODEL_BYTES = 2 * 1024**3
"""Limit for a .tflite file: offsets in a flatbuffer reach no further."""
MAX_GOLDENS = 256
"""Limit for the goldens in a model."""
_CHUNK_BYTES = 1024**2


@contextmanager
def damaged(message: str, remedy: str = "") -> Iterator[None]:
    """Raise BadData for any exception of the block: `message`, the reason and `remedy`.

    The block may only parse bytes that others wrote. RetrainError, OSError and ImportError pass.
    """
    try:
        yield
    except (RetrainError, OSError, ImportError):
        raise
    except Exception as error:  # parsers raise many kinds for damaged bytes
        reason = f"{message} ({_reason(error)})"
        raise BadData(f"{reason}: {remedy}" if remedy else reason) from error


@contextmanager
def naming(path: os.PathLike[str]) -> Iterator[None]:
    """Put the file `path` before the message of each RetrainError of the block, if it lacks it."""
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


def read(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file.

    Raises BadData for a device and for a file of more than `max_bytes` bytes, OSError.
    """
    with doing("read", path), path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        if stat.S_ISCHR(about.st_mode):
            raise BadData(f"{path}: a device, not a file")
        if about.st_size > max_bytes:
            raise BadData(
                f"{path}: {about.st_size:,} bytes, more than the {max_bytes:,} that are read"
            )
        content = stream.read() if stat.S_ISREG(about.st_mode) else _read_pipe(stream, max_bytes)
    if len(content) > max_bytes:
        raise BadData(f"{path}: more than the {max_bytes:,} bytes that are read")
    return content


def _read_pipe(stream: IO[bytes], max_bytes: int) -> bytes:
    content = bytearray()
    while len(content) <= max_bytes and (chunk := stream.read(_CHUNK_BYTES)):
        content += chunk
    return bytes(content)


def parse_json(content: bytes | str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a JSON text in UTF-8; numbers may be NaN.

    Raises ValueError or RecursionError for other bytes, for an object with the same key twice and
    for half a surrogate pair.
    """
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes // 1024**2} MB")
    text = content.decode() if isinstance(content, bytes) else content
    value = json.loads(text, object_pairs_hook=_require_distinct)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair
    return value


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Return the JSON object in the file `path`; raise BadData, with `remedy`, for other files."""
    try:
        with damaged(f"{path}: cannot be read", remedy):
            value = parse_json(read(path, MAX_RECORD_BYTES), MAX_RECORD_BYTES)
            if not isinstance(value, dict):
                raise ValueError("it is no object")
            return value
    except OSError as error:
        reason = f"{path}: cannot be read ({error.strerror})"
        raise BadData(f"{reason}: {remedy}" if remedy else reason) from error


def _require_distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"{twice!r:.40} is there twice")
    return values
