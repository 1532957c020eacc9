"""Examine the photos of a data set: run the checks, and put their findings in order."""

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from retrain.data.match_labels import match_labels
from retrain.data.photo import shown
from retrain.doctor import backgrounds, classes, copies, files, labels, moments, pixels
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding
from retrain.doctor.quarantine import folder_of_photos, require_movable
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.settings.doctor import KINDS, MAX_EXAMINED, quarantine_of
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings
from retrain.stored_settings import options
from retrain.training.load_examples import (
    TrainingData,
    analyse,
    load_undistorted,
    read_source,
    with_precision,
)

_SCHEMA_VERSION = 1


class Check(NamedTuple):
    """A function that examines the photos, and the kinds of the findings that it may return."""

    kinds: tuple[str, ...]
    find: Callable[[Examination], Sequence[Finding]]


CHECKS = (
    Check(("unreadable", "unsupported"), files.find_unusable),
    Check(
        ("exact-copy", "near-copy", "copy-across-classes", "copy-across-splits"),
        copies.find_copies,
    ),
    Check(("one-moment",), moments.find_moments),
    Check(pixels.KINDS, pixels.find_unusual),
    Check(labels.KINDS, labels.find),
    Check(classes.KINDS, classes.find),
    Check(backgrounds.KINDS, backgrounds.find),
)


def load(
    source: Source,
    settings: SplitSettings,
    progress: Progress,
    adopted_labels: tuple[str, ...] | None = None,
) -> TrainingData:
    """Return the photos of `source` with their bottlenecks; those that the cache lacks are made.

    With `adopted_labels`, those of a graph of another program, only the photos whose folder matches
    one are taken, with that label. Raises WrongUse for more than MAX_EXAMINED photos.
    """
    dataset, backbone = read_source(source, progress, settings)
    if len(dataset.photos) > MAX_EXAMINED:
        raise WrongUse(
            f"{len(dataset.photos):,} photos: at most {MAX_EXAMINED:,} are examined: name a folder "
            "of some of them"
        )
    if adopted_labels:
        dataset, _ = match_labels(dataset, adopted_labels, "the adopted graph")
    backbone = with_precision(source, dataset, backbone, settings, progress)
    dataset, bottlenecks = analyse(source, dataset, backbone, progress)
    return load_undistorted(backbone, dataset, bottlenecks, dataset.labels, settings)


def examine(
    data: TrainingData,
    source: Source,
    progress: Progress,
    kinds: Collection[str] = (),
    photos: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return what is wrong with the photos, in the order of `KINDS`.

    `kinds` limits the findings to these kinds. `photos` are the words by which the commands of the
    findings name the photos: those of `name_photos`, the default, or the folder of a run.
    """
    findings: list[Finding] = []
    examination = Examination(data, source, progress)
    with progress.stage("examine"):
        for check in CHECKS:
            if not kinds or not set(kinds).isdisjoint(check.kinds):
                findings += check.find(examination)
    order = list(KINDS)
    return tuple(
        with_command(finding, source.image_dir, photos or name_photos(source))
        for finding in sorted(findings, key=lambda finding: order.index(finding.kind))
        if not kinds or finding.kind in kinds
    )


def name_photos(source: Source) -> list[str]:
    """Return the words that name `source` in a command: the place, and the options beside it."""
    return [shown(source.image_dir), *options(source, ("image_dir",))]


def with_command(finding: Finding, image_dir: Path | str, photos: Sequence[str]) -> Finding:
    """Return `finding` with the command that sets the suggested photos aside.

    `photos` are its words for the photos. There is none if a suggested photo cannot be moved.
    """
    if not finding.suggested:
        return finding
    try:
        root = folder_of_photos(image_dir)
        require_movable((photo.path for photo in finding.suggested_photos), root)
        folder = quarantine_of(root)
    except WrongUse:
        return replace(finding, command=None)
    words = ("doctor", *photos, "--kind", finding.kind, "--quarantine", shown(folder))
    return replace(finding, command=f"retrain {shlex.join(words)}")


def split_sha256(digests: Sequence[bytes], splits: Sequence[str]) -> str:
    """Return the fingerprint of which photo, by its digest, is in which split."""
    pairs = zip((digest.hex() for digest in digests), splits, strict=True)
    return fingerprint({"splits": sorted(pairs)})


def describe_network(
    weights_sha256: str, spec: InputSpec, trunk_sha256: str | None
) -> dict[str, Any]:
    """Return what decides a photo's bottleneck, as JSON; `trunk_sha256` is of an int8 trunk."""
    return {
        "weights_sha256": weights_sha256,
        "input": asdict(spec),
        "trunk_sha256": trunk_sha256,
    }


def to_json(data: TrainingData, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the content of doctor.json: of which photos and network the findings are, and they."""
    photos, backbone = data.dataset.photos, data.backbone
    return {
        "schema": _SCHEMA_VERSION,
        "image_dir": shown(data.dataset.root.absolute()),
        "dataset_sha256": data.dataset.sha256,
        "split_sha256": split_sha256([photo.digest for photo in photos], data.splits),
        "network": describe_network(
            backbone.weights_sha256,
            backbone.spec,
            backbone.flatbuffer_sha256 if backbone.precision == "int8" else None,
        ),
        "photos": len(photos),
        "findings": [finding.to_json() for finding in findings],
    }
