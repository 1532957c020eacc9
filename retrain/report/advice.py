"""Advise what to do next, by expected gain, and when to stop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.system.counts import with_noun
from retrain.doctor.finding import Finding
from retrain.metrics import Accuracy
from retrain.report.learning_curve import LearningCurve

MAX_ACTIONS = 3
_FINE_TUNING_SHARE = 0.25
"""Share of the errors that fine-tuning removes; measured on flowers and solar cells 17 to 39%."""
_CONFUSION_SHARE = 0.5
"""Share of the errors between two classes that clearer labels and photos may remove: a guess."""
_MAX_CLASSES = 2
_LEAST_GAIN = 0.05
"""Points of accuracy; an action of less is not worth naming."""


@dataclass(frozen=True)
class Action:
    """Something to do: `gain` points of accuracy to expect, None if not known; how it is known.

    `command` does it, or `finding` is the index of the finding whose photos it is about, or
    `labels` are the classes. Until it is done the measured accuracy is too good by `inflation`
    points. With `is_certain` the fault is measured, not estimated.
    """

    title: str
    reason: str
    gain: float | None
    command: str | None = None
    finding: int | None = None
    labels: tuple[str, ...] = ()
    inflation: float | None = None
    is_certain: bool = False

    @property
    def points(self) -> float:
        """By how many points of accuracy it is worth doing, 0 if that is not known."""
        return self.gain or self.inflation or 0.0


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes, and how many test photos of one were taken for the other."""

    labels: tuple[str, str]
    photos: int


def advise(
    accuracy: Accuracy,
    photos: int,
    findings: Sequence[Finding],
    curve: LearningCurve | None,
    pairs: Sequence[ConfusedPair],
    wrong: Mapping[str, int],
    model_loss: float | None,
    choose_command: str,
    fine_tune_command: str | None,
) -> list[Action]:
    """Return the actions with the most expected gain, at most MAX_ACTIONS.

    Faults that are certain have a place among them: an accuracy that is measurably too good, and
    pictures in two classes. Other gains are estimates.

    `photos` counts those of the data set, `wrong` the misclassified test photos of each class. An
    action gains at most what the test photos lack. `curve` is None where it says nothing of the
    network. `model_loss` are the points that the model is below the graph, `choose_command` tries
    other recipes; `fine_tune_command` is None where fine-tuning is no choice.
    """
    errors = 100 * (1 - accuracy.value)
    actions = [
        _mend(index, finding, _gain(finding, photos, errors))
        for index, finding in enumerate(findings)
        if finding.photos and _is_action(finding)
    ]
    if curve:
        actions += _more_photos(curve, accuracy.total, wrong)
    if fine_tune_command:
        actions.append(
            Action(
                "Fine-tune the network",
                "Train its last blocks too; on flowers and solar cells that removed 17 to 39% of "
                "the errors. It takes minutes.",
                _FINE_TUNING_SHARE * errors,
                fine_tune_command,
            )
        )
    if model_loss and model_loss > 0:
        actions.append(
            Action(
                "Convert by another recipe",
                f"The model is {model_loss:.1f} points below its graph: try all recipes.",
                model_loss,
                choose_command,
            )
        )
    for pair in pairs[:1]:
        first, second = pair.labels
        actions.append(
            Action(
                f"Look at {first} and {second}",
                f"Errors between these two: {pair.photos} of {accuracy.total - accuracy.right}. "
                "Correct labels, and add photos that show the difference. The gain is that of "
                "half as many.",
                _CONFUSION_SHARE * 100 * pair.photos / accuracy.total,
                labels=pair.labels,
            )
        )
    worthwhile = [action for action in actions if action.gain is None or action.gain >= _LEAST_GAIN]
    # Sorting is stable: findings whose gain is not known come last, in the doctor's order.
    worthwhile.sort(key=lambda action: -action.points)
    chosen = sorted(worthwhile, key=lambda action: not action.is_certain)[:MAX_ACTIONS]
    return sorted(chosen, key=lambda action: -action.points)


def _is_action(finding: Finding) -> bool:
    """Return whether following a finding's advice can change the network or its measured accuracy.

    Setting aside exact copies in a class changes neither: they are used once anyway.
    """
    may_gain = bool(finding.gain or finding.suggested) and finding.kind != "exact-copy"
    return may_gain or _is_certain(finding)


def _is_certain(finding: Finding) -> bool:
    """Return whether a fault is certain: labels, or the measured accuracy, are wrong by it."""
    return finding.kind == "copy-across-classes" or finding.inflation is not None


def _mend(index: int, finding: Finding, gain: float | None) -> Action:
    """Return the action that a finding advises; that of a certain fault has its reason too."""
    reason, is_certain = finding.remedy, _is_certain(finding)
    if is_certain:
        reason = f"{finding.reason} {finding.remedy}"
        gain = gain if gain and gain >= _LEAST_GAIN else None
    return Action(
        finding.title,
        reason,
        gain,
        finding.command,
        index,
        inflation=finding.inflation,
        is_certain=is_certain,
    )


def _gain(finding: Finding, photos: int, errors: float) -> float | None:
    """Return the gain to expect of a finding; None if the test photos have no error to show it.

    A share of wrong labels makes at least as many test photos count as errors, and teaches others.
    """
    gain = finding.gain
    if gain is None and finding.kind == "wrong-label":
        gain = 100 * finding.suggested / photos
    return None if gain is None else min(gain, errors) or None


def _more_photos(curve: LearningCurve, tested: int, wrong: Mapping[str, int]) -> list[Action]:
    """Return the action to photograph the classes that gain most by twice as many photos."""
    held_out = sum(curve.held_out)
    gains = []
    for label, photos, gain in zip(
        curve.labels, curve.held_out, curve.gains_with_twice(), strict=True
    ):
        if gain is not None:
            share = min(gain * photos / held_out, wrong.get(label, 0) / tested)
            gains.append((100 * share, label))
    best = [(gain, label) for gain, label in sorted(gains, reverse=True) if gain > 0][:_MAX_CLASSES]
    if not best:
        return []
    labels = tuple(label for _, label in best)
    return [
        Action(
            f"Take twice as many photos of {' and '.join(labels)}",
            "The learning curve below still rises, most for these; other backgrounds, light and "
            "distances help more than further photos of the same moments.",
            sum(gain for gain, _ in best),
            labels=labels,
        )
    ]


def when_to_stop(
    accuracy: Accuracy, actions: Sequence[Action], model_loss: float | None
) -> tuple[bool, str]:
    """Return whether what is left is within the interval, and that in words.

    Together the actions promise at most the errors of the graph and what its model loses. There is
    no stopping while the accuracy is too good.
    """
    inflation = max((action.inflation or 0.0 for action in actions), default=0.0)
    if inflation:
        return False, (
            f"Go on. The accuracy is about {inflation:.1f} points too good: mend that first. Until "
            "then nothing else can be measured."
        )
    low, high = accuracy.interval
    half = 50 * (high - low)
    most = 100 * (1 - accuracy.value) + max(0.0, model_loss or 0.0)
    left = min(most, sum(action.gain or 0 for action in actions))
    promise = (
        f"this action promises about {left:.1f}"
        if len(actions) == 1
        else f"these actions together promise about {left:.1f}"
    )
    tell = "tells" if accuracy.total == 1 else "tell"
    measure = (
        f"{with_noun(accuracy.total, 'test photo')} {tell} accuracies apart that differ by more "
        f"than about {half:.1f} points"
    )
    if left <= half:
        return True, (
            f"You may stop here. {measure}, and {promise}: "
            "whether that helped could not be seen. To go on, add test photos first."
        )
    return False, (
        f"Go on. {measure}, and {promise}. Stop when what is promised is less than that."
    )
