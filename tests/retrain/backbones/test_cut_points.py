"""Find where a backbone can be cut, on graphs of every kind, and choose by cost."""

from collections.abc import Callable
from typing import Any

import pytest

from deploy.errors import BadData, WrongUse
from retrain import backbones, tf_graph
from retrain.backbones.cost import count
from retrain.backbones.cut_points import CutPoint, choose_cut_point, find_cut_points

tf = tf_graph.tensorflow()
Body = Callable[[Any], Any]


def conv(x: Any, channels: int, name: str, stride: int = 1) -> Any:
    kernel = tf.zeros([3, 3, x.shape[-1], channels])
    return tf.nn.conv2d(x, kernel, stride, "SAME", name=name)


def network(body: Body) -> Any:
    """Return the GraphDef of `body` between two convolutions, both with relu."""

    def whole(images: Any) -> Any:
        x = tf.nn.relu(conv(images, 4, "first", stride=2), name="below")
        return tf.reduce_mean(tf.nn.relu(conv(body(x), 8, "last")), [1, 2])

    return tf_graph.trace(whole, (16, 16, 3), tf_graph.BOTTLENECK)


def names(body: Body) -> list[str]:
    return [point.name for point in find_cut_points(network(body))]


def test_a_chain_is_cut_behind_each_convolution() -> None:
    def body(x: Any) -> Any:
        x = tf.nn.relu(conv(x, 6, "middle") + 1.0, name="relu")
        return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # larger than what it pads

    points = find_cut_points(network(body))
    assert [point.name for point in points] == ["below", "relu"]
    assert [point.shape for point in points] == [(8, 8, 4), (8, 8, 6)]
    middle, last = 8 * 8 * 9 * 4 * 6, 10 * 10 * 9 * 6 * 8
    assert [point.multiply_adds_above for point in points] == [middle + last, last]
    total = count(network(body)).multiply_adds
    assert [point.share_above * total for point in points] == pytest.approx([middle + last, last])
    assert (points[1].width, points[1].kilobytes) == (384, 0.768)


def test_the_smallest_of_equals_is_the_cut() -> None:
    pooled = names(lambda x: tf.nn.max_pool2d(conv(x, 6, "middle"), 2, 2, "VALID", name="pool"))
    assert pooled == ["below", "pool"]


def test_a_skip_is_not_cut() -> None:
    def body(x: Any) -> Any:
        return tf.add(x, conv(tf.nn.relu(conv(x, 4, "inner")), 4, "outer"), name="sum")

    assert names(body) == ["below", "sum"]


def test_a_skip_over_two_blocks_is_not_cut() -> None:
    def body(x: Any) -> Any:
        once = tf.add(x, conv(x, 4, "a"))
        twice = tf.add(x, conv(once, 4, "b"))
        return tf.add(once, conv(twice, 4, "c"), name="sum")

    assert names(body) == ["below", "sum"]


def test_a_path_by_the_shape_of_a_tensor_is_a_path() -> None:
    def body(x: Any) -> Any:
        return tf.reshape(tf.nn.relu(conv(x, 4, "middle")), tf.shape(x), name="same")

    assert names(body) == ["below", "same"]


def test_a_tensor_without_a_row_for_each_photo_is_no_cut() -> None:
    def body(x: Any) -> Any:
        pixels = tf.matmul(tf.reshape(x, [-1, 4]), tf.ones([4, 4]), name="pixels")
        return tf.reshape(pixels, [-1, 8, 8, 4], name="again")

    assert names(body) == ["below", "again"]


def test_what_does_not_depend_on_the_photo_is_no_path() -> None:
    def body(x: Any) -> Any:
        constant = conv(tf.ones([1, 8, 8, 4]), 4, "of_constants")
        return tf.add(conv(x, 4, "middle"), constant, name="sum")

    assert names(body) == ["below", "sum"]
    assert find_cut_points(network(body))[0].share_above < 1


def test_lite0_is_cut_after_block_7() -> None:
    graph = backbones.NETWORKS["efficientnet_lite0"].graph_def(None)
    points = find_cut_points(graph)
    above = [point.multiply_adds_above for point in points]
    assert above == sorted(set(above), reverse=True)
    assert count(graph).multiply_adds > above[0]
    assert above[-1] > 0
    chosen = choose_cut_point(points, None)
    assert chosen.shape == (14, 14, 80)
    assert chosen.kilobytes == 31.36
    # Blocks 8 to 15 and the last convolution, by the paper's table.
    assert chosen.multiply_adds_above == 226_646_560
    assert chosen.share_above == pytest.approx(0.590, abs=5e-4)


POINTS = tuple(
    CutPoint(name, shape, share, round(share * 1e6))
    for name, shape, share in (
        ("stem", (112, 112, 32), 0.9),
        ("wide", (50, 50, 43), 0.59),
        ("block/add", (14, 14, 80), 0.5),
        ("late", (7, 7, 8), 0.1),
        ("last", (7, 7, 320), 0.04),
    )
)


def test_the_default_is_the_deepest_training_that_is_affordable() -> None:
    assert choose_cut_point(POINTS, None).name == "block/add"  # `wide` takes 215 kB a view


@pytest.mark.parametrize(
    ("points", "name"), [(POINTS[:2], "wide"), ((*POINTS[:1], *POINTS[4:]), "stem")]
)
def test_without_an_affordable_cut_it_is_the_cheapest(
    points: tuple[CutPoint, ...], name: str
) -> None:
    assert choose_cut_point(points, None).name == name


def test_above_a_network_of_which_little_is_left_it_is_the_first_cut() -> None:
    assert choose_cut_point(POINTS[4:], None).name == "last"


@pytest.mark.parametrize("name", ["late", "late:0"])
def test_a_cut_is_named(name: str) -> None:
    assert choose_cut_point(POINTS, name).name == "late"


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(WrongUse, match=r"`cut` block/add_1: .* names: block/add, "):
        choose_cut_point(POINTS, "block/add_1")


def test_a_network_of_one_convolution_has_no_cut() -> None:
    points = find_cut_points(
        tf_graph.trace(
            lambda x: tf.reduce_mean(conv(x, 4, "only"), [1, 2]), (8, 8, 3), tf_graph.BOTTLENECK
        )
    )
    assert points == ()
    with pytest.raises(BadData, match="only its final layer"):
        choose_cut_point(points, None)
