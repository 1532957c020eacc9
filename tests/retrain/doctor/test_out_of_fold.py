"""A photo is predicted by a head that saw neither it nor other shots of the same thing."""

import numpy as np

from retrain.doctor.out_of_fold import all_examples, divide, judged, predict
from retrain.training.head import Floats, Ints
from retrain.training.load_examples import TrainingData
from tests.helpers.doctor_fixtures import clusters, training_data


def predicted_by(data: TrainingData, left_out: Ints | None = None) -> Floats:
    examples = all_examples(data)
    folds = divide(data.dataset.photos, examples.labels)
    return predict(folds, examples, len(data.labels), left_out)


def accuracy(points: np.ndarray, labels: np.ndarray, names: list[str]) -> float:
    data = training_data(points, [str(label) for label in labels], names)
    return float(np.mean(predicted_by(data).argmax(axis=1) == labels))


def test_photos_of_all_splits_are_in_the_order_of_the_data_set() -> None:
    points, labels = clusters((20, 30), apart=3)
    data = training_data(points, [str(label) for label in labels])
    examples = all_examples(data)
    assert np.array_equal(examples.labels, labels)
    assert np.allclose(examples.store.take(examples.rows[:, 0]), points, atol=0.01)


def test_what_can_be_learned_is_predicted() -> None:
    points, labels = clusters((40, 40, 40), apart=8)
    assert accuracy(points, labels, []) == 1


def test_no_photo_helps_to_predict_itself_or_a_shot_of_the_same_thing() -> None:
    random = np.random.default_rng(0)
    points = np.repeat(random.normal(size=(100, 400)), 2, axis=0)
    labels = np.repeat(random.integers(2, size=100), 2)
    shots = [f"thing{number // 2}_nohash_{number % 2}.jpg" for number in range(200)]
    assert accuracy(points, labels, []) > 0.8, "a twin in another fold gives the label away"
    assert accuracy(points, labels, shots) < 0.65


def test_nothing_is_learned_from_photos_that_are_left_out() -> None:
    """Ten dogs are like the cats: heads that do not learn from them take them for cats."""
    points, labels = clusters((20, 20), apart=8)
    labels[:10] = 1
    data = training_data(points, [str(label) for label in labels])
    learned = predicted_by(data)
    left_out = predicted_by(data, np.arange(10))
    assert learned[:20, 0].mean() < 0.5
    assert left_out[:20, 0].min() > 0.5


def test_a_class_of_one_photo_is_improbable_for_that_photo() -> None:
    points, labels = clusters((30, 30, 1), apart=8)
    data = training_data(points, [str(label) for label in labels])
    probabilities = predicted_by(data)
    assert probabilities[-1, 2] == 0
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_photos_of_a_class_that_is_kept_together_are_not_judged() -> None:
    points, labels = clusters((20, 20, 12, 2), apart=8)
    names = [f"{number}.jpg" for number in range(54)]
    names[40:52] = [f"cup_nohash_{number}.jpg" for number in range(12)]
    data = training_data(points, [str(label) for label in labels], names)
    assert judged(divide(data.dataset.photos, labels), labels).tolist() == [*range(40), 52, 53]


def test_a_class_that_is_left_out_but_for_one_fifth_is_learned_all_the_same() -> None:
    points, labels = clusters((20, 20, 12), apart=8)
    names = [f"{number}.jpg" for number in range(40)]
    names += [f"cup{number // 6}_nohash_{number}.jpg" for number in range(12)]
    data = training_data(points, [str(label) for label in labels], names)
    probabilities = predicted_by(data, np.arange(40, 46))
    assert probabilities[46:, 2].min() > 0.2
