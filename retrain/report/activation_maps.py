"""Show where in a photo a network finds its reasons: class activation maps.

The head sits on the mean of the last feature map. So a logit is the mean, over all places, of the
feature vector there times the head's column: what each place adds is the map (Zhou et al., 2016).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import normalise, to_pixels
from deploy.runtime import Model
from retrain import backbones, parallel, tf_graph
from retrain.backbones.backbone import prepare
from retrain.conversion.compose import read_final_layer
from retrain.data.photo import Photo
from retrain.data.photo_pixels import decode
from retrain.frozen_graph import BOTTLENECK, FrozenGraph
from retrain.report.photo_book import data_uri
from retrain.settings.source import Source
from retrain.tflite.feature_map import give_feature_map
from retrain.training.head import Head

_SIDE = 150
"""Pixels of a picture's side."""
_STRENGTH = 0.62
"""How much of a place with the highest value the map covers."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ActivationMap:
    """A photo as the network sees it, and its maps of labels, as data URIs.

    `maps` has one for each label in `labels`.
    """

    photo: Photo
    picture: str
    labels: tuple[str, ...]
    maps: tuple[str, ...]


class MappedNetwork:
    """A network up to its last feature map, and its head. Threads take a runtime each."""

    def __init__(self, flatbuffer: bytes, shape: tuple[int, int, int], head: Head) -> None:
        self.flatbuffer = flatbuffer
        self.shape = shape
        self.head = head

    def maps(self, runtime: Model, tensor: Floats, columns: Sequence[int]) -> Floats:
        """Return float32 (labels, height, width): what each place adds to logits of `columns`.

        `tensor` is the photo, float32 (1, height, width, 3); the mean over all places is the
        logit without the head's bias.
        """
        features = runtime(tensor).reshape(self.shape)
        values = np.einsum("hwd,dc->chw", features, self.head.weights[:, list(columns)])
        return np.asarray(values, np.float32)


def load_network(graph: FrozenGraph, source: Source, is_published: bool) -> MappedNetwork | None:
    """Return the network of a run's graph; None if its head does not sit on such a mean.

    If it `is_published` below the head, it is the backbone of `source`, which is prepared already.
    Another one is prepared once, in the cache.
    """
    graph_def = tf_graph.parse(graph.graph_def)
    if is_published:
        flatbuffer = backbones.load(
            source.architecture, source.cache_dir, source.weights
        ).flatbuffer
    else:
        below = tf_graph.subgraph(graph_def, BOTTLENECK).SerializeToString(deterministic=True)
        sides = (graph.spec.height, graph.spec.width)
        cause = hashlib.sha256(below).hexdigest()
        trace = partial(tf_graph.parse, below)
        _, flatbuffer = prepare("report", cause, trace, sides, source.cache_dir)
    mapped = give_feature_map(flatbuffer)
    return mapped and MappedNetwork(*mapped, Head(*read_final_layer(graph)))


def draw_maps(
    network: MappedNetwork,
    spec: InputSpec,
    labels: Sequence[str],
    chosen: Sequence[tuple[Photo, tuple[str, ...]]],
) -> list[ActivationMap]:
    """Return the maps of photos, each for its labels; photos that cannot be read are left out."""
    index = {label: i for i, label in enumerate(labels)}

    def draw(runtime: Model, task: tuple[Photo, tuple[str, ...]]) -> ActivationMap | None:
        photo, shown_labels = task
        try:
            pixels = to_pixels(decode(photo, spec), spec)
        except BadData:
            return None
        columns = [index[label] for label in shown_labels]
        values = network.maps(runtime, normalise(pixels, spec), columns)
        picture = Image.fromarray(pixels[0])
        picture.thumbnail((_SIDE, _SIDE))
        overlays = tuple(data_uri(_overlay(picture, value)) for value in values)
        return ActivationMap(photo, data_uri(picture), shown_labels, overlays)

    drawn = parallel.run_in_order(chosen, lambda: Model(network.flatbuffer), draw, lambda _: None)
    return [activation for activation in drawn if activation]


def _overlay(picture: Image.Image, values: Floats) -> Image.Image:
    """Return the picture in grey, coloured from its least important places to the most."""
    from matplotlib import colormaps

    span = float(values.max() - values.min())
    share = (values - values.min()) / (span or 1.0)
    small = Image.fromarray(np.asarray(255 * share, np.uint8))
    smooth = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC), np.float32) / 255
    colours = 255 * colormaps["inferno"](smooth)[:, :, :3]
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32)
    cover = (_STRENGTH * smooth)[:, :, np.newaxis]
    mixed = (1 - cover) * grey + cover * colours
    return Image.fromarray(np.asarray(mixed, np.uint8))
