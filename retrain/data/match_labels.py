"""Match the classes of photos with the labels of a classifier of another program."""

import re
from collections import defaultdict
from dataclasses import replace

from deploy.errors import BadData
from deploy.system.counts import with_noun
from retrain.data.dataset import Copies, Dataset


def match_labels(
    dataset: Dataset, labels: tuple[str, ...], source: str
) -> tuple[Dataset, list[str]]:
    """Return the photos whose class matches a label, and a warning for each other class and label.

    A class matches the label with its name; else the label with the name that TensorFlow's
    retrain.py gave it: in lower case, all but a..z and 0..9 replaced by spaces. Raises BadData,
    which names `source`, from where the labels are, if no class matches.
    """
    by_classic_name = defaultdict(list)
    for label in labels:
        by_classic_name[_classic_name(label)].append(label)
    label_of: dict[str, str] = {}
    for name in dataset.labels:
        candidates = [name] if name in labels else by_classic_name[_classic_name(name)]
        if len(candidates) == 1:
            label_of[name] = candidates[0]
    if not label_of:
        raise BadData(
            f"{dataset.root}: no class has a label of {source}: classes "
            f"{', '.join(dataset.labels[:8])}; labels {', '.join(labels[:8])}. Remedy: name each "
            "class as its label, or choose the level of the class folders with `labels_from`"
        )
    counts = dataset.photos.label_counts()
    warnings = [
        f"{dataset.root}: no label of {source} is like the class {name}: "
        f"{with_noun(counts.get(name, 0), 'photo', 'is/are')} left out; rename the class if it is "
        "one"
        for name in dataset.labels
        if name not in label_of
    ]
    warnings += [
        f"no photo has the label {label}: nothing is measured of it"
        for label in labels
        if label not in label_of.values()
    ]
    classes = tuple(
        folder._replace(label=label_of[folder.label])
        for folder in dataset.classes
        if folder.label in label_of
    )
    copies = Copies(
        dataset.copies.photos.relabelled(label_of), dataset.copies.originals.relabelled(label_of)
    )
    photos = dataset.photos.relabelled(label_of)
    matched = replace(dataset, classes=classes, photos=photos, copies=copies)
    return matched.without(()), warnings


def _classic_name(name: str) -> str:
    return re.sub("[^a-z0-9]+", " ", name.lower()).strip()
