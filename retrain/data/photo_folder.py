"""Scan a folder of photos, one sub-folder per class, by the contents of its files."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy import user_files
from deploy.contract import check_label
from deploy.errors import BadData
from deploy.image import HEAD, MAX_BYTES, claims_photo, why_not_photo
from deploy.system.cores import cores
from retrain.data import folder_layout, ignored_files, similar_labels
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import ClassFolder
from retrain.data.photo import BadPhoto, Photo


def scan(root: Path, labels_from: int | None = None) -> Dataset:
    """Return the photos below `root`; folders inside a class folder belong to its class.

    Content decides what is a photo. Hidden files and those of systems are left out. A file that
    claims by its name to be a photo and is none is bad, and so is a photo with two labels.
    `labels_from` is the level of the class folders, as in `folder_layout.read`. Each file is read
    and hashed once. Raises BadData without two classes, or if a class has no photo.
    """
    if not root.is_dir():
        raise BadData(f"{root}: no such folder: expected one holding a sub-folder for each class")
    layout = folder_layout.read(root, labels_from)
    for folder in layout.classes:
        _check_label(folder.path.parent, folder.label)
    _check_links(layout.classes)
    photos: list[Photo] = []
    bad: list[BadPhoto] = []
    left_out = [path for folder in layout.parents for path in _not_shown(folder)]

    def add_closed(error: OSError) -> None:
        reason = f"the folder cannot be opened ({error.strerror})"
        bad.append(BadPhoto(Path(error.filename), reason))

    with ThreadPoolExecutor(cores() + 4) as pool:
        for folder in layout.classes:
            for item in pool.map(
                lambda path, folder=folder: _read(path, folder),
                user_files.walk(folder.path, add_closed, left_out.append),
            ):
                if isinstance(item, Photo):
                    photos.append(item)
                elif item:
                    bad.append(item)
    remarks = (
        *layout.warnings,
        *similar_labels.warnings(sorted({folder.label for folder in layout.classes})),
        *ignored_files.warnings(layout.parents),
        *ignored_files.system_warnings(left_out),
    )
    return Dataset.of(root, layout.classes, photos, bad, remarks)


def _not_shown(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not user_files.is_user_file(path.name)]


def _read(path: Path, folder: ClassFolder) -> Photo | BadPhoto | None:
    """Return the file at `path` as a photo or a bad photo, None if it does not claim to be one."""
    try:
        if not path.is_file():
            return None if path.exists() else BadPhoto(path, "a link to nothing")
        if path.stat().st_size > MAX_BYTES:
            return BadPhoto(path, f"larger than {MAX_BYTES // 1024**2} MB")
        content = path.read_bytes()
    except OSError as error:
        return BadPhoto(path, f"cannot be read ({error.strerror})")
    reason = why_not_photo(content[:HEAD], path)
    if reason is None:
        return Photo(path, folder.label, hashlib.sha256(content).digest(), folder.split)
    claims = not content or claims_photo(path, content[:HEAD])
    return BadPhoto(path, reason) if claims else None


def _check_label(root: Path, label: str) -> None:
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"{root / label}: the folder's name is not UTF-8: rename it") from error
    try:
        check_label(label)
    except BadData as error:
        raise BadData(f"{root}: {error}: rename the folder") from error


def _check_links(classes: Iterable[ClassFolder]) -> None:
    first: dict[str, ClassFolder] = {}
    for folder in classes:
        other = first.setdefault(os.path.realpath(folder.path), folder)
        if (other.label, other.split) != (folder.label, folder.split):
            raise BadData(
                f"{folder.path} and {other.path} are the same folder, by a link: remove the link, "
                "or all its photos would be in both"
            )
