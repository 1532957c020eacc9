"""Find a user's files in a folder: not the hidden ones, not those of systems and photo programs."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_EXACT = {
    "a Synology NAS": (
        "@eaDir",
        "#recycle",
        "#snapshot",
        "@SynoEAStream",
        "@SynoResource",
        "@tmp",
        "@sharesnap",
    ),
    "a QNAP NAS": (".@__thumb", "@__thumb", "@Recycle", "@Recently-Snapshot", ".@upload_cache"),
    "a NAS": ("~snapshot", ".snapshot", ".recycle", ".zfs", ".wdmc"),
    "Nextcloud": ("files_trashbin", "files_versions"),
    "Windows": (
        "$RECYCLE.BIN",
        "RECYCLER",
        "System Volume Information",
        "$WinREAgent",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    ),
    "macOS": (
        "__MACOSX",
        ".AppleDouble",
        ".DocumentRevisions-V100",
        ".Spotlight-V100",
        ".TemporaryItems",
        ".Trashes",
        ".fseventsd",
        "Network Trash Folder",
        "Temporary Items",
        "TheVolumeSettingsFolder",
        "Photo Booth Library",
        "iPhoto Library",
        "iPod Photo Cache",
    ),
    "Linux": ("lost+found",),
    "Android": (".thumbnails", "LOST.DIR"),
    "a camera": ("AVF_INFO", "CANONMSC", "EOSMISC", "NKSC_PARAM", "THMBNL"),
    "Picasa": (".picasaoriginals",),
    "digiKam": (".dtrash", ".digikam"),
    "darktable": ("darktable_exported",),
    "Capture One": ("CaptureOne",),
    "ACDSee": ("[Originals]",),
    "Adobe Bridge": (".BridgeCache", ".BridgeCacheT"),
    "Piwigo": ("pwg_high", "pwg_representative"),
}
_PATTERNS = {
    "a Synology NAS": r"SYNO(?:PHOTO|FILE|VIDEO)_\w+\.\w+|.*@Syno(?:EAStream|Resource)",
    "Windows": r"found\.\d{3}",
    "macOS": r"\._.*",
    "Linux": r"\.Trash(?:-\d+)?",
    "Android": r"\.trashed-.*",
    "a camera": r".*\.thm",
    "Lightroom": r".*\.(?:lrdata|lrcat-data|lrlibrary)",
    "Apple Photos": r".*\.(?:photoslibrary|photolibrary|migratedphotolibrary|aplibrary)",
    "Capture One": r".*\.(?:cocatalog|cosessiondb)",
}
# No user gives one of these names to a class. Programs also use "Originals", "Trash", "Recycled"
# and "thumbnails", which a user might.
_BY_NAME = {name.casefold(): owner for owner, names in _EXACT.items() for name in names}
_OWNERS = tuple(_PATTERNS)
_PATTERN = re.compile("|".join(f"({text})" for text in _PATTERNS.values()), re.IGNORECASE)


def owner_of(name: str) -> str | None:
    """Return the system or program that puts files of this name among photos, such as "Windows".

    Return None for a name that is the user's own.
    """
    if owner := _BY_NAME.get(name.casefold()):
        return owner
    match = _PATTERN.fullmatch(name)
    return _OWNERS[match.lastindex - 1] if match and match.lastindex else None


def is_user_file(name: str) -> bool:
    """Return whether a file or folder of this name is the user's: not hidden, not a system's."""
    return not name.startswith(".") and owner_of(name) is None


def contains(folder: Path, other: Path, follow: bool = False) -> bool:
    """Return whether `walk` of `folder` yields the files of the folder `other`.

    The folders inside `folder` are read only to `follow` links among them.
    """
    if follow:
        inner = (Path(parent) for parent, _ in _walk(folder, lambda _: None))
        return any(contains(place, other) for place in inner)
    # `walk` follows links, so both the name of a path and its target count.
    return any(
        place.is_relative_to(root) and all(map(is_user_file, place.relative_to(root).parts))
        for root, place in (
            (Path(os.path.abspath(folder)), Path(os.path.abspath(other))),  # noqa: PTH100
            (folder.resolve(), other.resolve()),
        )
    )


def walk(
    folder: Path,
    on_error: Callable[[OSError], None] | None = None,
    on_ignored: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Yield the user's files below `folder` in a fixed order; links are followed.

    A real folder is read once, however many links lead to it. `on_ignored` is called with each
    path that `is_user_file` refuses. `on_error` is called with the OSError of a folder that cannot
    be read, whose `filename` is the folder; without it the error is raised.
    """
    for parent, names in _walk(folder, on_error or _raise, on_ignored):
        yield from (Path(parent, name) for name in names)


def _walk(
    folder: Path,
    on_error: Callable[[OSError], None],
    on_ignored: Callable[[Path], None] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder of `walk` and the names of its files."""
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        if on_ignored:
            for name in (*folders, *names):
                if not is_user_file(name):
                    on_ignored(Path(parent, name))
        folders[:] = sorted(filter(is_user_file, folders))
        yield parent, sorted(filter(is_user_file, names))


def _raise(error: OSError) -> None:
    raise error
