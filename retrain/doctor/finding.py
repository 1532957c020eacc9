"""Define a finding: photos that have a fault in common, and how to mend it."""

from dataclasses import asdict, dataclass
from typing import Any

from retrain.data.photo import shown
from retrain.data.remote_path import PhotoPath


def name_in(root: PhotoPath, path: PhotoPath) -> str:
    """Return `path` as text, from the folder `root` on if it is in it; of a list, its own name."""
    if path == root:
        return shown(path.name)
    return shown(path.relative_to(root) if path.is_relative_to(root) else path)


@dataclass(frozen=True)
class FindingPhoto:
    """A photo of a finding: its path and label, and why it is there, in words.

    `other` is the photo that it is a copy of, or was compared with. `better_label` is the label
    that the photo seems to have.
    """

    path: PhotoPath
    label: str
    reason: str
    other: PhotoPath | None = None
    better_label: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with absolute paths, without the fields that have no value."""
        values = {**asdict(self), "path": shown(self.path.absolute())}
        if self.other:
            values["other"] = shown(self.other.absolute())
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Finding:
    """What is wrong with some photos, or with a class.

    `kind` is a word of `--kind`, such as "wrong-label". `title` says what, `reason` why it matters,
    `remedy` what to do, each in one sentence; `command` does it, None if no command can. `photos`
    are in the order of how sure the finding is; `suggested` counts the first of them that should be
    set aside. `gain` is how many points of accuracy the remedy is expected to bring, `inflation` by
    how many the test accuracy is too good because of these photos; None if that is not known.
    """

    kind: str
    title: str
    reason: str
    remedy: str
    photos: tuple[FindingPhoto, ...]
    command: str | None = None
    suggested: int = 0
    gain: float | None = None
    inflation: float | None = None

    @property
    def suggested_photos(self) -> tuple[FindingPhoto, ...]:
        """The photos that should be set aside."""
        return self.photos[: self.suggested]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "photos": [photo.to_json() for photo in self.photos]}
