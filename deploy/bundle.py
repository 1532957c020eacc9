"""Write the bundle that is copied to a device, as a folder and as a .tar.gz.

The same model and card give the same folder; the archive is the same on the same Python and zlib.
"""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import bundle_texts, files, model_file, untrusted_files
from deploy.bundle_texts import MODEL, NAMES, PROGRAM, SUMS
from deploy.contract import write_labels
from deploy.errors import WrongUse
from deploy.system.temporary_files import scratch

SCHEMA_VERSION = 1
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_TAR_TIME_S = 315532800  # the same
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written; `sizes` are the bytes of each file by name."""

    folder: Path
    archive: Path
    sizes: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the paths and sizes as JSON values."""
        return {
            "schema": SCHEMA_VERSION,
            "folder": str(self.folder),
            "archive": str(self.archive),
            "bytes": dict(self.sizes),
        }


def contents(model: bytes, labels: tuple[str, ...], card: str = "") -> dict[str, bytes]:
    """Return the files of a bundle by name; `model` is a whole .tflite file, `card` a model card.

    The card becomes the start of the README, which says after it how to install the model.
    """
    data_by_name = {
        MODEL: model,
        "labels.txt": write_labels(labels).encode(),
        PROGRAM: program(),
        "requirements.txt": bundle_texts.REQUIREMENTS.encode(),
        "README.md": bundle_texts.readme(card).encode(),
        "classify.service": bundle_texts.SERVICE.encode(),
    }
    sums = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in data_by_name.items())
    return {**data_by_name, SUMS: "".join(sums).encode()}


def program() -> bytes:
    """Return the package `deploy` as one file that Python runs, in the format of `zipapp`.

    `zipapp` itself takes times and modes from the disk. The file is not compressed: its bytes
    would depend on the zlib, and a device would start it more slowly.
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
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return out.getvalue()


def write(model: Path, folder: Path, card: str = "") -> Bundle:
    """Write the bundle of the .tflite file at `model` as `folder` and as `folder`.tar.gz.

    The README begins with `card`, the model's card in Markdown. Folder and archive replace those of
    an earlier bundle, whole or not at all. A link stays: the folder that it leads to is replaced.
    Raises BadData for a model that is missing or damaged, WrongUse if anything but a bundle would
    be lost, OSError.
    """
    folder = Path(os.path.realpath(folder)) if folder.is_symlink() else folder.absolute()
    if not folder.name:
        raise WrongUse(f"{folder}: a bundle needs a folder with a name: name another `bundle_dir`")
    content = model_file.read_bytes(model)
    with untrusted_files.naming(model):
        labels = model_file.unpack(content).contract.labels
    data_by_name = contents(content, labels, card)
    archive = folder.with_name(f"{folder.name}.tar.gz")
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # a killed process was about to replace it
        old.rename(folder)
    _require_replaceable(folder, old, archive)
    _replace(folder, old, data_by_name)
    files.write(archive, _tar(folder.name, data_by_name))
    return Bundle(folder, archive, {name: len(data) for name, data in data_by_name.items()})


def not_a_bundle(names: Iterable[str], sums: str) -> str | None:
    """Return why a folder with files of these names must not be replaced, or None if it may be.

    `sums` is the text of its SHA256SUMS. An empty folder and one that holds only a bundle may be
    replaced.
    """
    present = set(names)
    listed = {line.partition("  ")[2] for line in sums.splitlines()}
    if present and not {MODEL, PROGRAM} <= listed:
        return "not empty, and not a bundle"
    foreign = sorted(present.difference(NAMES))
    return f"holds what is not of a bundle ({', '.join(foreign[:5])})" if foreign else None


def _require_replaceable(folder: Path, old: Path, archive: Path) -> None:
    """Raise WrongUse if anything but a bundle would be replaced."""
    place, reason = folder, None
    for place in filter(Path.exists, (old, folder)):
        sums = place / SUMS
        text = sums.read_text("utf-8", "replace") if sums.is_file() else ""
        reason = not_a_bundle((path.name for path in place.iterdir()), text)
        if reason:
            break
    if not reason and archive.exists():
        place, names = archive, None
        try:
            with tarfile.open(archive, "r:gz") as existing:
                names = existing.getnames()
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error):
            pass
        if names != [f"{folder.name}/{name}" for name in NAMES]:
            reason = "not that of a bundle"
    if reason:
        raise WrongUse(f"{place}: {reason}: move it away, or name another `bundle_dir`")


def _mode(name: str) -> int:
    return 0o755 if name == PROGRAM else 0o644


def _replace(folder: Path, old: Path, data_by_name: dict[str, bytes]) -> None:
    """Write the files into a new folder and put it in the place of `folder`.

    Meanwhile what was there is `old`: a killed process must not leave it among temporary files.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent) as place:
        new = place / "new"
        for name, data in data_by_name.items():
            files.write(new / name, data)
            (new / name).chmod(_mode(name))
        if old.exists():
            old.rename(place / "older")
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        if old.exists():
            old.rename(place / "old")


def _tar(top: str, data_by_name: dict[str, bytes]) -> bytes:
    """Return a .tar.gz that holds the files in the folder `top`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in data_by_name.items():
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), _mode(name), _TAR_TIME_S
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), mtime=0)
