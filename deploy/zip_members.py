"""The files in the zip behind a model, read within bounds: the sizes in a zip are only claims."""

import io
import itertools
import struct
import zipfile

MAX_MEMBERS = 1_000
MAX_BYTES = 8 * 1024**2
"""Of one file, unpacked."""
MAX_TOTAL = 64 * 1024**2
"""Of all files, unpacked."""
MAX_RATIO = 100
"""Bytes that a packed byte may become, beyond the first `_FREE` bytes of a file."""
_FREE = 64 * 1024
_DIRECTORY = 256 * MAX_MEMBERS
_END = struct.Struct("<4s4H2LH")
_LARGER = b"PK\x06\x07"
_ENCRYPTED = 1


class Members:
    """The files in a zip that ends where `content` ends; its list is checked, nothing is unpacked.

    `sizes` are bytes by name, `end` is where the first file begins. Raises ValueError for a list
    that is damaged, too long, or leads to the same bytes twice, and what zipfile raises.
    """

    def __init__(self, content: bytes) -> None:
        """Read the list; nothing of it is believed before it is checked."""
        if not self.behind(content):
            raise ValueError("no labels and contract inside")
        count, directory = _END.unpack(content[-_END.size :])[4:6]
        if content[-_END.size - len(_LARGER) - 16 :].startswith(_LARGER):
            raise ValueError("the list of its files is that of a larger zip")
        if count > MAX_MEMBERS or directory > _DIRECTORY:
            raise ValueError(f"{count:,} files in it, more than {MAX_MEMBERS:,}")
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        listed = sorted(self._archive.infolist(), key=lambda each: each.header_offset)
        self._listed = {each.filename: each for each in listed}
        self.sizes = {each.filename: each.file_size for each in listed}
        self.end = min((each.header_offset for each in listed), default=len(content))
        if not listed:
            raise ValueError("no labels and contract inside")
        if len(listed) > MAX_MEMBERS:
            raise ValueError(f"{len(listed):,} files in it, more than {MAX_MEMBERS:,}")
        if len(self._listed) < len(listed):
            raise ValueError("two files in it have the same name")
        if sum(self.sizes.values()) > MAX_TOTAL:
            raise ValueError(f"its files have more than {MAX_TOTAL:,} bytes")
        for each, following in itertools.pairwise(listed):
            if each.header_offset + each.compress_size >= following.header_offset:
                raise ValueError("two files in it share bytes")

    @staticmethod
    def behind(content: bytes) -> bool:
        """Return whether a zip without a comment is at the end."""
        end = content[-_END.size :]
        return len(end) == _END.size and end[:4] == b"PK\x05\x06" and end[-2:] == bytes(2)

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`.

        Raises KeyError where it is missing, ValueError where it is out of bounds, and what zipfile
        raises where it is damaged.
        """
        about, shown = self._listed[name], f"{name!r:.60}"
        if about.flag_bits & _ENCRYPTED:
            raise ValueError(f"{shown} is encrypted")
        if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{shown} is packed by a method that is not read here")
        if about.file_size > MAX_BYTES:
            raise ValueError(f"{shown} has {about.file_size:,} bytes, more than {MAX_BYTES:,}")
        if about.file_size > _FREE + MAX_RATIO * about.compress_size:
            raise ValueError(f"{shown} unpacks to more than {MAX_RATIO} times its size")
        with self._archive.open(about) as stream:  # which stops at the size in the list
            content = stream.read(about.file_size + 1)
        if len(content) != about.file_size:
            raise ValueError(f"{shown} has not the size that the list says")
        return content
