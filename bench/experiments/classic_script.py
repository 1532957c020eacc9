"""Train as the classic script did: `python -m bench.experiments.classic_script GRAPH MANIFEST DIR`.

TensorFlow published a procedure, image_retraining/retrain.py, that TensorFlow for Poets teaches.
This is our own writing of it, in a session of TensorFlow 1:

1. For each photo without a file, one session call decodes the JPEG and resizes it, and another
   gives it to the frozen network. The bottleneck becomes a text file: numbers between commas.
2. A step draws 100 training photos (a label, then a photo of it), reads and parses their files,
   and feeds them to gradient descent with a constant rate.
3. Every 10 steps the accuracy on that batch and on 100 validation photos is computed, at the end
   that on all test photos.
4. The network is frozen with its final layer, and written with its labels.

It leaves out the original's summaries and checkpoint, which would take more time. It imports
nothing of `retrain`. The split is that of a manifest of `retrain train`, so that both programs are
tested on the same photos. It prints accuracy, and seconds of its stages, as JSON.
"""

import argparse
import csv
import json
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# TensorFlow reads it when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

BATCH = 100
LEARNING_RATE = 0.01
EVALUATION_INTERVAL = 10
_BOTTLENECK, _INPUT, _FINAL = "bottleneck:0", "input:0", "final_result"


class Drawn(NamedTuple):
    """Bottlenecks, lists of numbers, and the index of the label of each."""

    bottlenecks: list[list[float]]
    labels: list[int]


class Photos:
    """The photos of a manifest, and their text files below `folder`."""

    def __init__(self, manifest: Path, folder: Path) -> None:
        self.folder = folder
        self.by_split: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        with manifest.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                self.by_split[row["split"]][row["label"]].append(Path(row["path"]))
        self.labels = sorted({label for split in self.by_split.values() for label in split})

    def all(self) -> Iterator[tuple[str, Path]]:
        """Yield the label and the path of each photo."""
        for split in self.by_split.values():
            yield from _pairs(split)

    def text_file(self, label: str, photo: Path) -> Path:
        """Return the path of the photo's bottleneck."""
        return self.folder / label / f"{photo.name}.txt"

    def draw(self, split: str, count: int) -> Drawn:
        """Return the bottlenecks of `count` photos of `split`, drawn at random."""
        of_split = self.by_split[split]
        names = list(of_split)
        drawn = (random.choice(names) for _ in range(count))  # noqa: S311 (no secret)
        return self._read((label, random.choice(of_split[label])) for label in drawn)  # noqa: S311

    def read_split(self, split: str) -> Drawn:
        """Return the bottlenecks of all photos of `split`."""
        return self._read(_pairs(self.by_split[split]))

    def _read(self, photos: Iterable[tuple[str, Path]]) -> Drawn:
        drawn = Drawn([], [])
        for label, photo in photos:
            text = self.text_file(label, photo).read_text("ascii")
            drawn.bottlenecks.append([float(number) for number in text.split(",")])
            drawn.labels.append(self.labels.index(label))
        return drawn


class Layer(NamedTuple):
    """The tensors and the operation of a final layer that is trained."""

    bottlenecks: Any
    labels: Any
    step: Any
    accuracy: Any


def main() -> None:
    """Run the procedure on the photos of a manifest."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("graph", type=Path, help="A frozen backbone.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path, help="For the bottlenecks and the result.")
    parser.add_argument("--mean", type=float, required=True)
    parser.add_argument("--std", type=float, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()

    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    photos = Photos(options.manifest, options.folder / "bottlenecks")
    seconds = {}
    with tf.Graph().as_default(), tf.Session() as session:
        start = time.perf_counter()
        bottleneck, pixels = _import(options.graph)
        jpeg, resized = _decoding(pixels, options.mean, options.std)
        layer = _final_layer(bottleneck, len(photos.labels))
        session.run(tf.global_variables_initializer())
        seconds["build"] = time.perf_counter() - start

        start = time.perf_counter()
        for label, photo in photos.all():
            path = photos.text_file(label, photo)
            if not path.exists():
                image = session.run(resized, {jpeg: photo.read_bytes()})
                values = np.squeeze(session.run(bottleneck, {pixels: image}))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(",".join(str(value) for value in values), "ascii")
        seconds["bottlenecks"] = time.perf_counter() - start

        start = time.perf_counter()
        _train(session, layer, photos, options.steps)
        seconds["steps"] = time.perf_counter() - start

        test = photos.read_split("testing")
        accuracy = _accuracy(session, layer, test)
        start = time.perf_counter()
        _write(session, options.folder, photos.labels)
        seconds["write"] = time.perf_counter() - start
    result = {"accuracy": accuracy, "total": len(test.labels), "seconds": seconds}
    sys.stdout.write(json.dumps(result) + "\n")


def _pairs(by_label: dict[str, list[Path]]) -> Iterator[tuple[str, Path]]:
    for label, paths in by_label.items():
        for path in paths:
            yield label, path


def _import(path: Path) -> Any:
    """Return the tensors of bottleneck and input of the graph in `path`."""
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    return tf.import_graph_def(graph_def, name="", return_elements=[_BOTTLENECK, _INPUT])


def _decoding(pixels: Any, mean: float, std: float) -> tuple[Any, Any]:
    """Return the tensor of a JPEG's bytes, and that of what the network takes."""
    jpeg = tf.placeholder(tf.string)
    image = tf.expand_dims(tf.cast(tf.image.decode_jpeg(jpeg, channels=3), tf.float32), 0)
    sides = pixels.shape.as_list()[1:3]
    return jpeg, (tf.image.resize_bilinear(image, sides) - mean) / std


def _final_layer(bottleneck: Any, classes: int) -> Layer:
    width = bottleneck.shape.as_list()[1]
    bottlenecks = tf.placeholder_with_default(bottleneck, [None, width])
    labels = tf.placeholder(tf.int64, [None])
    weights = tf.Variable(tf.truncated_normal([width, classes], stddev=0.001))
    biases = tf.Variable(tf.zeros([classes]))
    logits = tf.matmul(bottlenecks, weights) + biases
    tf.nn.softmax(logits, name=_FINAL)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.GradientDescentOptimizer(LEARNING_RATE).minimize(loss)
    is_right = tf.equal(tf.argmax(logits, 1), labels)
    return Layer(bottlenecks, labels, step, tf.reduce_mean(tf.cast(is_right, tf.float32)))


def _train(session: Any, layer: Layer, photos: Photos, steps: int) -> None:
    for step in range(steps):
        batch = photos.draw("training", BATCH)
        session.run(layer.step, _feed(layer, batch))
        if step % EVALUATION_INTERVAL == 0 or step + 1 == steps:
            training = _accuracy(session, layer, batch)
            validation = _accuracy(session, layer, photos.draw("validation", BATCH))
            if step % 1000 == 0:
                sys.stderr.write(f"step {step}: train {training:.1%}, valid {validation:.1%}\n")


def _accuracy(session: Any, layer: Layer, drawn: Drawn) -> float:
    return float(session.run(layer.accuracy, _feed(layer, drawn)))


def _feed(layer: Layer, drawn: Drawn) -> dict[Any, Any]:
    return {layer.bottlenecks: drawn.bottlenecks, layer.labels: drawn.labels}


def _write(session: Any, folder: Path, labels: list[str]) -> None:
    graph_def = session.graph.as_graph_def()
    frozen = tf.graph_util.convert_variables_to_constants(session, graph_def, [_FINAL])
    (folder / "output_graph.pb").write_bytes(frozen.SerializeToString())
    (folder / "output_labels.txt").write_text("\n".join(labels) + "\n", "utf-8")


if __name__ == "__main__":
    main()
