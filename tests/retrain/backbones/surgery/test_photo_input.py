"""Read sides, channels, batch and type of a network's input; refuse what is no photo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.contract import Contract
from deploy.errors import BadData, RetrainError, WrongUse
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from tests.helpers.own_networks import (
    Array,
    define,
    operations,
    original,
    require_same,
    save,
    tf,
    v1,
    values,
)
from tests.helpers.photos import LABELS
from tests.helpers.runs import Invoke

HEIGHT, WIDTH = 24, 32


def network(
    *shape: int | None, dtype: Any = tf.float32, before: Callable[[Any], Any] = tf.identity
) -> Callable[[], None]:
    """Return a network whose input `photo` has `shape`, and its bottleneck `row`."""

    def body() -> None:
        x = before(v1.placeholder(dtype, shape, name="photo"))
        kernel = tf.cast(values(3, 3, x.shape[-1], 6), x.dtype)
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, "SAME"))
        batch = shape[0] or -1
        x = tf.reshape(x, [batch, HEIGHT // 2, WIDTH // 2, 6])
        tf.reduce_mean(x, [1, 2], name="row")

    return body


def load(path: Path, folder: Path, size: Any = None, scale: Any = (128.0, 128.0)) -> Backbone:
    return load_custom(path, Ends("photo", "row", size, *scale), folder)


def noise(low: float = -1.0, high: float = 1.0) -> Array:
    random = np.random.default_rng(0)
    return random.uniform(low, high, (3, HEIGHT, WIDTH, 3)).astype(np.float32)


def test_a_rectangular_network_needs_no_size(tmp_path: Path) -> None:
    path = save(define(network(None, HEIGHT, WIDTH, 3)), tmp_path / "mine.pb")
    backbone = load(path, tmp_path)
    assert (backbone.spec.height, backbone.spec.width) == (HEIGHT, WIDTH)
    require_same(backbone, original(tf_graph.read(path), "photo:0", "row:0", noise()), noise())
    assert load(path, tmp_path, size=(HEIGHT, WIDTH)) == backbone
    for size, words in (((WIDTH, HEIGHT), "32x24"), (HEIGHT, "`input_size` 24 ")):
        with pytest.raises(WrongUse, match=f"{words}.*takes 24x32 only"):
            load(path, tmp_path, size)


def test_a_network_of_any_size_takes_the_size_that_is_typed(tmp_path: Path) -> None:
    path = save(define(network(None, HEIGHT, None, 3)), tmp_path / "mine.pb")
    with pytest.raises(WrongUse, match=r"`input_size` must(.|\n)*`input_size` 24x224"):
        load(path, tmp_path)
    assert load(path, tmp_path, (HEIGHT, WIDTH)).spec.width == WIDTH


@pytest.mark.parametrize(
    ("before", "depth"), [(tf.identity, 1), (lambda x: tf.nn.relu(x + 0.1) * x, 1)]
)
@pytest.mark.parametrize("channels", [1, None])
def test_a_grey_network_takes_rgb_as_pillow_makes_it_grey(
    before: Callable[[Any], Any], depth: int, channels: int | None, tmp_path: Path
) -> None:
    def body() -> None:
        x = v1.placeholder(tf.float32, [None, HEIGHT, WIDTH, channels], name="photo")
        x = tf.nn.conv2d(before(x), values(3, 3, depth, 6), 2, "SAME")
        tf.reduce_mean(tf.nn.relu(x), [1, 2], name="row")

    path = save(define(body), tmp_path / "grey.pb")
    pixels = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3)).astype(np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(photo).convert("L")) for photo in pixels])
    backbone = load(path, tmp_path)
    expected = original(
        tf_graph.read(path),
        "photo:0",
        "row:0",
        (grey[..., None].astype(np.float32) - np.float32(128)) / np.float32(128),
    )
    photos = (pixels.astype(np.float32) - 128) / 128
    run = tf_graph.session(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    assert np.ptp(expected, axis=0).max() > 0.01
    # Pillow rounds grey to whole numbers: half of 1/128 at most, less in a mean over places.
    assert np.abs(run(photos) - expected).max() < 0.002
    assert backbone.spec.order == "RGB"


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_a_network_of_another_precision_becomes_float32(dtype: Any, tmp_path: Path) -> None:
    body = network(None, HEIGHT, WIDTH, 3, dtype=dtype)
    path = save(define(body), tmp_path / "mine.pb")
    backbone = load(path, tmp_path)
    plain = original(define(network(None, HEIGHT, WIDTH, 3)), "photo:0", "row:0", noise())
    run = tf_graph.session(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    assert np.abs(run(noise()) - plain).max() < 0.01
    assert "Cast" not in operations(backbone)


def test_a_network_that_takes_bytes_knows_its_scale(tmp_path: Path) -> None:
    body = network(
        None, HEIGHT, WIDTH, 3, dtype=tf.uint8, before=lambda x: tf.cast(x, tf.float32) / 255
    )
    path = save(define(body), tmp_path / "mine.pb")
    backbone = load(path, tmp_path, scale=(None, None))
    assert (backbone.spec.mean, backbone.spec.std) == (0, 1)
    pixels = noise(0, 255).round()
    require_same(backbone, original(tf_graph.read(path), "photo:0", "row:0", pixels), pixels)
    with pytest.raises(WrongUse, match=r"takes bytes.*leave both out"):
        load(path, tmp_path)


def test_a_batch_of_128_becomes_any_batch(tmp_path: Path) -> None:
    path = save(define(network(128, HEIGHT, WIDTH, 3)), tmp_path / "mine.pb")
    with pytest.raises(WrongUse, match=r"`input_size` 24x32 `input_mean` 128"):
        load_custom(path, Ends(), tmp_path)
    single = define(network(1, HEIGHT, WIDTH, 3))
    require_same(load(path, tmp_path), original(single, "photo:0", "row:0", noise()), noise())


def reshaped(x: Any) -> Any:
    return tf.reshape(tf.cast(x, tf.float32), [-1, HEIGHT, WIDTH, 3])


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((None, HEIGHT, WIDTH, 3), tf.int32, "takes int32.*float32 or uint8"),
        ((None,), tf.string, "bytes of a file or text"),
        ((None, HEIGHT * WIDTH * 3), tf.float32, "N, height, width, channels"),
        ((None, 1, HEIGHT, WIDTH, 3), tf.float32, "N, height, width, channels"),
        ((None, 3, HEIGHT, WIDTH), tf.float32, "channels first.*channels last"),
        ((None, HEIGHT, WIDTH, 4), tf.float32, "4 channels"),
        ((None, HEIGHT, WIDTH, 2), tf.float32, "2 channels"),
        ((None, 5000, WIDTH, 3), tf.float32, "1 to 4096 pixels"),
    ],
)
def test_an_input_that_is_no_photo_is_refused_in_words(
    shape: tuple[int | None, ...], dtype: Any, words: str, tmp_path: Path
) -> None:
    def body() -> None:
        x = v1.placeholder(dtype, shape, name="photo")
        x = tf.io.decode_raw(x, tf.uint8) if dtype == tf.string else x
        tf.reduce_mean(reshaped(x), [1, 2], name="row")

    path = save(define(body), tmp_path / "mine.pb")
    with pytest.raises(BadData, match=words) as caught:
        load(path, tmp_path)
    assert str(path) in str(caught.value)


def test_arithmetic_on_bytes_is_refused(tmp_path: Path) -> None:
    body = network(
        None, HEIGHT, WIDTH, 3, dtype=tf.uint8, before=lambda x: tf.cast(x + x, tf.float32)
    )
    path = save(define(body), tmp_path / "mine.pb")
    with pytest.raises(RetrainError, match="computes with bytes"):
        load(path, tmp_path, scale=(None, None))


def test_a_constant_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    graph_def = define(network(None, HEIGHT, WIDTH, 3))
    (kernel,) = [
        n.attr["value"].tensor
        for n in graph_def.node
        if n.op == "Const"
        and "Const" in n.name
        and len(n.attr["value"].tensor.tensor_shape.dim) == 4
    ]
    kernel.tensor_shape.dim[3].size = 10**10
    kernel.tensor_content = b""
    kernel.float_val[:] = [0.5]
    path = save(graph_def, tmp_path / "bomb.pb")
    assert path.stat().st_size < 10_000
    with pytest.raises(BadData, match=r"constant of \[3, 3, 3, 10000000000\]"):
        load(path, tmp_path)


def test_a_rectangular_network_is_trained_and_labels(
    tiny: Path, photos: Path, tmp_path: Path, invoke: Invoke
) -> None:
    path = save(define(network(None, HEIGHT, WIDTH, 3)), tmp_path / "mine.pb")
    ends = ("--input-tensor", "photo", "--bottleneck-tensor", "row", "--input-size", "24X32")
    scale = ("--input-mean", 128, "--input-std", 128, "--cache-dir", tmp_path / "cache")
    call = ("train", tiny, "--graph", path, *ends, *scale, "--output-dir", tmp_path / "run")
    bad = invoke(*call, "--input-size", "24x32x3")
    assert bad.exit_code == 2
    assert "'24x32x3' is not height x width, such as 96x128" in bad.output
    result = invoke(*call, "--random-crop", 10, "--views", 1, "--how-many-training-steps", 5)
    assert result.exit_code == 0, result.output
    contract = Contract.from_json((tmp_path / "run" / "contract.json").read_bytes())
    assert (contract.input.height, contract.input.width) == (HEIGHT, WIDTH)
    photo = next((photos / LABELS[0]).iterdir())
    result = invoke("label", photo, "--graph", tmp_path / "run" / "output_graph.pb")
    assert result.exit_code == 0, result.output
