"""Every option of `retrain train`: understood as typed, and it changes what it should change."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result
from conftest import LABELS, Invoke
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from retrain import backbones, split
from retrain.cli.train import train as command
from retrain.config import Source, TrainConfig
from retrain.dataset import read_manifest
from retrain.progress import Progress

STEPS = 40

CLASSIC_DEFAULTS = {
    "how_many_training_steps": 4000,
    "learning_rate": 0.01,
    "testing_percentage": 10.0,
    "validation_percentage": 10.0,
    "eval_step_interval": 10,
    "train_batch_size": 100,
    "test_batch_size": -1,
    "validation_batch_size": 100,
    "print_misclassified_test_images": False,
    "final_tensor_name": "final_result",
    "flip_left_right": False,
    "random_crop": 0,
    "random_scale": 0,
    "random_brightness": 0,
    "intermediate_store_frequency": 0,
    "logging_verbosity": "info",
}

SETTINGS = [
    ("--image_dir", "some_photos", "source.image_dir", Path("some_photos")),
    ("--architecture", "other_net", "source.architecture", "other_net"),
    ("--bottleneck_dir", "a_b/c", "source.bottleneck_dir", Path("a_b/c")),
    ("--cache-dir", "a_b/c", "source.cache_dir", Path("a_b/c")),
    ("--output-dir", "a_b/c", "output_dir", Path("a_b/c")),
    ("--output_graph", "a_b/c.pb", "output_graph", Path("a_b/c.pb")),
    ("--output_labels", "a_b/c.txt", "output_labels", Path("a_b/c.txt")),
    ("--summaries_dir", "a_b/c", "summaries_dir", Path("a_b/c")),
    ("--saved_model_dir", "a_b/c", "saved_model_dir", Path("a_b/c")),
    ("--checkpoint_path", "a_b/c", "checkpoint_path", Path("a_b/c")),
    ("--intermediate_output_graphs_dir", "a_b", "intermediate_output_graphs_dir", Path("a_b")),
    ("--intermediate_store_frequency", "7", "head.intermediate_store_frequency", 7),
    ("--how_many_training_steps", "7", "head.how_many_training_steps", 7),
    ("--learning_rate", "0.5", "head.learning_rate", 0.5),
    ("--train_batch_size", "7", "head.train_batch_size", 7),
    ("--validation_batch_size", "-1", "head.validation_batch_size", -1),
    ("--eval_step_interval", "7", "head.eval_step_interval", 7),
    ("--optimizer", "sgd", "head.optimizer", "sgd"),
    ("--weight-decay", "0.5", "head.weight_decay", 0.5),
    ("--label-smoothing", "0.5", "head.label_smoothing", 0.5),
    ("--class-weight", "balanced", "head.class_weight", "balanced"),
    ("--early-stop", "7", "head.early_stop", 7),
    ("--seed", "7", "head.seed", 7),
    ("--testing_percentage", "7.5", "split.testing_percentage", 7.5),
    ("--validation_percentage", "7", "split.validation_percentage", 7.0),
    ("--split-salt", "some_salt", "split.salt", "some_salt"),
    ("--test_batch_size", "7", "test_batch_size", 7),
    ("--flip_left_right", None, "distortion.flip_left_right", True),
    ("--random_crop", "7", "distortion.random_crop", 7),
    ("--random_scale", "7", "distortion.random_scale", 7),
    ("--random_brightness", "7", "distortion.random_brightness", 7),
    ("--views", "7", "views", 7),
    ("--final_tensor_name", "my_result", "final_tensor_name", "my_result"),
    ("--print_misclassified_test_images", None, "print_misclassified_test_images", True),
    ("--resume", None, "resume", True),
    ("--extract-engine", "tensorflow", "source.extract_engine", "tensorflow"),
    ("--weights", "a_b/c.h5", "source.weights", Path("a_b/c.h5")),
]
OWN = {
    "--graph": __file__,
    "--input-tensor": "Mul:0",
    "--bottleneck-tensor": "pool_3/_reshape:0",
    "--input-size": "299",
    "--input-mean": "128",
    "--input-std": "127.5",
}
"""Options of a network of the user's own: all of them hang on the first."""
SHOWN = {"--progress", "--logging-verbosity", "--json"}
"""Options that say how to tell of a run, not what it is."""

USUAL = TrainConfig(Source(Path("photos")))

Asked = Callable[..., TrainConfig]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> Asked:
    """Return what gives the settings that `retrain train` makes of its arguments."""
    seen: list[TrainConfig] = []

    def stand_in(config: TrainConfig, _progress: object) -> dict[str, Any]:
        seen.append(config)
        return {"test": {"right": 1, "total": 1}}

    def ask(*arguments: object) -> TrainConfig:
        result = invoke("train", *arguments)
        assert result.exit_code == 0, result.output
        return seen.pop()

    monkeypatch.setattr("retrain.trainer.train", stand_in)
    monkeypatch.setattr(backbones, "NAMES", (backbones.DEFAULT, "other_net"))
    return ask


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("option", "text", "where", "value"), SETTINGS)
def test_an_option_sets_its_setting_and_no_other(
    option: str, text: str | None, where: str, value: object, joined: bool, asked: Asked
) -> None:
    typed = [option] if text is None else [f"{option}={text}"] if joined else [option, text]
    photos = [] if option == "--image_dir" else ["photos"]
    found = asked(*typed, *photos)
    assert attrgetter(where)(found) == value
    names = [name for _, _, name, _ in SETTINGS]
    assert [name for name in names if attrgetter(name)(found) != attrgetter(name)(USUAL)] == [where]


def test_no_option_is_forgotten_here() -> None:
    there = {option for each in command.params for option in each.opts if option.startswith("--")}
    assert {option.replace("_", "-") for option, *_ in SETTINGS} | SHOWN | {*OWN} == there


def test_a_network_of_ones_own_is_described_in_full(asked: Asked, invoke: Invoke) -> None:
    found = asked("photos", *(word for pair in OWN.items() for word in pair)).source
    assert found.graph == Path(__file__)
    assert (found.input_tensor, found.bottleneck_tensor) == ("Mul:0", "pool_3/_reshape:0")
    assert (found.input_size, found.input_mean, found.input_std) == (299, 128.0, 127.5)
    for option, value in list(OWN.items())[1:]:
        result = invoke("train", "photos", option, value)
        assert result.exit_code == 2
        assert f"{option} is for a network named with --graph" in result.stderr


def test_without_options_the_command_asks_for_what_python_does(asked: Asked) -> None:
    assert asked("photos") == USUAL


@pytest.mark.parametrize(("name", "default"), CLASSIC_DEFAULTS.items())
def test_defaults_are_the_classics_and_shown(
    name: str, default: object, asked: Asked, invoke: Invoke
) -> None:
    found = [where for option, _, where, _ in SETTINGS if option == f"--{name}"]
    assert [attrgetter(where)(asked("photos")) for where in found] == [default] * len(found)
    text = re.sub(r"\s+", " ", invoke("train", "--help").stdout)
    shown = text.split(f" --{name.replace('_', '-')}")[1].split(" --")[0]
    assert re.findall(r"\[default: ([^];]+)", shown) == [str(default)] * (default is not False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--flip_lft_right", "--flip-left-right"),
        ("--learning-rat", "--learning-rate"),
        ("--how_many_trainin_steps=5", "--how-many-training-steps"),
        ("--optimiser", "--optimizer"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(
    typed: str, meant: str, invoke: Invoke
) -> None:
    result = invoke("train", "photos", typed)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr


@pytest.mark.parametrize(
    "typed",
    [
        ("--learning_rate", "nan"),
        ("--testing_percentage", "nan"),
        ("--testing_percentage", "60", "--validation_percentage", "40"),
        ("--test_batch_size", "0"),
        ("--validation_batch_size", "0"),
        ("--random_crop", "101"),
        ("--class-weight", "some"),
        ("--weight-decay", "nan"),
        ("--label-smoothing", "nan"),
        ("--final_tensor_name", "a b"),
        ("--final_tensor_name", "input"),
        ("--final_tensor_name", "logits"),
        ("--saved_model_dir", "run"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(
    typed: tuple[str, ...], tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # There are no such photos: were they looked for first, the exit code would say bad data.
    result = invoke("train", "none", "--output-dir", "run", *typed)
    assert result.exit_code == 2, result.stderr
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Run:
    """A run that is over."""

    folder: Path
    result: Result

    @property
    def metrics(self) -> Any:
        """What metrics.json holds."""
        return json.loads((self.folder / "metrics.json").read_text("utf-8"))

    @property
    def splits(self) -> dict[bytes, str]:
        """The split of each photo, by its digest."""
        manifest = read_manifest(self.folder / "manifest.csv")
        return {photo.digest: name for photo, name in manifest}

    def weights(self, name: str = "weights") -> npt.NDArray[Any]:
        """Return an array of the checkpoint."""
        with np.load(self.folder / "checkpoint.npz") as found:
            return np.asarray(found[name])

    def curve(self, tag: str, side: str = "train") -> dict[int, npt.NDArray[Any]]:
        """Return what TensorBoard has under `tag`, by step."""
        (folder,) = self.folder.glob(f"summaries/*/{side}")
        events = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
        return {event.step: make_ndarray(event.tensor_proto) for event in events}


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def train(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Return what runs `retrain train` for a few steps, in a new folder unless told another."""

    def run(*options: object, source: Path = photos, folder: Path | None = None) -> Run:
        folder = folder or tmp_path_factory.mktemp("run")
        where = ("--cache-dir", cache_dir, "--output-dir", folder)
        result = invoke("train", source, *where, "--how_many_training_steps", STEPS, *options)
        assert result.exit_code == 0, result.output
        return Run(folder, result)

    return run


@pytest.fixture(scope="module")
def base(train: Train) -> Run:
    return train()


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
    usual = train("--learning_rate", 1e-6)
    assert parts(usual, 100)
    assert not parts(usual, count)


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
    manifest = read_manifest(base.folder / "manifest.csv")
    training = [photo.label for photo, name in manifest if name == split.TRAINING]
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
    assert (
        f"stopped at step {step}: {patience} rounds without better weights\n" in run.result.stderr
    )


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


@pytest.mark.parametrize("form", ["auto", "plain"])
def test_a_terminal_gets_a_bar_unless_plain_lines_are_asked_for(
    form: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_terminal(_config: object, progress: Progress) -> dict[str, Any]:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with progress.bar("training", 2, "steps") as advance:
            advance(2)
        return {"test": {"right": 1, "total": 1}}

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("retrain.trainer.train", on_terminal)
    shown = invoke("train", "photos", "--progress", form).stderr
    assert ("2/2 steps (" in shown) == (form == "plain")
    assert "2/2" in shown
