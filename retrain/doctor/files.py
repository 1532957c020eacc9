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
    """Return the files that are left out: damaged ones, and for each format those of it."""
    data = examination.data
    damaged: list[FindingPhoto] = []
    by_format: dict[tuple[str, str], list[FindingPhoto]] = defaultdict(list)
    for bad in data.dataset.bad:
        if bad.twin:  # a copy in another class
            continue
        match = _OF_FORMAT.fullmatch(bad.reason)
        group = by_format[match[1], match[2]] if match else damaged
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
    return findings


def _photo(bad: BadPhoto, data: TrainingData) -> FindingPhoto:
    return FindingPhoto(bad.path, data.dataset.label_of(bad), bad.reason)
