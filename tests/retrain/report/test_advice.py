"""Test what the report advises: the order of the actions, and when to stop."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from retrain.doctor.finding import Finding, FindingPhoto
from retrain.metrics import Accuracy
from retrain.report.advice import Action, ConfusedPair, advise, when_to_stop
from retrain.report.learning_curve import LearningCurve, LearningPoint

PHOTO = FindingPhoto(Path("a/1.jpg"), "a", "looks like b")
CURVE = LearningCurve(
    "",
    ("a", "b"),
    (50, 50),
    tuple(LearningPoint(n, (20 * (n / 10) ** -0.5, 10 * (n / 10) ** -0.5)) for n in (10, 40, 100)),
)
WRONG = {"a": 14, "b": 6}


def finding(kind: str, suggested: int, gain: float | None = None, photos: int = 1) -> Finding:
    return Finding(
        kind, f"Title of {kind}", "why", "remedy", (PHOTO,) * photos, "do", suggested, gain
    )


def test_the_actions_with_the_most_expected_gain_come_first() -> None:
    findings = [finding("near-copy", 3), finding("wrong-label", 40, photos=60)]
    pairs = [ConfusedPair(("a", "b"), 6)]
    actions = advise(
        Accuracy(80, 100), 1000, findings, CURVE, pairs, WRONG, 1.5, "choose", "retrain train x"
    )
    assert [(action.title.split()[0], action.gain) for action in actions] == [
        ("Fine-tune", pytest.approx(5.0)),  # a quarter of 20 points
        ("Title", 4.0),  # 40 of 1000 labels are wrong
        ("Look", 3.0),  # half of 6 photos of 100
    ]
    assert actions[1].finding == 1
    assert actions[0].command == "retrain train x"


def test_more_photos_are_asked_of_the_classes_that_gain() -> None:
    (action,) = advise(Accuracy(90, 100), 1000, (), CURVE, (), WRONG, 0.0, "choose", None)
    assert action.labels == ("a", "b")
    now, later = 30 * 10**-0.5, 30 * 20**-0.5
    assert action.gain == pytest.approx(now - later, rel=0.05)


def test_no_action_promises_more_than_the_test_photos_lack() -> None:
    findings = [finding("wrong-label", 40, photos=60)]
    more = partial(advise, photos=1000, curve=CURVE, pairs=(), model_loss=0.0)
    # Of 1 error, that of a photo of b, no more than 1 point can come back.
    (labels, photos) = more(
        Accuracy(99, 100),
        findings=findings,
        wrong={"b": 1},
        choose_command="choose",
        fine_tune_command=None,
    )
    assert labels.gain == pytest.approx(1.0)
    assert photos.labels == ("b",)
    assert photos.gain == pytest.approx(0.9, abs=0.1)
    # Without an error the wrong labels are still wrong, and more photos bring nothing.
    (labels,) = more(
        Accuracy(4, 4), findings=findings, wrong={}, choose_command="choose", fine_tune_command=None
    )
    assert labels.gain is None
    # Together they promise no more than there is, in the graph and in its model.
    actions = [Action("a", "", 2.0), Action("b", "", 3.0)]
    assert "promise about 2.5" in when_to_stop(Accuracy(980, 1000), actions, 0.5)[1]


def test_findings_without_a_known_gain_come_last_and_those_without_photos_not_at_all() -> None:
    findings = [
        finding("near-copy", 3),
        finding("exact-copy", 3),
        finding("few-photos", 0, photos=0),
        finding("overlap", 0),
        finding("background", 0, 0.5),
    ]
    actions = advise(Accuracy(99, 100), 1000, findings, None, (), {}, None, "choose", None)
    assert [action.finding for action in actions] == [4, 0]


def test_an_accuracy_that_is_too_good_and_pictures_in_two_classes_have_a_place() -> None:
    inflating = replace(finding("copy-across-splits", 2), inflation=2.5)
    findings = [
        finding("near-copy", 3),
        finding("copy-across-classes", 0),  # exact ones, which are left out
        inflating,
        finding("wrong-label", 40),
    ]
    more = partial(advise, curve=None, pairs=(), wrong={}, model_loss=1.5, choose_command="choose")
    advised = partial(more, Accuracy(80, 100), 1000, fine_tune_command="retrain train x")
    actions = advised(findings)
    assert [(action.finding, action.gain) for action in actions] == [
        (None, pytest.approx(5.0)),  # fine-tuning
        (2, None),
        (1, None),
    ]
    assert actions[1].inflation == 2.5
    assert actions[1].reason.startswith("why"), "no gain says why it matters"
    may_stop, text = when_to_stop(Accuracy(8, 10), actions, None)
    assert not may_stop
    assert "2.5 points too good" in text
    near, rare = (replace(findings[1], gain=gain) for gain in (6.0, 0.01))
    assert (advised([near])[0].finding, advised([near])[0].gain) == (0, 6.0)
    assert (advised([rare])[-1].finding, advised([rare])[-1].gain) == (0, None)


def test_an_action_of_next_to_no_gain_is_not_named() -> None:
    assert not advise(Accuracy(100, 100), 1000, (), None, (), {}, -0.5, "choose", "retrain train x")


def test_stop_where_what_is_left_is_within_the_interval() -> None:
    actions = [Action("a", "", 2.0), Action("b", "", 1.0), Action("c", "", None)]
    may_stop, text = when_to_stop(Accuracy(92, 100), actions, None)
    assert may_stop
    assert "promise about 3.0" in text
    assert "5.4 points" in text
    may_stop, text = when_to_stop(Accuracy(9200, 10000), actions, None)
    assert not may_stop
    assert "0.5 points" in text
