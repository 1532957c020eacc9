"""Folders of small photos for tests of scans."""

from pathlib import Path

from PIL import Image

from retrain.data.dataset import Dataset


def put(path: Path, colour: int, form: str = "PNG") -> Path:
    """Write a small photo whose content depends on `colour`; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        Image.new("RGB", (8, 8), (colour, 7, 255 - colour)).save(stream, form)
    return path


def names(dataset: Dataset) -> list[str]:
    """Return the paths of the photos, relative to the root."""
    return [str(photo.path.relative_to(dataset.root)) for photo in dataset.photos]


def reasons(dataset: Dataset) -> dict[str, str]:
    """Return the reason of each bad photo by its file name."""
    return {bad.path.name: bad.reason for bad in dataset.bad}
