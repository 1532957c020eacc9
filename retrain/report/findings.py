"""Read what the doctor found in the photos of a run, or let it examine them."""

from typing import Any

from deploy import files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import read_json
from deploy.versioned_json import Fields
from retrain.data.photo import shown
from retrain.data.remote_path import photo_path
from retrain.doctor import examine
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.progress import Progress
from retrain.report.run_inputs import RunInputs
from retrain.training.load_examples import TrainingData

_VERSION = 1


def read(inputs: RunInputs) -> tuple[Finding, ...] | None:
    """Return the findings of doctor.json; None unless it is of the run's photos and split."""
    path = inputs.run.doctor
    try:
        fields = versioned_json.read(read_json(path), str(path), _VERSION, "")
        digests = [photo.digest for photo, _ in inputs.manifest]
        splits = [name for _, name in inputs.manifest]
        is_same = fields.text("dataset_sha256") == inputs.contract.dataset_sha256 and fields.text(
            "split_sha256"
        ) == examine.split_sha256(digests, splits)
        if not is_same:
            return None
        # The command names the run from the folder where this program runs.
        place, words = inputs.source.image_dir, (shown(inputs.run.folder),)
        return tuple(
            examine.with_command(_finding(finding), place, words)
            for finding in fields.objects("findings")
        )
    except BadData:
        return None


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
