"""Choose between the linear head and the fine-tuned network by the validation photos."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deploy.system.counts import with_noun
from retrain.metrics import calibrated_cross_entropies
from retrain.training.head import Floats, Ints

_MARGIN = 2.0
"""Standard errors by which the linear head must be better to be kept."""
_LEAST_PROBABILITY = 0.01
"""Of a photo's label, as a share of chance. Else one photo of a network that unlearned makes the
standard error so large that the others prove nothing."""


@dataclass(frozen=True)
class Comparison:
    """Cross entropies in nats of `photos` validation photos, each network at its temperature.

    That of a photo is at most log(100 C), as if its label had a hundredth of chance.
    `gain` is what fine-tuning lowers the mean by, `standard_error` that of the gain. Photos are
    paired: most of what makes a photo hard is hard for both networks.
    """

    photos: int
    linear: float
    fine_tuned: float
    gain: float
    standard_error: float

    @classmethod
    def of(cls, linear: Floats, fine_tuned: Floats, labels: Ints) -> "Comparison":
        """Compare two networks by their logits (N, C) for photos with `labels` (N,)."""
        most = math.log(linear.shape[1] / _LEAST_PROBABILITY)
        with np.errstate(invalid="ignore"):  # logits may have overflowed
            before, after = (
                np.minimum(calibrated_cross_entropies(logits, labels), most)
                for logits in (linear, fine_tuned)
            )
            gains = before - after
            error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        return cls(
            len(labels),
            float(before.mean()),
            float(after.mean()),
            float(gains.mean()),
            float(error),
        )

    @property
    def keeps_fine_tuned(self) -> bool:
        """Whether the fine-tuned network is better, or not known to be worse.

        A few validation photos say little, and before any of them is seen, fine-tuning is far more
        likely to help than to harm: of 33 trainings (docs/measurements/fine-tuning.md) two were
        worse on the test photos. So the validation photos must speak against it clearly.
        """
        return math.isfinite(self.fine_tuned) and self.gain >= -_MARGIN * self.standard_error

    def __str__(self) -> str:
        name = "fine-tuned network" if self.keeps_fine_tuned else "linear head"
        return (
            f"the {name} is kept: cross entropy of "
            f"{with_noun(self.photos, 'validation photo')} {self.fine_tuned:.4f} fine-tuned, "
            f"{self.linear:.4f} linear, gain {self.gain:.4f} with a standard error of "
            f"{self.standard_error:.4f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; a number that is not finite is null."""
        values = asdict(self).items()
        return {name: value if math.isfinite(value) else None for name, value in values}
