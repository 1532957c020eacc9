"""Archives that tests make."""

import io
import tarfile
from pathlib import Path


def tgz(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path.read_bytes()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o6777
    return member
