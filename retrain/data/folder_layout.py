"""Decide which folders below a root are classes, and which are splits that the user made."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy import user_files
from deploy.errors import BadData
from deploy.image import HEAD, claims_photo
from retrain.data.similar_labels import escaped, groups

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SPLITS = (TRAINING, VALIDATION, TESTING)

_USUAL_NAMES = {
    TRAINING: ("train", "training"),
    VALIDATION: ("valid", "val", "validation", "dev"),
    TESTING: ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _USUAL_NAMES.items() for name in names}
_BESIDE_SPLITS = ("unlabeled", "unlabelled", "unsup", "unsupervised", "predict", "prediction")
"""Folders of photos without labels, which stand beside splits and are not classes."""
_NAMES_SHOWN = 8
_DEEPEST = 4
"""The lowest level whose folders are compared by name."""


class ClassFolder(NamedTuple):
    """A folder whose photos have `label`, and belong to `split` if the user made the split."""

    label: str
    path: Path
    split: str = ""


@dataclass(frozen=True)
class Layout:
    """The class folders of a root.

    `parents` are the folders that hold class folders; `warnings` say what else the root could mean.
    """

    classes: tuple[ClassFolder, ...]
    parents: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def read(root: Path, level: int | None = None) -> Layout:
    """Return the layout of `root`; with `level`, its classes are the folders so many levels down.

    Without a level, classes are the sub-folders of `root`, or of its training, validation and
    testing folders. Raises BadData for splits that are not complete, and for an empty level.
    """
    if level is not None:
        return _by_level(root, level)
    tops = sub_folders(root)
    splits = {
        top: _SPLIT_OF[name] for top in tops if (name := top.name.strip().casefold()) in _SPLIT_OF
    }
    inner = {top: _class_folders(_unpacked(top)) for top in splits}
    if _are_splits(root, tops, splits, inner):
        return _own_split(root, tops, splits, inner)
    warnings = [
        f"{top} is trained as a class, though it is named as a split and holds the folders "
        f"{_listed(folder.name for folder in inner[top])}: if these are the classes, move the "
        f"other folders away, or use --labels-from {_level(root, inner[top])}"
        for top in splits
        if len(inner[top]) > 1 and not _has_loose_photos(top)
    ]
    return Layout(
        tuple(ClassFolder(top.name, top) for top in tops),
        (root,),
        tuple(warnings or _repeated_names(root, tops)),
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
    """Return whether a file says by its content or its name that it is a photo."""
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


def _class_folders(top: Path) -> list[Path]:
    return [folder for folder in sub_folders(top) if _holds_photos(folder)]


def _unpacked(folder: Path) -> Path:
    """Return `folder`, or where it holds only a folder of its own name, that one.

    Unpacking an archive into a folder of its name makes those, such as `train/train`.
    """
    inner = sub_folders(folder)
    if len(inner) != 1 or inner[0].name != folder.name or _has_loose_photos(folder):
        return folder
    return _unpacked(inner[0])


def _level(root: Path, folders: Sequence[Path]) -> int:
    """Return what --labels-from must be for these folders to be classes."""
    return max(len(folder.relative_to(root).parts) for folder in folders)


def _by_level(root: Path, level: int) -> Layout:
    parents, last = [root], [root]
    for _ in range(level - 1):
        last = [folder for parent in last for folder in sub_folders(parent)]
        parents += last
    classes = [ClassFolder(path.name, path) for parent in last for path in sub_folders(parent)]
    if not classes:
        raise BadData(f"{root}: no folders {level} levels below it: lower --labels-from")
    return Layout(tuple(classes), tuple(parents))


def _are_splits(
    root: Path, tops: Sequence[Path], splits: dict[Path, str], inner: dict[Path, list[Path]]
) -> bool:
    """Return whether the folders that are named as splits are splits; they may be classes too.

    A class may be named "test". What tells is whether it holds class folders, and what else `root`
    holds. Raises BadData if all are named as splits, and none has class folders.
    """
    holding = [top for top in splits if inner[top]]
    others = [
        top
        for top in tops
        if top not in splits and top.name.casefold() not in _BESIDE_SPLITS and _holds_photos(top)
    ]
    if not holding:
        if others or len(set(splits.values())) < 2:
            return False
        raise BadData(
            f"{root}: the folders {_listed(top.name for top in splits)} are named as splits, but "
            "hold no class folders: put the photos of each split into one folder per class; or, "
            "if these are the classes, use --labels-from 1"
        )
    if not others:
        return True
    uses = Counter(name for top in holding for name in {folder.name for folder in inner[top]})
    return len({splits[top] for top in holding}) > 1 and max(uses.values()) > 1


def _own_split(
    root: Path, tops: Sequence[Path], splits: dict[Path, str], inner: dict[Path, list[Path]]
) -> Layout:
    classes = tuple(
        ClassFolder(folder.name, folder, splits[top]) for top in splits for folder in inner[top]
    )
    labels = {split: {each.label for each in classes if each.split == split} for split in SPLITS}
    everything = set.union(*labels.values())
    lacks = []
    for split in SPLITS:
        if not labels[split]:
            empty = [top.name for top in splits if splits[top] == split]
            why = f" ({_listed(empty)} holds no class folders with photos)" if empty else ""
            lacks.append(f"no {split} folder{why}, such as {root / _USUAL_NAMES[split][0]}")
        elif labels[split] != everything:
            names = _listed(top.name for top in splits if splits[top] == split)
            missing = escaped(sorted(everything), everything - labels[split])
            lacks.append(f"no photos of {_listed(missing)} in {names}")
    if lacks:
        training = [inner[top][0] for top in splits if splits[top] == TRAINING and inner[top]]
        alike = [" and ".join(map(ascii, group)) for group in groups(sorted(everything))]
        rename = (
            f" {'; '.join(alike)} look alike: if they mean the same, rename one." if alike else ""
        )
        whole = (
            f", or train on {training[0].parent} alone, which is then split by retrain"
            if training
            else ""
        )
        level = _level(root, [folder.path for folder in classes])
        raise BadData(
            f"{root} holds folders of splits ({_listed(top.name for top in splits)}), but not a "
            f"whole split: {'; '.join(lacks)}.{rename} Add what is missing{whole}; or use "
            f"--labels-from {level} to put the photos of all splits together and split them anew"
        )
    beside = [top for top in tops if top not in splits and _holds_photos(top)]
    warnings = [
        f"{top} is left out: it is beside the folders of the splits, and is not one of them"
        for top in beside
    ]
    parents = dict.fromkeys((root, *(folder.path.parent for folder in classes)))
    holding = {folder.path for folder in classes}
    warnings += [
        f"{path} is left out: it holds no photos"
        for parent in list(parents)[1:]
        for path in sub_folders(parent)
        if path not in holding
    ]
    return Layout(classes, tuple(parents), tuple(warnings))


def _repeated_names(root: Path, tops: Sequence[Path]) -> list[str]:
    """Return a warning if folders of a lower level could be the classes: their names repeat."""
    folders = {top: [top] for top in tops}
    for level in range(2, _DEEPEST + 1):
        folders = {
            top: [inner for folder in above for inner in _real_sub_folders(folder, level)]
            for top, above in folders.items()
        }
        if warnings := _repeated_at(level, root, folders):
            return warnings
    return []


def _real_sub_folders(folder: Path, level: int) -> list[Path]:
    """Return the sub-folders of `folder`; none where it is a link below the first level.

    Links may lead up again, and then the folders of each level are many times more.
    """
    return [] if level > 2 and folder.is_symlink() else sub_folders(folder)


def _repeated_at(level: int, root: Path, below: dict[Path, list[Path]]) -> list[str]:
    """Return a warning if the folders so many levels below `root`, by top, could be the classes."""
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
    holding = [folder for top in tops for folder in inner[top] if _holds_photos(folder)]
    names = Counter(
        name for _, name in {(path.parts[len(root.parts)], path.name) for path in holding}
    )
    above = {top.name for top in tops}
    if len(names) > 1 and all(name.casefold() in _SPLIT_OF for name in names):
        return [
            f"{root}: the folders {_listed(names)} below the classes are not taken as a split: "
            "their photos are put together and split anew. To keep that split, let its folders "
            f"hold the classes: {root / _USUAL_NAMES[TRAINING][0] / tops[0].name}"
        ]
    if len(names) < 2 or not any(names[name] + (name in above) > 1 for name in names):
        return []
    return [
        f"{root} can be read in two ways. Now its {len(above)} folders are the classes: "
        f"{_listed(above)}. But folders below them have the same names, and could be the "
        f"{len(names)} classes: {_listed(names)}. To train on these, use --labels-from {level}; "
        "--labels-from 1 keeps the classes as they are, without this warning"
    ]


def _listed(names: Iterable[str]) -> str:
    """Return names in one line, at most `_NAMES_SHOWN`."""
    ordered = sorted(set(names))
    rest = len(ordered) - _NAMES_SHOWN
    return ", ".join(ordered[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
