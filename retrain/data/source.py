"""Open the source of photos at an address: a folder, a list or tar files, here or at a URL."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from deploy.errors import BadData, WrongUse
from retrain.data import store
from retrain.data.dataset import Dataset
from retrain.data.listed import PhotoSource
from retrain.data.photo_folder import PhotoFolder
from retrain.data.photo_list import LISTS, PhotoList
from retrain.data.remote_folder import RemoteFolder
from retrain.data.remote_path import PhotoPath, RemotePath, photo_path
from retrain.data.scan import scan
from retrain.data.tar_files import TarFiles

_TAR = ".tar"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_FILES = 10_000_000
_EXPECTED = (
    "expected a folder with a sub-folder for each class, a list (.csv or .parquet), or tar files"
)


def read_photos(
    address: str | PhotoPath, labels_from: int | None = None, scans: Path | None = None
) -> Dataset:
    """Return the photos at an address, as `scan.scan` does; raise as `open_source` does too."""
    return scan(open_source(address, labels_from), scans)


def open_source(address: str | PhotoPath, labels_from: int | None = None) -> PhotoSource:
    """Return the source at an address: a path or a URL.

    `.csv` and `.parquet` is a list, `.tar` a tar file; several of these are named with `{000..012}`
    or `*`, or by the folder that holds nothing else. All else is a folder, of which `labels_from`
    is the level of the class folders. Raises BadData if nothing is there, WrongUse for
    `labels_from` without class folders.
    """
    place = photo_path(address)
    try:
        source = _open(place, labels_from)
    except OSError as error:
        raise BadData(f"{place}: cannot be read ({error.strerror}): {_EXPECTED}") from error
    if labels_from is not None and isinstance(source, PhotoList | TarFiles):
        raise WrongUse(
            f"`labels_from` is for folders, and {place} has its own labels: leave it out"
        )
    return source


def _open(place: PhotoPath, labels_from: int | None) -> PhotoSource:
    suffix = place.suffix.lower()
    if isinstance(place, Path) and place.is_dir():
        tars = _only_tars(place)
        return TarFiles(place, tars) if tars else PhotoFolder.open(place, labels_from)
    if suffix == _TAR:
        return TarFiles(place, _tars(place))
    if suffix in LISTS:
        if isinstance(place, Path) and not place.exists():
            raise BadData(f"{place}: no such list of photos")
        return PhotoList(place)
    if isinstance(place, RemotePath):
        names = store.list_names(str(place))
        tars = tuple(place / name for name, _ in names if name.lower().endswith(_TAR))
        if tars and not any(is_folder for _, is_folder in names):
            return TarFiles(place, tars)
        return RemoteFolder.open(place, labels_from or 1)
    if place.exists():
        raise BadData(f"{place}: {_EXPECTED}")
    return PhotoFolder.open(place, labels_from)  # it says that there is none


def _only_tars(folder: Path) -> tuple[PhotoPath, ...]:
    """Return the tar files of a folder without other folders; none if it has such."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if any(path.is_dir() for path in paths):
        return ()
    return tuple(path for path in paths if path.suffix.lower() == _TAR)


def _tars(place: PhotoPath) -> tuple[PhotoPath, ...]:
    """Return the tar files that an address names; raise BadData if there is none."""
    if isinstance(place, Path) and place.exists():
        return (place,)
    files: list[PhotoPath] = []
    for text in _without_braces(str(place)):
        pattern = photo_path(text)
        if not {"*", "?", "["}.isdisjoint(text.partition("://")[2] or text):
            files += (
                sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
                if isinstance(pattern, Path)
                else map(RemotePath, store.expand(text))
            )
        else:
            files.append(pattern)
        if len(files) > _MAX_FILES:
            raise BadData(f"{place}: more than {_MAX_FILES:,} files")
    if not files or (len(files) == 1 and isinstance(files[0], Path) and not files[0].exists()):
        raise BadData(f"{place}: there is no such tar file")
    return tuple(files)


def _without_braces(text: str) -> Iterator[str]:
    """Yield the texts that `{000..012}` and `{a,b}` in a text stand for, in order."""
    pieces = _BRACES.split(text)
    choices: list[list[str]] = []
    for inside in pieces[1::2]:
        if match := _RANGE.fullmatch(inside):
            first, last = map(int, match.groups())
            if abs(last - first) > _MAX_FILES:
                raise BadData(f"{text}: more than {_MAX_FILES:,} files")
            choices.append([str(i).zfill(len(match[1])) for i in range(first, last + 1)])
        elif "," in inside:
            choices.append(inside.split(","))
        else:
            choices.append([f"{{{inside}}}"])
    for chosen in product(*choices):
        middle = [piece for pair in zip(chosen, pieces[2::2], strict=True) for piece in pair]
        yield "".join([pieces[0], *middle])
