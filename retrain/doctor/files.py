"""Find files that cannot be used as photos."""

import re
from collections import defaultdict
from collections.abc import Sequence

from deploy.system.counts import with_noun
from retrain.data.photo import BadPhoto
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.training.load_examples import TrainingData

_OF_FORMAT = re.compile(r"(\S.*?) file: (.+)", re.DOTALL)
"""The reason and the remedy of a photo of a format that is not read here."""


def find_unusable(examination: Examination) -> Sequence[Finding]:
    """Return the files that are left out: for each format those of it, damaged ones, and others.

    Only damaged ones are suggested: what is wrong with the others may be wrong with no file.
    """
    data = examination.data
    damaged: list[FindingPhoto] = []
    others: list[FindingPhoto] = []
    by_format: dict[tuple[str, str], list[FindingPhoto]] = defaultdict(list)
    for bad in data.dataset.bad:
        if bad.twin:  # a copy in another class
            continue
        match = _OF_FORMAT.fullmatch(bad.reason)
        if match:
            group = by_format[match[1], match[2]]
        else:
            group = others if _holds_photos(bad, data) else damaged
        group.append(_photo(bad, data))
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
    if others:
        findings.append(
            Finding(
                "unreadable",
                f"{with_noun(len(others), 'file')} could not be used",
                "What they hold is left out of the training.",
                "Mend what each reason names, or get the file again.",
                tuple(others),
            )
        )
    return findings


def _holds_photos(bad: BadPhoto, data: TrainingData) -> bool:
    """Return whether a bad file is a tar file, or the list: other photos in it may be used."""
    return bad.path == data.dataset.root or bad.path.suffix.lower() == ".tar"


def _photo(bad: BadPhoto, data: TrainingData) -> FindingPhoto:
    return FindingPhoto(bad.path, data.dataset.label_of(bad), bad.reason)
