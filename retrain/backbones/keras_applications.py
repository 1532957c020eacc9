"""Download, freeze and fold networks of keras.applications."""

import gc
import hashlib
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.system.temporary_files import scratch
from retrain import tf_graph
from retrain.backbones.network import Network, Weights
from retrain.backbones.surgery.extract_backbone import Cut, extract_backbone
from retrain.backbones.weights_h5 import read_weights

_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/"
_TABLE = "https://keras.io/api/applications/"
_V3_TABLE = "https://keras.io/api/applications/mobilenet/#mobilenetv3small-function"


@dataclass(frozen=True)
class KerasNetwork(Network):
    """A function of keras.applications, and its ImageNet weights without the last layer.

    `function` is its name; `address` is that of the weights below Keras' own, `md5` their digest as
    Keras has it; `file_name` is their name in the cache of Keras, if `address` ends otherwise.
    `preprocess` is a module of keras.applications: the graph reverses the normalisation of `spec`
    and does the preprocessing of that module itself.
    """

    function: str
    address: str
    md5: str | None
    preprocess: str | None = None
    file_name: str | None = None

    @property
    def weights_source(self) -> str:
        """The address of the file."""
        return _ADDRESS + self.address

    @property
    def _cached(self) -> Path:
        # The place of keras.applications: a file that it has downloaded before is used.
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        return home / "models" / (self.file_name or self._remote_name)

    @property
    def _remote_name(self) -> str:
        return self.address.rpartition("/")[2]

    def installed_weights(self) -> Path | None:
        """Return the path of the weights in the cache of Keras, None if their digest is wrong."""
        path = self._cached
        return path if path.is_file() and self.md5 in (None, _md5(path)) else None

    def fetch_weights(self) -> Path:
        """Return the path of the weights, downloaded into the cache of Keras if need be."""
        path = self.installed_weights()
        if path is None:
            path = self._download()
        elif self.md5 is None:
            try:
                read_weights(path)
            except BadData as error:
                raise BadData(
                    f"{error}: delete it, and run this again to fetch {self.weights_source}"
                ) from error
        return path

    def _download(self) -> Path:
        """Download the weights with Keras into a folder of their own; move them when complete."""
        keras, path = tf_graph.tensorflow().keras, self._cached
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch(path.parent) as folder:
                with redirect_stdout(sys.stderr):
                    download = keras.utils.get_file(
                        path.name, self.weights_source, cache_dir=folder, file_hash=self.md5
                    )
                read_weights(Path(download))
                Path(download).replace(path)
        except Exception as error:  # Keras raises Exception itself
            raise BadData(
                f"the weights of {self.name} cannot be downloaded ({_reason(error)}): fetch "
                f"{self.weights_source} on another machine, and pass "
                f"{self._remote_name} as `weights`"
            ) from error
        return path

    def read_weights(self, path: Path) -> Weights:
        """Return the tensors in the file `path`; raise BadData if it holds none."""
        return read_weights(path)

    def graph_def(self, weights: Path | None) -> Any:
        """Return the folded graph of a weights file, or of random weights."""
        sides = (self.spec.height, self.spec.width)
        cut = Cut(f"{tf_graph.INPUT}:0", f"{tf_graph.BOTTLENECK}:0", sides)
        frozen = self.frozen(weights)
        gc.collect()  # TensorFlow's functions refer to each other, and hold 280 MB of Inception v3
        return extract_backbone(frozen, cut)

    def frozen(self, weights: Path | None) -> Any:
        """Return the frozen graph as Keras builds it, normalization not folded."""
        tf = tf_graph.tensorflow()
        from tensorflow.python.framework import convert_to_constants

        model = self._model(top=False)
        if weights:
            self._fill(model, weights)

        def body(images: Any) -> Any:
            if self.preprocess:
                module = getattr(tf.keras.applications, self.preprocess)
                images = module.preprocess_input(images * self.spec.std + self.spec.mean)
            return tf.identity(model(images, training=False), name=tf_graph.BOTTLENECK)

        shape = [None, self.spec.height, self.spec.width, 3]
        signature = tf.TensorSpec(shape, tf.float32, name=tf_graph.INPUT)
        concrete = tf.function(body).get_concrete_function(signature)
        constant = convert_to_constants.convert_variables_to_constants_v2(concrete)
        return tf_graph.definition(constant.graph)

    def _model(self, top: bool) -> Any:
        build = getattr(tf_graph.tensorflow().keras.applications, self.function)
        shape = (self.spec.height, self.spec.width, 3)
        return build(input_shape=shape, include_top=top, weights=None, pooling="avg")

    def _fill(self, model: Any, weights: Path) -> None:
        """Load a file into `model`: weights with or without the last layer.

        Keras reads only tensors from the file here, by their position.
        """
        try:
            model.load_weights(str(weights))
        except Exception as error:  # Keras, h5py and zipfile each have their own
            network = self._model(top=True)
            try:
                network.load_weights(str(weights))
            except Exception:  # as above
                raise BadData(
                    f"{weights}: not weights of {self.name} ({_reason(error)})"
                ) from error
            model.set_weights(network.get_weights()[: len(model.weights)])


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _spec(size: int, std: float) -> InputSpec:
    return InputSpec(height=size, width=size, crop=0.875, mean=128.0, std=std)


# The authors of Inception, MobileNetV2 and NASNet trained with (x - 127.5) / 127.5. The mean is 128
# here, half a grey level from theirs, because an int8 model's zero point is an integer. They
# resized with a bilinear filter, here all is bicubic: MobileNetV2's real weights gave 0.15 points
# more with bilinear (standard error 0.44), over ten splits of 1,000 flowers: no difference. The
# graphs of the others compute x from (x - 128) / 128, exactly: MobileNetV3 and EfficientNetV2 scale
# it in their first layer, ResNet50 takes BGR less the mean of each channel.
NETWORKS = (
    KerasNetwork(
        name="inception_v3",
        spec=_spec(299, 127.5),
        width=2048,
        top1=0.779,
        top1_source=_TABLE,
        function="InceptionV3",
        address="inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="bcbd6486424b2319ff4ef7d526e38f63",
    ),
    KerasNetwork(
        name="mobilenet_v2",
        spec=_spec(224, 127.5),
        width=1280,
        top1=0.713,
        top1_source=_TABLE,
        function="MobileNetV2",
        address="mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        md5=None,
    ),
    KerasNetwork(
        name="mobilenet_v3_small",
        spec=_spec(224, 128.0),
        width=576,
        top1=0.681,
        top1_source=_V3_TABLE,
        function="MobileNetV3Small",
        address="mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        md5="d3e8ec802a04aa4fc771ee12a9a9b836",
        preprocess="mobilenet_v3",
    ),
    KerasNetwork(
        name="mobilenet_v3_large",
        spec=_spec(224, 128.0),
        width=960,
        top1=0.756,
        top1_source=_V3_TABLE,
        function="MobileNetV3Large",
        address="mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        md5="07fb09a5933dd0c8eaafa16978110389",
        preprocess="mobilenet_v3",
    ),
    KerasNetwork(
        name="efficientnet_v2_b0",
        spec=_spec(224, 128.0),
        width=1280,
        top1=0.787,
        top1_source=_TABLE,
        function="EfficientNetV2B0",
        address="efficientnet_v2/efficientnetv2-b0_notop.h5",
        md5="893217f2bb855e2983157299931e43ff",
        preprocess="efficientnet_v2",
    ),
    KerasNetwork(
        name="resnet50",
        spec=_spec(224, 128.0),
        width=2048,
        top1=0.749,
        top1_source=_TABLE,
        function="ResNet50",
        address="resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="4d473c1dd8becc155b73f8504c6f6626",
        preprocess="resnet",
    ),
    KerasNetwork(
        name="nasnet_mobile",
        spec=_spec(224, 127.5),
        width=1056,
        top1=0.744,
        top1_source=_TABLE,
        function="NASNetMobile",
        address="nasnet/NASNet-mobile-no-top.h5",
        md5="1ed92395b5b598bdda52abe5c0dbfd63",
        file_name="nasnet_mobile_no_top.h5",
    ),
)
