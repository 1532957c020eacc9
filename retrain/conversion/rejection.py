"""When a photo is unknown: below which score, so that few photos of known classes are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.model_file import ModelFile
from retrain.conversion.parity import model_scores
from retrain.data.photo_folder import Photo
from retrain.progress import Progress


class Rejection(NamedTuple):
    """The `rate` asked for, and the `threshold` by which `rejected` of so many `photos` are."""

    rate: float
    threshold: float
    photos: int
    rejected: int


def calibrate(
    file: ModelFile, photos: Sequence[Photo], rate: float, progress: Progress
) -> Rejection:
    """Return the highest threshold by which the model of `file` rejects at most the share `rate`.

    `photos` are of known classes, and neither trained nor tested on. With fewer than 1 / `rate`
    none of them is rejected, and a warning says so.
    """
    best = np.sort(model_scores(file, photos, progress).max(axis=1))
    # What 0.05 * 100 lacks to 5 is no photo less.
    threshold = best[int(rate * len(best) + 1e-9)]
    if rate * len(best) < 1:
        progress.warn(
            f"--reject-rate {rate:g} needs {1 / rate:.0f} validation photos, there are "
            f"{len(best)}: unknown is what scores less than each of them"
        )
    if not threshold:
        progress.warn(
            f"--reject-rate {rate:g}: more validation photos than that score 0, so nothing is "
            "unknown: are they like the training photos?"
        )
    return Rejection(rate, float(threshold), len(best), int((best < threshold).sum()))
