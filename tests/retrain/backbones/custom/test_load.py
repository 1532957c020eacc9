"""Load a network of the user's own: the backbone gives its numbers; code is refused."""

import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.errors import BadData, WrongUse
from deploy.image import open_image, to_tensor
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom import read_file
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from tests.helpers.archive_fixtures import named, tgz
from tests.helpers.own_networks import (
    SIDE,
    Array,
    after_network,
    before_network,
    classic,
    define,
    load,
    old_norm,
    operations,
    original,
    require_same,
    save,
    tf,
    v1,
    values,
)
from tests.helpers.runs import Invoke


@pytest.fixture
def classic_pb(tmp_path: Path) -> Path:
    return save(define(classic), tmp_path / "classic.pb")


def tensors(photos: Path, backbone: Backbone) -> Array:
    paths = sorted(photos.glob("*/*"))[::12]
    return np.concatenate([to_tensor(open_image(p.read_bytes()), backbone.spec) for p in paths])


def test_a_graph_of_2015_gives_its_own_bottlenecks(
    classic_pb: Path, photos: Path, tmp_path: Path
) -> None:
    backbone = load(classic_pb, tmp_path)
    tensor = tensors(photos, backbone)
    assert len(tensor) == 6
    expected = original(tf_graph.read(classic_pb), "Mul:0", "pool_3/_reshape:0", tensor)
    require_same(backbone, expected, tensor)
    assert {"DecodeJpeg", "CheckNumerics", "BatchNormWithGlobalNormalization"}.isdisjoint(
        operations(backbone)
    )
    assert [n.op for n in tf_graph.read(backbone.graph_path).node].count("Mul") == 1


def test_the_2015_network_needs_no_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def inception() -> None:
        x = v1.nn.conv2d(before_network(299), values(3, 3, 3, 8), 2, "SAME")
        after_network(tf.reduce_mean(old_norm(x, True), [1, 2], keepdims=True), 8)

    content = define(inception).SerializeToString()
    archive = tmp_path / "inception-2015-12-05.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        link = tarfile.TarInfo("link.pb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
        member = tarfile.TarInfo("classify_image_graph_def.pb")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    backbone = load_custom(archive, Ends(), tmp_path)
    spec = backbone.spec
    assert (spec.height, spec.width, spec.crop, spec.mean, spec.std) == (299, 299, None, 128, 128)
    assert (backbone.width, backbone.name) == (8, archive.name)
    monkeypatch.setattr(read_file, "MAX_NETWORK_BYTES", archive.stat().st_size)
    with pytest.raises(BadData, match="more than"):
        load_custom(archive, Ends(), tmp_path)


def test_another_file_or_end_is_another_backbone(classic_pb: Path, tmp_path: Path) -> None:
    first = load(classic_pb, tmp_path)
    assert load(classic_pb, tmp_path) == first
    wider = load(classic_pb, tmp_path, "Mul:0", "pool_3:0")
    assert wider.fingerprint != first.fingerprint
    graph_def = tf_graph.read(classic_pb)
    graph_def.node.add(name="unused", op="NoOp")
    assert load(save(graph_def, classic_pb), tmp_path).fingerprint != first.fingerprint


def conditional(predicate: Callable[[], Any]) -> Callable[[], None]:
    """Return a network with a dropout as TensorFlow 1 wrote it, and a convolution used twice."""

    def body() -> None:
        x = v1.placeholder(tf.float32, [1, SIDE, SIDE, 3], name="photo")
        skipped = tf.nn.conv2d(x, values(3, 3, 3, 8), 2, "SAME")
        x = tf.nn.relu(skipped * values(8)) + skipped
        v1.disable_control_flow_v2()
        x = v1.cond(
            predicate(),
            lambda: x * tf.floor(0.5 + tf.random.uniform(tf.shape(x))) + tf.constant(1.0),
            lambda: tf.identity(x) * 2,
        )
        x *= v1.cond(predicate(), lambda: tf.constant(3.0), lambda: tf.constant(2.0))
        v1.enable_control_flow_v2()
        x = (tf.nn.conv2d(x, values(1, 1, 8, 4), 1, "SAME") - values(4)) * values(1, 1, 1, 4)
        tf.squeeze(tf.reduce_mean(x + values(4), [1, 2], keepdims=True), [1, 2], name="row")

    return body


@pytest.mark.parametrize(
    "predicate",
    [
        lambda: v1.placeholder_with_default(False, []),
        lambda: tf.logical_not(tf.constant(True)),
        lambda: v1.placeholder(tf.bool, [], name="phase_train"),
        lambda: v1.placeholder_with_default(True, [], name="is_training"),
    ],
)
def test_dropout_is_taken_on_the_side_of_inference(
    predicate: Callable[[], Any], tmp_path: Path
) -> None:
    path = save(define(conditional(predicate)), tmp_path / "dropout.pb")
    tensor = np.random.default_rng(0).uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
    plain = define(conditional(lambda: tf.constant(False)))
    expected = original(plain, "photo:0", "row:0", tensor)
    require_same(load(path, tmp_path, "photo", "row"), expected, tensor)


def pooled(operation: Callable[[Any], Any]) -> Callable[[], None]:
    """Return a network that is `operation` on photos, then a pool."""

    def body() -> None:
        x = operation(v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name="photo"))
        tf.reduce_mean(x, [1, 2], name="row")

    return body


def py_function(x: Any) -> Any:
    y = v1.py_func(lambda photo: photo, [x], tf.float32)
    y.set_shape(x.shape)
    return y


def in_training(x: Any) -> Any:
    return v1.nn.fused_batch_norm(x, values(3), values(3), is_training=True)[0]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (py_function, "PyFunc"),
        (lambda x: x[: tf.raw_ops.Shape(input=[tf.io.read_file("/etc/passwd")])[0]], "ReadFile"),
        (
            lambda x: tf.nn.erosion2d(x, values(1, 1, 3), [1] * 4, "SAME", "NHWC", [1] * 4),
            "Dilation2D",
        ),
        (lambda x: x * tf.random.uniform([]), "RandomUniform"),
        (in_training, "in training"),
        (lambda x: x * v1.placeholder(tf.float32, [], "keep_prob"), "waits for keep_prob"),
        (lambda x: x * 0 / 0, "finite"),
        (lambda x: x - tf.reduce_mean(x, 0, keepdims=True), "others of its batch"),
        (lambda x: tf.nn.avg_pool2d(tf.transpose(x, [0, 3, 1, 2]), 2, 2, "SAME", "NCHW"), "NHWC"),
        (conditional(lambda: v1.placeholder(tf.bool, [], name="night")), "Switch.*night"),
    ],
)
def test_what_is_not_a_plain_network_is_refused(
    operation: Callable[..., Any], words: str, tmp_path: Path
) -> None:
    body = operation if "night" in words else pooled(operation)
    path = save(define(body), tmp_path / "odd.pb")
    with pytest.raises(BadData, match=words) as caught:
        load(path, tmp_path, "photo:0", "row:0")
    assert str(path) in str(caught.value)


def test_a_damaged_graph_is_bad_data(classic_pb: Path, tmp_path: Path) -> None:
    whole = classic_pb.read_bytes()
    for content in (whole[:-100], b"", b"not a graph", whole[len(whole) // 2 :]):
        classic_pb.write_bytes(content)
        with pytest.raises(BadData):
            load(classic_pb, tmp_path, "Mul:0", "pool_3/_reshape:0")
    with pytest.raises(BadData):
        load(tmp_path / "nowhere.pb", tmp_path)


def test_a_damaged_archive_is_bad_data(tmp_path: Path) -> None:
    archive = tmp_path / "broken.tgz"
    whole = tgz(archive, (named("network.pb"), np.random.default_rng(0).bytes(300_000)))
    packed = lzma.compress(gzip.decompress(whole))
    for content in (
        b"\x1f\x8b not gzip",
        whole[: len(whole) // 2],
        whole[:99] + bytes(99) + whole[198:],
        packed[:150_000] + b"\xff" * 100_000 + packed[250_000:],
    ):
        archive.write_bytes(content)
        with pytest.raises(BadData, match=r"broken\.tgz: not an archive, or damaged"):
            load(archive, tmp_path)


def test_an_archive_of_a_stranger_takes_no_memory_for_its_headers(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tgz"
    long_name = named("name", tarfile.GNUTYPE_LONGNAME)
    tgz(archive, (long_name, bytes(200_000_000)), (named("network.pb"), b"x"))
    tracemalloc.start()
    with pytest.raises(BadData, match=r"bomb\.tgz: .*headers of more than 1,048,576 bytes"):
        load(archive, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("ends", [("Mul", "nowhere"), ("nowhere", "pool_3"), ("softmax", "pool_3")])
def test_ends_that_are_not_there_are_bad_data(
    ends: tuple[str, str], classic_pb: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match=r"nowhere|softmax"):
        load(classic_pb, tmp_path, *ends)


def test_without_names_likely_ends_are_listed(invoke: Invoke, photos: Path, tmp_path: Path) -> None:
    def body() -> None:
        x = tf.identity(v1.placeholder(tf.float32, [1, SIDE, SIDE, 3], name="photo") / 255, "fed")
        x = tf.nn.conv2d(
            tf.nn.relu(tf.nn.conv2d(x, values(3, 3, 3, 8), 2, "SAME")),
            values(1, 1, 8, 8),
            1,
            "SAME",
        )
        x = tf.reduce_mean(x, [1, 2], name="row")
        tf.matmul(x, values(8, 3), name="logits")

    path = save(define(body), tmp_path / "mine.pb")
    where = ("--graph", path, "--cache-dir", tmp_path)
    result = invoke("bottlenecks", photos, *where, "--input-size", SIDE)
    assert result.exit_code == 2
    assert "likely inputs:\n  fed:0 (1, 32, 32, 3)\n  photo:0 (1, 32, 32, 3)\n" in result.output
    assert "likely bottlenecks:\n  row:0 (1, 8)\n" in result.output
    (line,) = [text for text in result.output.splitlines() if text.startswith("for example: ")]
    options = line.removeprefix("for example: ").split()
    assert options[-2:] == ["--input-std", "128"]
    assert "--input-size 32 " in line
    result = invoke("bottlenecks", photos, *options, "--cache-dir", tmp_path, "--json")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--architecture", "efficientnet_lite0"), "replaces --architecture"),
        (("--input-mean", "127.5"), "whole number"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_use(
    options: tuple[str, ...], words: str, classic_pb: Path, photos: Path, invoke: Invoke
) -> None:
    result = invoke("bottlenecks", photos, "--graph", classic_pb, *options)
    assert result.exit_code == 2
    assert words in result.output
    result = invoke("train", photos, "--input-size", 32)
    assert result.exit_code == 2
    assert "--graph" in result.output


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"HDF")
    with pytest.raises(WrongUse, match="it must be a"):
        load(path, tmp_path)
