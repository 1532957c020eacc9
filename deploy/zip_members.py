"""Write a zip behind a model, and read it within limits: the sizes in a zip are only claims."""

import io
import itertools
import struct
import zipfile
from collections.abc import Mapping

MAX_MEMBERS = 1_000
MAX_MEMBER_BYTES = 8 * 1024**2
MAX_TOTAL_BYTES = 64 * 1024**2
MAX_RATIO = 100
"""Unpacked bytes for each packed byte, beyond the first `_FREE_BYTES` of a file."""
_FREE_BYTES = 64 * 1024
_MAX_DIRECTORY_BYTES = 256 * MAX_MEMBERS
_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = b"PK\x06\x07"
_ENCRYPTED = 1
_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of each file in a zip: equal files give equal bytes."""


def append(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return `content` with a zip of `files`, by name, behind it."""
    out = io.BytesIO(content)
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), data)
    return out.getvalue()


class Members:
    """The files in a zip that ends where `content` ends; its list is checked, nothing is unpacked.

    `sizes` are bytes by name, `end` is where the first file begins. Raises ValueError for a list
    that is damaged, too long, or names the same bytes twice, and what zipfile raises.
    """

    def __init__(self, content: bytes) -> None:
        """Read and check the list of files."""
        if not self.behind(content):
            raise ValueError("no labels and contract inside")
        count, directory_bytes = _END.unpack(content[-_END.size :])[4:6]
        if content[-_END.size - len(_ZIP64_LOCATOR) - 16 :].startswith(_ZIP64_LOCATOR):
            raise ValueError("the list of its files is that of a larger zip")
        if count > MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
            raise ValueError(f"{count:,} files in it, more than {MAX_MEMBERS:,}")
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        entries = sorted(self._archive.infolist(), key=lambda entry: entry.header_offset)
        self._entries = {entry.filename: entry for entry in entries}
        self.sizes = {entry.filename: entry.file_size for entry in entries}
        self.end = min((entry.header_offset for entry in entries), default=len(content))
        if not entries:
            raise ValueError("no labels and contract inside")
        if len(entries) > MAX_MEMBERS:
            raise ValueError(f"{len(entries):,} files in it, more than {MAX_MEMBERS:,}")
        if len(self._entries) < len(entries):
            raise ValueError("two files in it have the same name")
        if sum(self.sizes.values()) > MAX_TOTAL_BYTES:
            raise ValueError(f"its files have more than {MAX_TOTAL_BYTES:,} bytes")
        for entry, following in itertools.pairwise(entries):
            if entry.header_offset + entry.compress_size >= following.header_offset:
                raise ValueError("two files in it share bytes")

    @staticmethod
    def behind(content: bytes) -> bool:
        """Return whether `content` ends with a zip that has no comment."""
        end = content[-_END.size :]
        return len(end) == _END.size and end[:4] == b"PK\x05\x06" and end[-2:] == bytes(2)

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`.

        Raises KeyError for a missing file, ValueError for one beyond the limits, and what zipfile
        raises for a damaged one.
        """
        entry, shown_name = self._entries[name], f"{name!r:.60}"
        if entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"{shown_name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{shown_name} is packed by a method that is not read here")
        if entry.file_size > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{shown_name} has {entry.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
            )
        if entry.file_size > _FREE_BYTES + MAX_RATIO * entry.compress_size:
            raise ValueError(f"{shown_name} unpacks to more than {MAX_RATIO} times its size")
        with self._archive.open(entry) as stream:  # which stops at the size in the list
            content = stream.read(entry.file_size + 1)
        if len(content) != entry.file_size:
            raise ValueError(f"{shown_name} has not the size that the list says")
        return content
