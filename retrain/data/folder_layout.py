"""Decide which folders below a root are classes, and which are splits of the user's own."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy import user_files
from deploy.errors import BadData
from deploy.image import HEAD, claims_photo
from deploy.system.counts import with_noun
from retrain.data.remote_path import PhotoPath
from retrain.data.similar_labels import escape_lookalikes, lookalike_groups

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SPLITS = (TRAINING, VALIDATION, TESTING)

_USUAL_NAMES = {
    TRAINING: ("train", "training"),
    VALIDATION: ("valid", "val", "validation", "dev"),
    TESTING: ("test", "testing"),
}
SPLIT_BY_NAME = {name: split for split, names in _USUAL_NAMES.items() for name in names}
_UNLABELED_NAMES = ("unlabeled", "unlabelled", "unsup", "unsupervised", "predict", "prediction")
"""Folders of photos without labels, which stand beside splits and are not classes."""
_MAX_NAMES_SHOWN = 8
_DEEPEST_LEVEL = 4
"""The lowest level whose folders are compared by name."""


class ClassFolder(NamedTuple):
    """A folder whose photos have `label`; `split` is empty unless the folders are of splits."""

    label: str
    path: PhotoPath
    split: str = ""


@dataclass(frozen=True)
class Layout:
    """The class folders of a root.

    `parents` are the folders that hold class folders. `warnings` name other readings of the root.
    """

    classes: tuple[ClassFolder, ...]
    parents: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TopFolders:
    """The sub-folders of a root.

    `splits` are those with the name of a split, each with its split; `classes` are the sub-folders
    of each of `splits` that hold photos.
    """

    root: Path
    folders: tuple[Path, ...]
    splits: dict[Path, str]
    classes: dict[Path, list[Path]]


def read(root: Path, level: int | None = None) -> Layout:
    """Return the layout of `root`; with `level`, the folders that many levels down are classes.

    Without a level, classes are the sub-folders of `root`, or of its training, validation and
    testing folders. Raises BadData for splits that are not complete, and for an empty level.
    """
    if level is not None:
        return _read_level(root, level)
    folders = sub_folders(root)
    splits = {
        folder: SPLIT_BY_NAME[name]
        for folder in folders
        if (name := folder.name.strip().casefold()) in SPLIT_BY_NAME
    }
    classes = {folder: _folders_with_photos(_unpacked(folder)) for folder in splits}
    tops = _TopFolders(root, tuple(folders), splits, classes)
    if _are_splits(tops):
        return _read_splits(tops)
    warnings = [
        f"{folder} is trained as a class, though it is named as a split and holds the folders "
        f"{_join(inner.name for inner in classes[folder])}: if these are the classes, move the "
        f"other folders away, or use `labels_from` {_level(root, classes[folder])}"
        for folder in splits
        if len(classes[folder]) > 1 and not _has_loose_photos(folder)
    ]
    return Layout(
        tuple(ClassFolder(folder.name, folder) for folder in folders),
        (root,),
        tuple(warnings or _warn_of_repeated_names(root, folders)),
    )


def sub_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of `folder`, by name, that a user made and that can be opened."""
    with os.scandir(folder) as entries:
        paths = [folder / entry.name for entry in entries if _is_folder(entry)]
    visible = [path for path in sorted(paths) if user_files.is_user_file(path.name)]
    return [path for path in visible if why_closed(path) is None]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def why_closed(folder: Path) -> str | None:
    """Return why `folder` cannot be opened, or None if it can."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def is_photo(path: Path) -> bool:
    """Return whether a file claims by its content or its name to be a photo."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return claims_photo(path, stream.read(HEAD))
    except OSError:
        return False


def _holds_photos(folder: Path) -> bool:
    return any(map(is_photo, user_files.walk(folder, lambda _error: None)))


def _has_loose_photos(folder: Path) -> bool:
    return any(is_photo(path) for path in folder.iterdir() if user_files.is_user_file(path.name))


def _folders_with_photos(folder: Path) -> list[Path]:
    return [inner for inner in sub_folders(folder) if _holds_photos(inner)]


def _unpacked(folder: Path) -> Path:
    """Return `folder`, or the only folder in it if that has the same name.

    Unpacking an archive into a folder of its name creates such pairs, such as `train/train`.
    """
    inner = sub_folders(folder)
    if len(inner) != 1 or inner[0].name != folder.name or _has_loose_photos(folder):
        return folder
    return _unpacked(inner[0])


def _level(root: Path, folders: Sequence[Path]) -> int:
    """Return the `labels_from` for which these folders are classes."""
    return max(len(folder.relative_to(root).parts) for folder in folders)


def _read_level(root: Path, level: int) -> Layout:
    parents, lowest = [root], [root]
    for _ in range(level - 1):
        lowest = [folder for parent in lowest for folder in sub_folders(parent)]
        parents += lowest
    classes = [ClassFolder(path.name, path) for parent in lowest for path in sub_folders(parent)]
    if not classes:
        raise BadData(
            f"{root}: no folders {with_noun(level, 'level')} below it: lower `labels_from`"
        )
    return Layout(tuple(classes), tuple(parents))


def _are_splits(tops: _TopFolders) -> bool:
    """Return whether the folders that are named as splits are splits; they may be classes too.

    A class may be named "test". The folders in it and beside it decide. Raises BadData if all
    folders are named as splits, and none has class folders.
    """
    split_folders = [folder for folder in tops.splits if tops.classes[folder]]
    has_other_classes = any(
        folder not in tops.splits
        and folder.name.casefold() not in _UNLABELED_NAMES
        and _holds_photos(folder)
        for folder in tops.folders
    )
    if not split_folders:
        if has_other_classes or len(set(tops.splits.values())) < 2:
            return False
        raise BadData(
            f"{tops.root}: the folders {_join(folder.name for folder in tops.splits)} are named as "
            "splits, but hold no class folders: put the photos of each split into one folder per "
            "class; or, if these are the classes, use `labels_from` 1"
        )
    if not has_other_classes:
        return True
    uses = Counter(
        name for top in split_folders for name in {folder.name for folder in tops.classes[top]}
    )
    return len({tops.splits[folder] for folder in split_folders}) > 1 and max(uses.values()) > 1


def _read_splits(tops: _TopFolders) -> Layout:
    """Return the layout of folders of splits; raise BadData for a split that is not complete."""
    classes = tuple(
        ClassFolder(folder.name, folder, split)
        for top, split in tops.splits.items()
        for folder in tops.classes[top]
    )
    _require_complete(tops, classes)
    warnings = [
        f"{folder} is left out: it is beside the folders of the splits, and is not one of them"
        for folder in tops.folders
        if folder not in tops.splits and _holds_photos(folder)
    ]
    parents = dict.fromkeys((tops.root, *(Path(folder.path).parent for folder in classes)))
    class_paths = {folder.path for folder in classes}
    warnings += [
        f"{path} is left out: it holds no photos"
        for parent in list(parents)[1:]
        for path in sub_folders(parent)
        if path not in class_paths
    ]
    return Layout(classes, tuple(parents), tuple(warnings))


def _require_complete(tops: _TopFolders, classes: Sequence[ClassFolder]) -> None:
    """Raise BadData if a split lacks a class that another split has."""
    labels = {
        split: {folder.label for folder in classes if folder.split == split} for split in SPLITS
    }
    all_labels = set.union(*labels.values())
    gaps = []
    for split in SPLITS:
        names = [folder.name for folder in tops.splits if tops.splits[folder] == split]
        if not labels[split]:
            why = f" ({_join(names)} holds no class folders with photos)" if names else ""
            gaps.append(f"no {split} folder{why}, such as {tops.root / _USUAL_NAMES[split][0]}")
        elif labels[split] != all_labels:
            missing = escape_lookalikes(sorted(all_labels), all_labels - labels[split])
            gaps.append(f"no photos of {_join(missing)} in {_join(names)}")
    if not gaps:
        return
    training = [
        tops.classes[folder][0]
        for folder, split in tops.splits.items()
        if split == TRAINING and tops.classes[folder]
    ]
    similar = [" and ".join(map(ascii, group)) for group in lookalike_groups(sorted(all_labels))]
    rename = (
        f" {'; '.join(similar)} look alike: if they mean the same, rename one." if similar else ""
    )
    alone = (
        f", or train on {training[0].parent} alone, which is then split by retrain"
        if training
        else ""
    )
    level = _level(tops.root, [Path(folder.path) for folder in classes])
    raise BadData(
        f"{tops.root} holds folders of splits ({_join(folder.name for folder in tops.splits)}), "
        f"but not a whole split: {'; '.join(gaps)}.{rename} Add what is missing{alone}; or use "
        f"`labels_from` {level} to put the photos of all splits together and split them anew"
    )


def _warn_of_repeated_names(root: Path, folders: Sequence[Path]) -> list[str]:
    """Return a warning if folders of a lower level could be the classes: their names repeat."""
    below = {top: [top] for top in folders}
    for level in range(2, _DEEPEST_LEVEL + 1):
        below = {
            top: [inner for folder in above for inner in _real_sub_folders(folder, level)]
            for top, above in below.items()
        }
        if warnings := _warn_of_names_at(level, root, below):
            return warnings
    return []


def _real_sub_folders(folder: Path, level: int) -> list[Path]:
    """Return the sub-folders of `folder`; none if it is a link below the first level.

    Links may lead up again, and then every level has many times more folders.
    """
    return [] if level > 2 and folder.is_symlink() else sub_folders(folder)


def _warn_of_names_at(level: int, root: Path, below: dict[Path, list[Path]]) -> list[str]:
    """Return a warning if the folders at a level, by top folder, could be the classes."""
    # A folder of its parent's name comes from unpacking an archive: it is the same class.
    tops = list(below)
    inner = {top: [path for path in below[top] if path.name != path.parent.name] for top in tops}
    uses = Counter(name for folders in inner.values() for name in {path.name for path in folders})
    uses.update(top.name for top in tops)
    if not any(
        _holds_photos(folder)
        for folders in inner.values()
        for folder in folders
        if uses[folder.name] > 1
    ):
        return []
    with_photos = [folder for top in tops for folder in inner[top] if _holds_photos(folder)]
    names = Counter(
        name for _, name in {(path.parts[len(root.parts)], path.name) for path in with_photos}
    )
    top_names = {top.name for top in tops}
    if len(names) > 1 and all(name.casefold() in SPLIT_BY_NAME for name in names):
        return [
            f"{root}: the folders {_join(names)} below the classes are not taken as a split: "
            "their photos are put together and split anew. To keep that split, let its folders "
            f"hold the classes: {root / _USUAL_NAMES[TRAINING][0] / tops[0].name}"
        ]
    if len(names) < 2 or not any(names[name] + (name in top_names) > 1 for name in names):
        return []
    return [
        f"{root} can be read in two ways. Now its {with_noun(len(top_names), 'folder', 'is/are')} "
        f"the classes: {_join(top_names)}. But folders below them have the same names, and could "
        f"be the {len(names)} classes: {_join(names)}. To train on these, use `labels_from` "
        f"{level}; `labels_from` 1 keeps the classes as they are, without this warning"
    ]


def _join(names: Iterable[str]) -> str:
    """Return names in one line, at most `_MAX_NAMES_SHOWN`."""
    ordered = sorted(set(names))
    rest = len(ordered) - _MAX_NAMES_SHOWN
    return ", ".join(ordered[:_MAX_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
