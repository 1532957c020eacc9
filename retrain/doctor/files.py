"""Find files that cannot be used as photos."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import BadData
from deploy.image import open_image
from deploy.system.counts import with_noun
from retrain.data.photo import BadPhoto
from retrain.data.remote_path import look, read_photo
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.parallel import run_in_order
from retrain.training.load_examples import TrainingData

_OF_FORMAT = re.compile(r"(\S.*?) file: (.+)", re.DOTALL)
"""The reason and the remedy of a photo of a format that is not read here."""


def find_unusable(examination: Examination) -> Sequence[Finding]:
    """Return the files that are left out, by their reason.

    There is a finding for each format that cannot be read here, one for damaged files, and one for
    all others. Only damaged files are suggested. Others may be sound: a list has a wrong digest or
    label, or a disk could not be read for a while.
    """
    data = examination.data
    by_format: dict[tuple[str, str], list[FindingPhoto]] = defaultdict(list)
    unread: list[BadPhoto] = []
    for bad in data.dataset.bad:
        if bad.twin:  # a copy in another class
            continue
        if match := _OF_FORMAT.fullmatch(bad.reason):
            by_format[match[1], match[2]].append(_photo(bad, data))
        else:
            unread.append(bad)
    are_damaged = run_in_order(unread, lambda: data, _is_damaged, lambda _: None)
    damaged: list[FindingPhoto] = []
    unused: list[FindingPhoto] = []
    for bad, is_damaged in zip(unread, are_damaged, strict=True):
        (damaged if is_damaged else unused).append(_photo(bad, data))
    findings = [
        Finding(
            "unsupported",
            f"{with_noun(len(photos), 'file')} of the format {name} cannot be read here",
            "Such files are left out of the training.",
            f"To use them: {remedy}.",
            tuple(photos),
        )
        for (name, remedy), photos in by_format.items()
    ]
    if damaged:
        findings.append(
            Finding(
                "unreadable",
                f"{with_noun(len(damaged), 'file')} cannot be read as a photo",
                "Such files are left out of the training.",
                "Get them again from where they came, or set them aside.",
                tuple(damaged),
                suggested=len(damaged),
            )
        )
    if unused:
        findings.append(
            Finding(
                "unreadable",
                f"{with_noun(len(unused), 'file')} could not be used, or not as a whole",
                "Such files, or parts of them, are left out of the training.",
                "Mend what each reason names, or get the file again.",
                tuple(unused),
            )
        )
    return findings


def _is_damaged(data: TrainingData, bad: BadPhoto) -> bool:
    """Return whether a file of this machine can be read, and not decoded as a photo.

    The list or a tar file, in which other photos may be used, does not count.
    """
    is_own_file = isinstance(bad.path, Path) and bad.path.suffix.lower() != ".tar"
    if not is_own_file or bad.path == data.dataset.root:
        return False
    try:
        look(bad.path)  # to read a pipe may take for ever
        open_image(read_photo(bad.path), data.backbone.spec)
    except OSError:
        return False
    except BadData as error:
        return not isinstance(error.__cause__, MemoryError)
    return False


def _photo(bad: BadPhoto, data: TrainingData) -> FindingPhoto:
    return FindingPhoto(bad.path, data.dataset.label_of(bad), bad.reason)
