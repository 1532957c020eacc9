"""The folder that is copied to a device, and the same as a .tar.gz: the same bytes each time."""

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy import bundle_texts, files, model_file
from deploy.bundle_texts import MODEL, NAMES, PROGRAM, SUMS
from deploy.contract import write_labels
from deploy.errors import WrongUse
from deploy.system.temporary_files import scratch

SCHEMA_VERSION = 1
_TIME = (1980, 1, 1, 0, 0, 0)
_SECONDS = 315532800  # the same, as tar counts
_BLOCK = 0xFFFF  # bytes of a stored block of deflate, at most
_PACKAGE = Path(__file__).parent


def contents(model: bytes, labels: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of a bundle by name; `model` is a whole .tflite file."""
    made = {
        MODEL: model,
        "labels.txt": write_labels(labels).encode(),
        PROGRAM: program(),
        "requirements.txt": bundle_texts.REQUIREMENTS.encode(),
        "README.md": bundle_texts.README.encode(),
        "classify.service": bundle_texts.SERVICE.encode(),
    }
    sums = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in made.items())
    return {**made, SUMS: "".join(sums).encode()}


def program() -> bytes:
    """Return the package `deploy` as one file that Python runs, in the format of `zipapp`.

    Not by `zipapp` itself, which takes times and modes from the disk; not compressed, which would
    depend on the zlib, and so that a device starts it sooner.
    """
    out = io.BytesIO(b"#!/usr/bin/env python3\n")
    out.seek(0, io.SEEK_END)
    modules = {
        f"deploy/{path.relative_to(_PACKAGE).as_posix()}": path
        for path in sorted(_PACKAGE.rglob("*.py"))
    }
    modules["__main__.py"] = _PACKAGE / "__main__.py"
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, path in modules.items():
            about = zipfile.ZipInfo(name, _TIME)
            about.create_system, about.external_attr = 3, 0o644 << 16
            archive.writestr(about, path.read_bytes())
    return out.getvalue()


def write(model: Path, folder: Path) -> dict[str, Any]:
    """Write the bundle of the .tflite file at `model` as `folder` and as `folder`.tar.gz.

    Both replace those of an earlier bundle, whole or not at all. Returns their paths and the bytes
    of each file, as JSON values. Raises BadData for a model that is missing or damaged, WrongUse
    where something else than a bundle would be lost, OSError.
    """
    labels = model_file.read(model).contract.labels
    made = contents(model.read_bytes(), labels)
    folder = folder.absolute()
    archive = folder.with_name(f"{folder.name}.tar.gz")
    _spare_others(folder, archive)
    _replace(folder, made)
    files.write(archive, _tar(folder.name, made))
    return {
        "schema": SCHEMA_VERSION,
        "folder": str(folder),
        "archive": str(archive),
        "bytes": {name: len(data) for name, data in made.items()},
    }


def not_a_bundle(names: Iterable[str], sums: str) -> str | None:
    """Return why a folder with files of these names is not a bundle alone, or None if it is.

    `sums` is the text of its SHA256SUMS. What is a bundle alone, or empty, may be replaced.
    """
    there = set(names)
    if there and not {MODEL, PROGRAM} <= {line.partition("  ")[2] for line in sums.splitlines()}:
        return "not empty, and not a bundle"
    others = sorted(there.difference(NAMES))
    return f"holds what is not of a bundle ({', '.join(others[:5])})" if others else None


def _spare_others(folder: Path, archive: Path) -> None:
    """Raise WrongUse where something else than a bundle would be replaced."""
    place, reason = folder, None
    if folder.exists():
        sums = folder / SUMS
        told = sums.read_text("utf-8", "replace") if sums.is_file() else ""
        reason = not_a_bundle((each.name for each in folder.iterdir()), told)
    if not reason and archive.exists():
        place, names = archive, None
        try:
            with tarfile.open(archive) as opened:
                names = opened.getnames()
        except (tarfile.TarError, EOFError, zlib.error):
            pass
        if names != [f"{folder.name}/{name}" for name in NAMES]:
            reason = "not that of a bundle"
    if reason:
        raise WrongUse(f"{place}: {reason}: move it away, or name another --bundle-dir")


def _mode(name: str) -> int:
    return 0o755 if name == PROGRAM else 0o644


def _replace(folder: Path, made: dict[str, bytes]) -> None:
    """Write the files into a new folder and put it in the place of `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent) as place:
        new, old = place / "new", place / "old"
        for name, data in made.items():
            files.write(new / name, data)
            (new / name).chmod(_mode(name))
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise


def _tar(top: str, made: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in made.items():
            about = tarfile.TarInfo(f"{top}/{name}")
            about.size, about.mode, about.mtime = len(data), _mode(name), _SECONDS
            archive.addfile(about, io.BytesIO(data))
    return _gzip(packed.getvalue())


def _gzip(data: bytes) -> bytes:
    """Return `data` as a gzip file that does not depend on any zlib: in blocks that are stored.

    Deflated, an int8 model is 17% smaller. RFC 1952, 2.3, and RFC 1951, 3.2.4.
    """
    out = bytearray(b"\x1f\x8b\x08" + bytes(6) + b"\xff")
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        out += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    return bytes(out) + struct.pack("<II", zlib.crc32(data), len(data) % 2**32)
