"""Test checkpoints: they come back as written, and a damaged or foreign one is refused."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.errors import BadData
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.photo import Photo
from retrain.settings.source import Source
from retrain.settings.training import Distortion, HeadSettings, TrainSettings
from retrain.training.checkpoint import Checkpoint, read_checkpoint, run_key, write_checkpoint
from retrain.training.fit_head import fit_head
from retrain.training.head import Examples, Head

BEFORE = Path(__file__).parents[2] / "formats" / "training" / "before_issue_16"
"""Files that the version before issue 16 wrote of the run that SETTINGS to `examples` describe."""
SETTINGS = TrainSettings(
    Source(Path("photos"), cache_dir=Path("cache")), head=HeadSettings(40, seed=3)
)
FINGERPRINT = "of the backbone"
COUNT = 30
LABELS = ("none", "unknown", "training")
PHOTOS = tuple(
    Photo(Path(f"photos/{i}.png"), LABELS[i % 3], hashlib.sha256(bytes([i])).digest())
    for i in range(COUNT)
)
SPLITS = tuple(("training", "validation", "testing")[i % 3] for i in range(COUNT))
KEY = run_key(SETTINGS, FINGERPRINT, PHOTOS, SPLITS)


@pytest.fixture(scope="module")
def examples() -> Examples:
    labels = np.arange(COUNT) % 3
    values = np.arange(COUNT * 4).reshape(COUNT, 4) * 37 % 101 / 100 + np.eye(3, 4)[labels]
    return Examples(FeatureStore.of(values), np.arange(COUNT)[:, np.newaxis], labels)


def test_a_run_killed_before_issue_16_resumes_to_the_same_weights(examples: Examples) -> None:
    checkpoint = read_checkpoint(BEFORE / "checkpoint.npz", KEY)
    end = read_checkpoint(BEFORE / "last_checkpoint.npz", KEY)
    assert checkpoint is not None
    assert end is not None
    assert (checkpoint.step, end.step) == (10, 40)
    *_, last = fit_head(examples, examples, 3, SETTINGS.head, checkpoint)
    assert last.checkpoint is not None
    assert last.checkpoint.step == end.step
    assert last.checkpoint.best_cross_entropy == pytest.approx(end.best_cross_entropy, rel=1e-5)
    np.testing.assert_allclose(last.checkpoint.best.weights, end.best.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last.checkpoint.head.bias, end.head.bias, rtol=1e-4, atol=1e-6)


def checkpoint_of(width: int = 1280) -> Checkpoint:
    random = np.random.default_rng(0)
    heads = [
        Head(random.normal(size=(width, 5)).astype(np.float32), np.ones(5, np.float32))
        for _ in range(2)
    ]
    return Checkpoint(7, heads[0], heads[1], 0.1, 2)


def test_a_checkpoint_comes_back_as_written(tmp_path: Path) -> None:
    path, expected = tmp_path / "new" / "checkpoint.npz", checkpoint_of()
    write_checkpoint(path, expected, "żółw ☀")
    checkpoint = read_checkpoint(path, "żółw ☀")
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.rounds_since_best) == (7, 2)
    assert checkpoint.best_cross_entropy == 0.1
    for head, expected_head in (
        (checkpoint.head, expected.head),
        (checkpoint.best, expected.best),
    ):
        assert head.weights.dtype == head.bias.dtype == np.float32
        np.testing.assert_array_equal(head.weights, expected_head.weights)
        np.testing.assert_array_equal(head.bias, expected_head.bias)
    assert read_checkpoint(tmp_path / "none.npz", "żółw ☀") is None


def test_a_flipped_bit_is_refused_or_of_no_weight() -> None:
    content = checkpoint_of().to_bytes("mine")
    weights = content.index(b"\x93NUMPY", content.index(b"weights.npy"))
    for place in (*range(weights, weights + 128), *range(0, len(content), 997)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            try:
                key, checkpoint = Checkpoint.from_bytes(bytes(flipped))
            except ValueError:
                continue
            assert checkpoint.to_bytes(key) == content, (place, bit)


def npz(**members: object) -> bytes:
    content = io.BytesIO()
    np.savez(content, **members)  # type: ignore[arg-type]
    return content.getvalue()


def signed(**changes: object) -> bytes:
    """Return the bytes of a checkpoint with some members changed or added, and the right digest."""
    with np.load(io.BytesIO(checkpoint_of(2).to_bytes(KEY)[:-32])) as members:
        content = npz(**{**members, **changes})
    return content + hashlib.sha256(content).digest()


def refusal(path: Path, content: bytes) -> str:
    """Return the message that refuses the checkpoint `content`."""
    path.write_bytes(content)
    with pytest.raises(BadData) as error:
        read_checkpoint(path, KEY)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(": leave out `resume` to train anew")
    return message


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
        lambda _: b"step 400\n",
        lambda _: npz(weights=np.zeros((3, 2))),
        lambda _: npz(key=np.array([{"a": "pickle"}], object)),
        lambda _: npz(**dict.fromkeys(("key", "step", "weights", "bias"), "words")),
    ],
    ids=["empty", "half", "cut", "flipped", "text", "foreign", "pickle", "words"],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    content = damage(checkpoint_of().to_bytes(KEY))
    assert "not a checkpoint, or damaged" in refusal(tmp_path / "checkpoint.npz", content)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"cannot be read .*: leave out `resume` to train anew"):
        read_checkpoint(tmp_path, KEY)


def test_unknown_members_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(signed(schema=5, note="of a later version", min_reader=1))
    checkpoint = read_checkpoint(path, KEY)
    assert checkpoint is not None
    assert checkpoint.step == 7


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"min_reader": 2}, "needs a reader of version 2"),
        ({"min_reader": "new"}, "min_reader has another type"),
        ({"step": "seven"}, "step has another type"),
        ({"step": np.array([7, 8])}, "step has another type"),
        ({"step": 7.0}, "step has another type"),
        ({"key": 7}, "key has another type"),
        ({"best_cross_entropy": "low"}, "best_cross_entropy has another type"),
        ({"weights": np.zeros((2, 5))}, "do not fit each other"),
        ({"curve": np.zeros((3, 4))}, "curve has another type"),
        ({"curve": np.zeros((3, 5), np.float32)}, "curve has another type"),
        ({"curve": np.full((3, 5), np.inf)}, "curve has a step that is no number"),
        ({"bias": np.zeros(4, np.float32)}, "do not fit each other"),
        ({"best_weights": np.zeros((3, 5), np.float32)}, "do not fit each other"),
        ({"best_bias": np.zeros(4, np.float32)}, "do not fit each other"),
    ],
)
def test_a_member_of_another_type_or_version_is_refused(
    change: dict[str, object], problem: str, tmp_path: Path
) -> None:
    assert problem in refusal(tmp_path / "checkpoint.npz", signed(**change))


def another_photo(**changes: object) -> tuple[Photo, ...]:
    return (replace(PHOTOS[0], **changes), *PHOTOS[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, head=replace(SETTINGS.head, how_many_training_steps=41)),
        replace(SETTINGS, head=replace(SETTINGS.head, learning_rate=0.02)),
        replace(SETTINGS, head=replace(SETTINGS.head, optimizer="sgd")),
        replace(SETTINGS, head=replace(SETTINGS.head, weight_decay=0.2)),
        replace(SETTINGS, head=replace(SETTINGS.head, class_weight="balanced")),
        replace(SETTINGS, head=replace(SETTINGS.head, seed=1)),
        replace(SETTINGS, distortion=Distortion(flip_left_right=True)),
        replace(SETTINGS, distortion=Distortion(random_contrast=1)),
        replace(SETTINGS, distortion=Distortion(random_saturation=1)),
        replace(SETTINGS, views=1),
    ],
)
def test_other_settings_give_another_key(settings: TrainSettings) -> None:
    assert run_key(settings, FINGERPRINT, PHOTOS, SPLITS) != KEY


def test_other_photos_splits_or_backbones_give_another_key(tmp_path: Path) -> None:
    keys = {
        KEY,
        run_key(SETTINGS, "of another backbone", PHOTOS, SPLITS),
        run_key(SETTINGS, FINGERPRINT, another_photo(digest=bytes(32)), SPLITS),
        run_key(SETTINGS, FINGERPRINT, another_photo(label="unknown"), SPLITS),
        run_key(SETTINGS, FINGERPRINT, PHOTOS, ("testing", *SPLITS[1:])),
    }
    assert len(keys) == 5
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, checkpoint_of(2), max(keys - {KEY}))
    with pytest.raises(BadData, match="a checkpoint of other settings or photos"):
        read_checkpoint(path, KEY)


def test_the_place_of_photos_and_outputs_does_not_change_the_key() -> None:
    elsewhere = replace(
        SETTINGS, output_dir=Path("elsewhere"), print_misclassified_test_images=True
    )
    photos = another_photo(path=Path("moved/0.png"))
    assert run_key(elsewhere, FINGERPRINT, photos, SPLITS) == KEY
