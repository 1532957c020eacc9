"""Every option of `retrain train` changes what it should change, and only that."""

import json

import numpy as np
import pytest

from deploy.system.counts import with_noun
from retrain.data import split
from tests.helpers.photos import LABELS
from tests.helpers.runs import STEPS, Run, Train


@pytest.fixture(scope="module")
def untrained(train: Train) -> Run:
    """Return a run that learned next to nothing, and so has photos that it gets wrong."""
    return train("--learning_rate", 1e-6, "--testing_percentage", 40, "--validation_batch_size", 1)


def test_steps_rate_and_interval(train: Train, base: Run) -> None:
    run = train("--how_many_training_steps", 60, "--learning_rate", 0.5, "--eval_step_interval", 8)
    rates = run.curve("learning_rate")
    ends_of_rounds = range(2, 60, 3)
    assert list(rates) == sorted({*range(0, 60, 8), *ends_of_rounds})
    assert float(rates[0]) == 0.5
    usual = base.curve("learning_rate")
    assert float(usual[0]) == np.float32(0.01)
    assert set(usual) == {*range(0, STEPS, 10), *range(1, STEPS, 2)}


def test_the_classics_optimizer_keeps_its_rate(train: Train, base: Run) -> None:
    sgd = [float(rate) for rate in train("--optimizer", "sgd").curve("learning_rate").values()]
    assert set(sgd) == {np.float32(0.01)}
    falling = [float(rate) for rate in base.curve("learning_rate").values()]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.001


def test_a_batch_has_the_photos_asked_for(train: Train, base: Run) -> None:
    def sizes(run: Run) -> set[float]:
        return {found[:, 2].sum() for found in run.curve("final_layer/logits").values()}

    assert sizes(train("--train_batch_size", 7)) == {7 * len(LABELS)}
    assert sizes(base) == {100 * len(LABELS)}


def test_validation_looks_at_as_many_as_asked_for(train: Train, untrained: Run) -> None:
    def parts(run: Run, whole: int) -> bool:
        """Return whether each accuracy is a number of `whole` ones."""
        shares = np.array(list(run.curve("accuracy", "validation").values())) * whole
        return bool(np.allclose(shares, np.rint(shares), atol=1e-3))

    run = train("--learning_rate", 1e-6, "--validation_batch_size", -1)
    count = run.metrics["split"]["validation"]
    assert 100 % count
    assert parts(run, count)
    assert not parts(run, 1)
    assert parts(untrained, 1)
    usual = train("--learning_rate", 1e-6)  # 100, of which there are not so many
    assert parts(usual, count)


def test_testing_looks_at_as_many_as_asked_for(train: Train, base: Run) -> None:
    found = train("--test_batch_size", 3).metrics
    assert found["test"]["total"] == np.sum(found["test"]["confusion_matrix"]) == 3
    assert found["split"] == base.metrics["split"]
    assert base.metrics["test"]["total"] == base.metrics["split"]["testing"] > 3


def test_shares_and_salt_decide_the_split(train: Train, base: Run) -> None:
    for large, small in (("testing", "validation"), ("validation", "testing")):
        run = train(f"--{large}_percentage", 45, f"--{small}_percentage", 5)
        found = run.metrics["split"]
        assert found[large] > 20 > 10 > found[small]
    assert max(base.metrics["split"][name] for name in ("testing", "validation")) < 15
    salted = train("--split-salt", "another")
    assert set(salted.splits) == set(base.splits)
    assert salted.splits != base.splits


def test_the_seed_decides_first_weights_and_batches(train: Train, base: Run) -> None:
    np.testing.assert_array_equal(train().weights(), base.weights())
    rate, size = 1e-6, 7
    options = ("--how_many_training_steps", 1, "--learning_rate", rate, "--train_batch_size", size)
    runs = [train("--seed", seed, *options) for seed in (0, 1, 2)]
    assert not np.allclose(runs[0].weights(), runs[1].weights(), atol=1e-4)
    assert all(run.splits == base.splits for run in runs)
    # One step moves the bias, which was 0, by how many photos of a class the batch had.
    counts = [np.rint(run.weights("bias") * size / rate + size / len(LABELS)) for run in runs]
    assert [count.sum() for count in counts] == [size] * 3
    assert len({tuple(count) for count in counts}) > 1


def test_weight_decay_pulls_on_the_weights(train: Train, base: Run) -> None:
    none, usual, ten = (
        float(np.abs(run.weights()).mean())
        for run in (train("--weight-decay", 0), base, train("--weight-decay", 10))
    )
    assert none > usual > 1.5 * ten


def test_label_smoothing_makes_less_sure(train: Train, base: Run) -> None:
    def last(run: Run) -> float:
        return float(run.curve("cross_entropy")[STEPS - 1])

    assert last(train("--label-smoothing", 0.8)) > last(base) + 0.3


def test_class_weight_takes_the_frequencies_out(train: Train, base: Run) -> None:
    balanced = train("--class-weight", "balanced")
    np.testing.assert_array_equal(balanced.weights("best_weights"), base.weights("best_weights"))
    training = [photo.label for photo, name in base.manifest if name == split.TRAINING]
    shares = np.array([training.count(label) for label in LABELS]) / len(training)
    assert len(set(shares)) > 1
    prior = base.weights("best_bias") - balanced.weights("best_bias")
    np.testing.assert_allclose(prior, np.log(shares * len(LABELS)), atol=1e-5)


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stop_waits_so_many_rounds(patience: int, train: Train) -> None:
    run = train("--early-stop", patience, "--learning_rate", 5)
    step = int(run.weights("step"))
    assert step < STEPS
    assert run.weights("rounds_since") == patience
    rounds = with_noun(patience, "round")
    assert f"stopped at step {step}: {rounds} without better weights\n" in run.result.stderr


def test_no_early_stop_by_itself(train: Train) -> None:
    assert train("--learning_rate", 5).weights("step") == STEPS


def test_misclassified_photos_are_printed_if_asked_for(train: Train, untrained: Run) -> None:
    options = ("--learning_rate", 1e-6, "--testing_percentage", 40)
    run = train(*options, "--print_misclassified_test_images")
    wrong = [each["path"] for each in run.metrics["test"]["misclassified"]]
    lines = run.result.stderr.splitlines()
    start = lines.index(f"{len(wrong)} misclassified test photos:")
    assert len(wrong) > 3
    for path, line in zip(wrong, lines[start + 1 :], strict=False):
        assert line.startswith(f"  {path}: ")
    assert untrained.metrics["test"]["misclassified"]
    assert "misclassified" not in untrained.result.stderr


def test_json_is_one_object_on_stdout(train: Train, base: Run) -> None:
    run = train("--json")
    assert json.loads(run.result.stdout) == run.metrics
    assert base.result.stdout.startswith("Final test accuracy = ")
