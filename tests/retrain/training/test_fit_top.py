"""Test fine-tuning on feature maps: it repeats, resumes, averages, stops early, and weighs."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.errors import BadData
from retrain.settings.training import FineTuneSettings, HeadSettings
from retrain.training import fit_top as module
from retrain.training.adamw import AdamW
from retrain.training.checkpoint import Array, pack, read_members, unpack
from retrain.training.fit_top import EpochReport, FineTuneState, fit_top
from retrain.training.head import Examples, Floats
from retrain.training.top import Gradient, Top
from tests.helpers.small_networks import CLASSES, feature_maps, small_head, small_top

FORMATS = Path(__file__).parents[2] / "formats" / "training"
PHOTOS, VIEWS = 21, 3
HEAD = HeadSettings(seed=5)
SETTINGS = FineTuneSettings(epochs=3, train_batch_size=8, learning_rate=0.02)
TRAINING = feature_maps(PHOTOS, VIEWS)
VALIDATION = feature_maps(12, seed=1)


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Top:
    return small_top(tmp_path_factory.mktemp("top"))


def start(top: Top) -> list[Floats]:
    return top.initial(small_head())


def run(
    top: Top,
    settings: FineTuneSettings = SETTINGS,
    head: HeadSettings = HEAD,
    state: FineTuneState | None = None,
) -> Iterator[EpochReport]:
    return fit_top(top, TRAINING, VALIDATION, start(top), head, settings, state)


def result(reports: Iterator[EpochReport]) -> list[bytes]:
    """Return the bytes of the parameters that a training ends with."""
    *_, last = reports
    return [values.tobytes() for values in last.state.average]


def copy(top: Top, state: FineTuneState) -> FineTuneState:
    """Return the state that the bytes of its checkpoint give."""
    key, members = unpack(pack("mine", state.to_members()))
    assert key == "mine"
    return FineTuneState.from_members(members, [values.shape for values in start(top)])


def test_the_network_learns_and_each_epoch_is_reported(top: Top) -> None:
    reports = list(run(top, replace(SETTINGS, epochs=12)))
    assert [(report.run, report.epoch) for report in reports] == [(0, i) for i in range(1, 13)]
    first, last = reports[0], reports[-1]
    assert last.train.cross_entropy < first.train.cross_entropy
    assert last.validation.accuracy == 1 > first.validation.accuracy
    assert last.state.runs == 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(top: Top) -> None:
    expected = result(run(top))
    assert result(run(top)) == expected
    assert result(run(top, head=replace(HEAD, seed=6))) != expected


@pytest.mark.parametrize("early_stop", [0, 2])
def test_training_resumes_after_each_epoch_to_the_same_bytes(top: Top, early_stop: int) -> None:
    settings, head = replace(SETTINGS, average=2), replace(HEAD, early_stop=early_stop)
    expected = result(run(top, settings, head))
    states = [copy(top, report.state) for report in run(top, settings, head)]
    assert len(states) == 6
    assert [state.runs for state in states] == [0, 0, 1, 1, 1, 2]
    for state in states[:-1]:
        assert result(run(top, settings, head, state)) == expected
    assert not list(run(top, settings, head, states[-1]))
    assert [values.tobytes() for values in states[-1].average] == expected


def test_the_average_is_the_mean_of_runs_with_the_seeds_that_follow(top: Top) -> None:
    *_, last = run(top, replace(SETTINGS, average=3))
    single = [list(run(top, head=replace(HEAD, seed=5 + i)))[-1].state.average for i in range(3)]
    assert not np.array_equal(single[0][0], single[1][0])
    for values, *each_run in zip(last.state.average, *single, strict=True):
        np.testing.assert_allclose(values, np.mean(each_run, axis=0), rtol=1e-5, atol=1e-6)


def test_a_finished_run_goes_on_to_a_higher_average(top: Top) -> None:
    *_, one = run(top)
    twice = replace(SETTINGS, average=2)
    assert result(run(top, twice, state=copy(top, one.state))) == result(run(top, twice))


def test_training_leaves_its_start_unchanged(top: Top) -> None:
    parameters = start(top)
    before = [values.copy() for values in parameters]
    list(fit_top(top, TRAINING, VALIDATION, parameters, replace(HEAD, early_stop=1), SETTINGS))
    for values, expected in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_early_stop_ends_with_the_best_parameters(
    top: Top, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.4, 0.6, 0.7, 9.0])
    monkeypatch.setattr(module, "calibrated_cross_entropies", lambda *_: np.array([next(losses)]))
    copies = []
    settings, head = replace(SETTINGS, epochs=10), replace(HEAD, early_stop=2)
    for report in run(top, settings, head):
        copies.append(copy(top, report.state).optimizer.parameters)
    assert report.epoch == 4
    assert report.state.runs == 1
    for values, expected in zip(report.state.average, copies[1], strict=True):
        np.testing.assert_array_equal(values, expected)


class Recorder:
    """Take the place of a top, whose gradients it records and returns as zeros."""

    def __init__(self, top: Top) -> None:
        self.top = top
        self.rows: list[list[int]] = []
        self.targets: list[Floats] = []
        self.offsets: list[Floats] = []
        self.run_all = top.run_all
        self.logits_of = top.logits_of
        self.rounded = top.rounded

    def gradient(
        self, _store: object, rows: Array, targets: Floats, offset: Floats, parameters: list[Floats]
    ) -> Gradient:
        """Return logits and gradients of zeros."""
        self.rows.append(rows.tolist())
        self.targets.append(targets)
        self.offsets.append(offset)
        zeros = [np.zeros_like(values) for values in parameters]
        return Gradient(np.zeros((len(rows), CLASSES), np.float32), zeros)


def record(
    top: Top, settings: FineTuneSettings, head: HeadSettings = HEAD, training: Examples = TRAINING
) -> Recorder:
    recorder = Recorder(top)
    stand_in: Any = recorder
    list(fit_top(stand_in, training, VALIDATION, start(top), head, settings))
    return recorder


def test_each_epoch_shows_every_photo_once_and_each_view_in_turn(top: Top) -> None:
    recorder = record(top, replace(SETTINGS, epochs=2 * VIEWS))
    batches = math.ceil(PHOTOS / SETTINGS.train_batch_size)
    assert len(recorder.rows) == 2 * VIEWS * batches
    assert {len(rows) for rows in recorder.rows} == {7}
    epochs = [
        np.concatenate(recorder.rows[i : i + batches])
        for i in range(0, len(recorder.rows), batches)
    ]
    orders = {tuple(rows // VIEWS) for rows in epochs}
    assert len(orders) == 2 * VIEWS
    views = np.empty((2 * VIEWS, PHOTOS), int)
    for epoch, rows in enumerate(epochs):
        views[epoch, rows // VIEWS] = rows % VIEWS
        assert sorted(rows // VIEWS) == list(range(PHOTOS))
    assert (np.sort(views[:VIEWS], axis=0) == np.arange(VIEWS)[:, np.newaxis]).all()
    assert (views[:VIEWS] == views[VIEWS:]).all()
    assert len({*views[0]}) == VIEWS  # not all photos show the same view


def test_targets_are_smoothed(top: Top) -> None:
    (targets,) = record(top, replace(SETTINGS, epochs=1, train_batch_size=99)).targets
    assert np.unique(targets).tolist() == pytest.approx([0.1 / 3, 0.9 + 0.1 / 3])
    (targets,) = record(
        top, replace(SETTINGS, epochs=1, train_batch_size=99, label_smoothing=0)
    ).targets
    assert np.unique(targets).tolist() == [0, 1]


def test_balanced_classes_train_with_their_frequencies_in_the_logits(top: Top) -> None:
    few = TRAINING._replace(rows=TRAINING.rows[:7], labels=np.array([0, 0, 0, 0, 1, 1, 2]))
    once = replace(SETTINGS, epochs=1)
    for offset in record(top, once, training=few).offsets:
        np.testing.assert_array_equal(offset, 0)
    balanced = record(top, once, replace(HEAD, class_weight="balanced"), few)
    for offset in balanced.offsets:
        np.testing.assert_allclose(offset, np.log(np.array([4, 2, 1]) * 3 / 7), rtol=1e-6)


def test_balanced_training_favours_rare_classes(top: Top) -> None:
    members = np.concatenate([np.arange(0, PHOTOS, 3), [1, 2]])  # of class 0, one of each other
    uneven = TRAINING._replace(rows=TRAINING.rows[members], labels=TRAINING.labels[members])
    rare = []
    for class_weight in ("none", "balanced"):
        head = replace(HEAD, class_weight=class_weight)
        *_, last = fit_top(top, uneven, VALIDATION, start(top), head, SETTINGS)
        logits = top.logits_of(VALIDATION, last.state.average)
        rare.append(float((logits[:, 1:].mean(axis=1) - logits[:, 0]).mean()))
    assert rare[1] > rare[0] + 0.1


def test_the_rate_rises_for_a_tenth_and_falls_along_a_cosine_to_zero() -> None:
    steps = 200
    factors = np.array([module._rate_factor(step, steps) for step in range(steps)])
    np.testing.assert_allclose(factors[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(
        factors[20:], 0.5 * (1 + np.cos(np.pi * np.arange(180) / 180)), rtol=1e-12
    )
    assert 0 < factors[-1] < 1e-3
    assert [module._rate_factor(step, 1) for step in range(1)] == [1]
    assert min(module._rate_factor(step, 2) for step in range(2)) > 0


def test_the_head_learns_at_three_times_the_rate(top: Top, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Sequence[float]] = []
    update = AdamW.update

    def spy(self: Any, gradients: Any, rates: Sequence[float], *more: Any) -> None:
        calls.append(rates)
        update(self, gradients, rates, *more)

    monkeypatch.setattr(AdamW, "update", spy)
    reports = list(run(top, replace(SETTINGS, epochs=1)))
    assert len(calls) == 3
    for rates in calls:
        assert len({*rates[:-2]}) == 1
        assert rates[-2:] == [3 * rates[0]] * 2
    assert reports[0].learning_rate == calls[-1][0] <= SETTINGS.learning_rate


@pytest.mark.parametrize("early_stop", [0, 3])
@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_divergence_is_an_error_at_once(top: Top, early_stop: int, rate: float) -> None:
    settings, head = replace(SETTINGS, learning_rate=rate), replace(HEAD, early_stop=early_stop)
    with (
        np.errstate(all="ignore"),
        pytest.raises(BadData, match=r"fine-tuning diverged.*: lower `learning_rate`"),
    ):
        next(run(top, settings, head))


def refusal(path: Path, content: bytes, top: Top) -> str:
    """Return the message that refuses the checkpoint `content` of the run "mine"."""
    path.write_bytes(content)
    shapes = [values.shape for values in start(top)]
    with pytest.raises(BadData) as error:
        read_members(path, "mine", lambda members: FineTuneState.from_members(members, shapes))
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(": leave out `resume` to train anew")
    return message


def members_of(top: Top) -> dict[str, Any]:
    return FineTuneState.start(start(top)).to_members()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: content[:-1], "not a checkpoint, or damaged"),
        (lambda content: content[: len(content) // 2], "not a checkpoint, or damaged"),
        (lambda content: bytes([*content[:900], content[900] ^ 1, *content[901:]]), "damaged"),
        (lambda _: b"", "not a checkpoint, or damaged"),
    ],
    ids=["cut", "half", "flipped", "empty"],
)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[bytes], bytes], problem: str, top: Top, tmp_path: Path
) -> None:
    content = damage(pack("mine", members_of(top)))
    assert problem in refusal(tmp_path / "checkpoint.npz", content, top)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"means/0": np.zeros((2, 2), np.float32)}, "means do not fit the network"),
        ({"best/1": np.zeros(6)}, "best do not fit the network"),
        ({"total/7": None}, "total do not fit the network"),
        ({"epoch": 1.5}, "epoch has another type"),
        ({"steps": None}, "steps has another type"),
        ({"best_cross_entropy": 3}, "best_cross_entropy has another type"),
        ({"min_reader": 2}, "it needs a reader of version 2"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    change: Mapping[str, Any], problem: str, top: Top, tmp_path: Path
) -> None:
    members = {**members_of(top), **change}
    content = pack("mine", {name: value for name, value in members.items() if value is not None})
    assert problem in refusal(tmp_path / "checkpoint.npz", content, top)


def test_a_checkpoint_of_another_run_is_refused(top: Top, tmp_path: Path) -> None:
    message = refusal(tmp_path / "checkpoint.npz", pack("another", members_of(top)), top)
    assert "a checkpoint of other settings or photos" in message


def test_a_checkpoint_of_the_first_version_resumes(top: Top, tmp_path: Path) -> None:
    first_file = FORMATS / "fine_tuning_first" / "checkpoint_fine_tuning.npz"
    path = tmp_path / first_file.name
    shutil.copy(first_file, path)
    shapes = [values.shape for values in start(top)]
    state = read_members(path, "mine", lambda members: FineTuneState.from_members(members, shapes))
    assert state is not None
    assert (state.runs, state.epoch, state.optimizer.steps) == (1, 2, 6)
    settings = replace(SETTINGS, average=2)
    *_, expected = run(top, settings)
    *_, last = run(top, settings, state=state)
    assert last.state.runs == 2
    # The first version did not round the kernels of this network in its steps.
    for values, reference in zip(last.state.average, expected.state.average, strict=True):
        np.testing.assert_allclose(values, reference, atol=0.05)
