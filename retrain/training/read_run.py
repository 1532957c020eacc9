"""Read from metrics.json of which photos a run is, by which network, and in which split."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

from deploy import versioned_json
from deploy.untrusted_files import damaged, read_json
from deploy.versioned_json import Fields
from retrain import stored_settings
from retrain.data.manifest import read_manifest
from retrain.run_folder import METRICS_VERSION, RunFolder
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings, TrainSettings

_REMEDY = "train again, or name the folder of photos instead of the run"


def read_settings(run: RunFolder) -> tuple[Source, SplitSettings, tuple[str, ...] | None]:
    """Return the photos and network of a run, its split, and an adopted graph's labels, else None.

    The place of the photos is absolute. The int8 trunk of the run is taken from the run. The photos
    of an adopted graph are analysed by the default network, and those whose folder matches none of
    its labels are not of the run. Where the folders make the split, no other is set. Raises BadData
    if metrics.json cannot be read, WrongUse if its settings contradict each other.
    """
    record = read_json(run.metrics, _REMEDY)
    metrics = versioned_json.read(record, str(run.metrics), METRICS_VERSION, _REMEDY)
    settings = metrics.object("settings")
    with damaged(f"{run.metrics}: its settings cannot be read", _REMEDY):
        values = stored_settings.read_fields(settings.object("source"), Source)
        is_adopted = metrics.text("command", "train") == "adopt"
        if is_adopted:
            values = {name: values[name] for name in ("image_dir", "cache_dir", "labels_from")}
        source = Source(**values)
        split = stored_settings.read(settings.object("split"), SplitSettings)
        if metrics.text("split_by", "content") == "folders":
            split = SplitSettings()
        labels = metrics.texts("labels") if is_adopted else None
    if source.precision == "int8" and run.trunk.exists():
        source = replace(source, trunk=run.trunk)
    return replace(source, image_dir=_absolute(source.image_dir, run)), split, labels


def read_train_settings(metrics: Fields) -> TrainSettings:
    """Return the settings in the metrics.json of a training; raise as `read_settings` does."""
    with damaged(f"{metrics.where}: its settings cannot be read", _REMEDY):
        return stored_settings.read(metrics.object("settings"), TrainSettings)


def _absolute(image_dir: Path | str, run: RunFolder) -> Path | str:
    """Return the place of the photos, which earlier versions named as the user did.

    The manifest has the photos' absolute paths: a folder is above them, and a list beside a folder
    that is. The current folder may hold other photos of the same name, and is asked last.
    """
    if isinstance(image_dir, str):
        return image_dir
    if image_dir.is_absolute() or not run.manifest.exists():
        return image_dir.absolute()
    first, _ = next(iter(read_manifest(run.manifest)))
    parents = [parent for parent in first.path.parents if isinstance(parent, Path)]
    parts = tuple(name for name in image_dir.parts if name != "..")
    above = (parent for parent in parents if parent.parts[-len(parts) :] == parts)
    beside = (parent / image_dir for parent in parents if (parent / image_dir).is_file())
    return next(chain(above, beside), image_dir.absolute())
