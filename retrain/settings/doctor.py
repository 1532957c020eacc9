"""Hold the settings of the doctor: the kinds of findings, and their names."""

import os
from pathlib import Path

from deploy.errors import WrongUse

KINDS = {
    "unreadable": "files that are damaged, cut off, no photos, or could not be read",
    "unsupported": "photos of a format that cannot be read here, such as HEIC",
    "exact-copy": "the same file twice in a class",
    "near-copy": "resized, cropped or recompressed copies in a class",
    "copy-across-classes": "copies of one photo in several classes",
    "copy-across-splits": "copies of one photo in training and in testing or validation",
    "one-moment": "photos of one moment in training and in testing or validation",
    "wrong-label": "photos whose label is likely wrong",
    "ringleader": "photos that make many others look like another class",
    "overlap": "classes that are hard to tell apart",
    "few-photos": "classes with too few photos, or photos of too few things",
    "imbalance": "classes with far fewer photos than others",
    "collapse": "nearly all photos are taken for one class",
    "background": "classes that are recognised by their background",
    "tiny": "photos of few pixels",
    "odd-shape": "photos that are far longer than wide, or wider than long",
    "dark": "photos that are nearly black",
    "bright": "photos that are nearly white",
    "blurred": "photos without sharp detail",
    "low-information": "photos that show next to nothing",
    "greyscale": "grey photos among photos in colour",
    "turned": "photos that are turned by their EXIF data",
}
"""The kinds of findings, in the order in which they are shown, and what each is."""

MAX_EXAMINED = 200_000
"""The most photos that are examined, shown in a report, and compared to find copies."""

UNDO_LIST = "undo.json"
"""The name of the list in a quarantine by which its files are moved back."""


def quarantine_of(image_dir: Path) -> Path:
    """Return the folder beside the folder of photos into which its photos are set aside.

    Raises WrongUse for the root of the file system, beside which there is none.
    """
    root = Path(os.path.abspath(image_dir))  # noqa: PTH100 (`resolve` would follow links)
    if not root.name:
        raise WrongUse(
            f"{root}: photos of the root of the file system cannot be set aside: move them, or "
            "their list, into a folder"
        )
    return root.with_name(f"{root.name}-quarantine")
