"""Define what the checks examine: photos, and what several checks need to know of them."""

from dataclasses import dataclass
from functools import cached_property

from retrain.bottlenecks import near_duplicates
from retrain.bottlenecks.near_duplicates import Pair
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.training.load_examples import TrainingData


@dataclass(frozen=True)
class Examination:
    """The photos that are examined, with their bottlenecks and splits, and where they are from."""

    data: TrainingData
    source: Source
    progress: Progress

    @cached_property
    def near_copies(self) -> list[Pair]:
        """The pairs of photos that show the same, in any split: searched for once."""
        pictures = ThumbnailCache(self.source.pictures)
        return near_duplicates.find(
            self.data.dataset.photos, self.data.splits, pictures, self.progress
        )
