"""Read what the doctor found in the photos of a run, or let it examine them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy import files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import read_json
from deploy.versioned_json import Fields
from retrain.data.photo import shown
from retrain.data.remote_path import RemotePath, photo_path
from retrain.doctor import examine
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.progress import Progress
from retrain.report.run_inputs import RunInputs
from retrain.training.load_examples import TrainingData

_VERSION = 1


def read(inputs: RunInputs) -> tuple[Finding, ...] | None:
    """Return the findings of doctor.json; None unless they are of the run's photos and network.

    They are of other photos, too, if a file that they name is no longer there: exact copies and bad
    files are none of the run's photos.
    """
    path = inputs.run.doctor
    try:
        fields = versioned_json.read(read_json(path), str(path), _VERSION, "")
        digests = [photo.digest for photo, _ in inputs.manifest]
        splits = [name for _, name in inputs.manifest]
        is_same = (
            fields.text("dataset_sha256") == inputs.contract.dataset_sha256
            and fields.text("split_sha256") == examine.split_sha256(digests, splits)
            and _is_of_network(fields, inputs)
        )
        if not is_same:
            return None
        # The command names the run from the folder where this program runs.
        place, words = inputs.source.image_dir, (shown(inputs.run.folder),)
        findings = tuple(
            examine.with_command(_finding(finding), place, words)
            for finding in fields.objects("findings")
        )
    except BadData:
        return None
    return findings if _are_there(findings, inputs) else None


def _is_of_network(fields: Fields, inputs: RunInputs) -> bool:
    """Return whether the bottlenecks are those of the run; earlier versions did not say it.

    The photos of an adopted graph are analysed by the default network.
    """
    network = fields.object_or_none("network")
    if network is None or inputs.is_adopted:
        return True
    contract, trunk_sha256 = inputs.contract, inputs.metrics.text_or_none("trunk_sha256")
    return network.values == examine.describe_network(
        contract.weights_sha256, contract.input, trunk_sha256
    )


def _are_there(findings: Iterable[Finding], inputs: RunInputs) -> bool:
    """Return whether the files that are none of the run's photos exist, or no photo does."""
    place = photo_path(inputs.source.image_dir)
    if isinstance(place, RemotePath) or not place.exists():
        return True
    photos = {photo.path for photo, _ in inputs.manifest}
    named = {photo.path for finding in findings for photo in finding.photos}
    return all(os.path.lexists(path) for path in named - photos if isinstance(path, Path))


def _finding(fields: Fields) -> Finding:
    return Finding(
        fields.text("kind"),
        fields.text("title"),
        fields.text("reason"),
        fields.text("remedy"),
        tuple(map(_photo, fields.objects("photos"))),
        fields.text_or_none("command"),
        fields.integer("suggested", default=0),
        fields.number_or_none("gain"),
        fields.number_or_none("inflation"),
    )


def _photo(fields: Fields) -> FindingPhoto:
    other = fields.text_or_none("other")
    return FindingPhoto(
        photo_path(fields.text("path")),
        fields.text("label"),
        fields.text("reason"),
        photo_path(other) if other else None,
        fields.text_or_none("better_label"),
    )


def examine_photos(
    inputs: RunInputs, data: TrainingData, progress: Progress
) -> tuple[Finding, ...]:
    """Return what the doctor finds in the photos of `data`; write doctor.json."""
    findings = examine.examine(data, inputs.source, progress, photos=(shown(inputs.run.folder),))
    record: dict[str, Any] = examine.to_json(data, findings)
    files.write_json(inputs.run.doctor, record)
    return findings
