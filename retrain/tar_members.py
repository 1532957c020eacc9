"""List the members of a tar file of a stranger, in bounded memory."""

import tarfile
from collections.abc import Iterator
from gzip import GzipFile
from typing import IO, Any

_MAX_HEADER_BYTES = 1024**2
"""Limit for the headers of one member: a name, and what newer formats add."""
_MAX_GLOBAL_FIELDS = 100
"""Limit for the fields that headers set for all members after them."""


class _Headers:
    """The bytes that `tarfile` reads of a tar file, which are those of its headers.

    `tarfile` takes a whole extended header at once, also one of gigabytes, which packed may be
    small. Raises ReadError once more than `left` bytes are asked for; seeking is free.
    """

    def __init__(self, stream: IO[bytes] | GzipFile) -> None:
        self.left = _MAX_HEADER_BYTES
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"headers of more than {_MAX_HEADER_BYTES:,} bytes")
        self.left -= size
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def tar_members(stream: IO[bytes] | GzipFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of the tar file in `stream`, which may be moved meanwhile, in order.

    Raises TarError where the file is damaged or cut off, and what `stream` raises.
    """
    headers: Any = _Headers(stream)
    try:
        with tarfile.open(fileobj=headers, mode="r:", errorlevel=2) as tar:
            while member := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # it would hold them all
                if member.size < 0 or tar.offset <= member.offset:
                    raise tarfile.ReadError("a size below 0")
                if len(tar.pax_headers) > _MAX_GLOBAL_FIELDS:
                    raise tarfile.ReadError("too many fields in global headers")
                yield member
                headers.left = _MAX_HEADER_BYTES
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                # `next` returns None for a damaged header too.
                raise tarfile.ReadError("no end mark")
    except (IndexError, OverflowError, RecursionError, ValueError) as error:
        raise tarfile.ReadError(f"a damaged header ({error})") from error
