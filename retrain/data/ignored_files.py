"""Warn of photos that a scan leaves out: beside class folders, hidden, or of a system."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy import user_files
from deploy.system.counts import with_noun
from deploy.user_files import owner_of
from retrain.data.folder_layout import is_photo, why_closed

_ARCHIVE = re.compile(
    r".*\.(?:7z|bz2|cb[rz]|dmg|gz|iso|lz4|rar|tar|tbz2?|tgz|txz|tzst|xz|z|zipx?|zst|z?\d\d\d?)",
    re.IGNORECASE | re.DOTALL,
)
"""Matches also the volumes of an archive: `.z01`, `.001`."""
_ARCHIVE_MAGIC = (b"PK\3\4", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
"""First bytes of zip, gzip, bzip2 and xz."""
_TAR_MAGIC = slice(257, 262)
"""Where a tar file has the name of its format."""
_SHORTCUT_SUFFIXES = (".lnk", ".alias", ".url", ".webloc")
_VERSIONING_FOLDERS = (".git", ".dvc", ".hg", ".svn")
"""Hidden folders that hold the photos once more, in a format of their own."""
_ICLOUD_SUFFIX = ".icloud"
"""Suffix of the hidden file that macOS leaves when it moves a file to iCloud to save space."""
_MAX_EXAMPLES = 3


def warnings(parents: Iterable[Path]) -> list[str]:
    """Return a line for each file and folder in `parents` that could be meant as a class."""
    lines = []
    for parent in parents:
        loose = []
        for path in sorted(parent.iterdir()):
            if not user_files.is_user_file(path.name):
                continue
            if reason := _reason_to_leave_out(path):
                lines.append(f"{path} is left out: {reason}")
            elif is_photo(path):
                loose.append(path.name)
        if loose:
            lines.append(
                f"{with_noun(len(loose), 'photo', 'is/are')} directly in {parent}, not in the "
                f"folder of a class, and left out ({_examples(loose)}): move them into the folder "
                "of their class"
            )
    return lines


def _reason_to_leave_out(path: Path) -> str | None:
    """Return why what could be meant as a class is none, and the remedy; None for all else."""
    if path.is_dir():
        problem = why_closed(path)
        return problem and f"the folder cannot be opened ({problem})"
    if path.is_symlink() and not path.exists():
        return f"a link to nothing ({path.readlink()}): mend or remove it"
    if _ARCHIVE.fullmatch(path.name) or _is_archive(path):
        return "an archive: unpack it if it holds the photos of a class"
    if path.suffix.lower() in _SHORTCUT_SUFFIXES:
        return "a shortcut, which is no folder: move the photos here, or make a symbolic link"
    return None


def _is_archive(path: Path) -> bool:
    """Return whether a file without a suffix is an archive by its first bytes."""
    if path.suffix or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_TAR_MAGIC.stop)
    except OSError:
        return False
    return head.startswith(_ARCHIVE_MAGIC) or head[_TAR_MAGIC] == b"ustar"


def system_warnings(left_out: Sequence[Path]) -> list[str]:
    """Return a line for each kind of hidden or system file and folder that holds photos."""
    in_cloud = sorted(path.name for path in left_out if path.suffix == _ICLOUD_SUFFIX)
    counts: Counter[str | None] = Counter()
    names: dict[str | None, set[str]] = defaultdict(set)
    for path in left_out:
        photos = 0 if path.name in _VERSIONING_FOLDERS else _count_photos(path)
        if photos:
            owner = owner_of(path.name)  # None: it is hidden
            counts[owner] += photos
            names[owner].add(path.name)
    return [
        f"{with_noun(count, 'photo', 'is/are')} left out, "
        + (
            f"put there by {owner}"
            if owner
            else f"since {'it is' if count == 1 else 'they are'} hidden"
        )
        + f" ({_examples(sorted(names[owner]))}): rename those that are yours"
        for owner, count in sorted(counts.items(), key=lambda item: item[0] or "hidden")
    ] + [
        f"{with_noun(len(in_cloud), 'file', 'is/are')} in iCloud and not on this machine "
        f"({_examples(in_cloud)}): download them first"
        for _ in in_cloud[:1]
    ]


def _count_photos(path: Path) -> int:
    if not path.is_dir():
        return int(is_photo(path))
    return sum(is_photo(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _examples(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_EXAMPLES
    return ", ".join(names[:_MAX_EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")
