"""A network that is real in every part but its size, and photos drawn for it."""

import errno
import hashlib
import io
import os
import subprocess
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from deploy import model_file
from deploy.classifier import Classifier
from deploy.contract import Contract, InputSpec, write_labels
from deploy.goldens import Golden, digest
from deploy.image import open_image, to_pixels

REPOSITORY = Path(__file__).resolve().parents[2]
DEVICE = Path(os.environ.get("RETRAIN_DEVICE_PYTHON", REPOSITORY / ".venv-device/bin/python"))
NO_TFLITE_RUNTIME = f"no tflite-runtime 2.14 at {DEVICE}: `make test` with Python 3.11 makes it"
"""A Python with tflite-runtime 2.14, which `make test` makes."""

SPEC = InputSpec(height=32, width=32, crop=0.875, mean=128.0, std=128.0)
LABELS = ("red", "grün, hell", "blue", "grey")
COLOURS = dict(zip(LABELS, [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128,) * 3], strict=True))
CONTRACT = Contract(SPEC, LABELS, "tiny", "1" * 64, "2" * 64, "3" * 64, "0.1.0")

# The network weighs, for each colour, how far the photo is above and below mid-grey.
_MEAN = np.zeros((3, 3, 3, 3), np.float32)
_MEAN[:, :, range(3), range(3)] = 1 / 9
_KERNEL = np.concatenate([_MEAN, -_MEAN], axis=3)
_ABOVE = np.hstack([6 * np.eye(3) - 3, np.zeros((3, 1))])
WEIGHTS = np.vstack([_ABOVE, -_ABOVE]).astype(np.float32)
BIAS = np.array([0, 0, 0, 2], np.float32)


def logits(colour: tuple[int, int, int]) -> Any:
    """Return the network's logits for an image all of one colour, float64 (classes,)."""
    value = (np.array(colour) - SPEC.mean) / SPEC.std
    return np.maximum([*value, *-value], 0) @ WEIGHTS + BIAS


def probabilities(colour: tuple[int, int, int]) -> Any:
    """Return what the network gives for an image all of one colour, float64 (classes,)."""
    powers = np.exp(logits(colour))
    return powers / powers.sum()


@dataclass(frozen=True)
class Networks:
    """The network as a frozen graph and as flatbuffers, named by their inputs and outputs."""

    graph: bytes
    float32: bytes
    uint8: bytes
    uint8_to_uint8_logits: bytes
    int8: bytes


@cache
def networks() -> Networks:
    """Return the tiny network in each form, made once."""
    from retrain import tf_graph as graph

    tf = graph.tensorflow()
    with tf.Graph().as_default() as network:
        images = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3], name="input")
        features = tf.nn.relu6(tf.nn.conv2d(images, _KERNEL, 2, "VALID"))
        bottleneck = tf.reduce_mean(features, [1, 2], name="bottleneck")
        product = tf.matmul(bottleneck, tf.constant(WEIGHTS, name="final_weights"))
        biases = tf.constant(BIAS, name="final_biases")
        tf.nn.softmax(tf.nn.bias_add(product, biases, name="logits"), name="final_result")
    definition = network.as_graph_def()
    # The corners of the colour cube: pixels 0 and 255 give the scale 1/128 and zero point 128.
    corners = (255 * np.indices((2, 2, 2)).reshape(3, 8).T - SPEC.mean) / SPEC.std
    calibration = [np.full((1, 32, 32, 3), corner, np.float32) for corner in corners]

    def convert(*types: Any, output: str = "final_result") -> bytes:
        function = graph.function(definition, output)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        if types:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type, converter.inference_output_type = types
        with warnings.catch_warnings(action="ignore"):
            flatbuffer: bytes = converter.convert()
        return flatbuffer

    return Networks(
        graph=definition.SerializeToString(),
        float32=convert(),
        uint8=convert(tf.uint8, tf.float32),
        uint8_to_uint8_logits=convert(tf.uint8, tf.uint8, output="logits"),
        int8=convert(tf.int8, tf.float32),
    )


def write_run(folder: Path) -> Path:
    """Fill a run folder as train and convert leave it, with float.tflite besides; return it."""
    forms = networks()
    contract = replace(CONTRACT, graph_sha256=hashlib.sha256(forms.graph).hexdigest())
    (folder / "output_graph.pb").write_bytes(forms.graph)
    (folder / "contract.json").write_text(contract.to_json(), "utf-8")
    (folder / "model.tflite").write_bytes(model_file.pack(forms.uint8, contract))
    (folder / "float.tflite").write_bytes(model_file.pack(forms.float32, contract))
    (folder / "labels.txt").write_text(write_labels(LABELS), "utf-8")
    return folder


def write_colour_run(
    root: Path, colours: dict[str, tuple[int, int, int]] = COLOURS, graph: bytes | None = None
) -> Path:
    """Fill `root` with 9 photos of each colour and a run folder of them, not yet converted.

    `graph`, the tiny network if None, tells the colours; a third of the photos validate, and a
    third tests.
    """
    from retrain.data.manifest import write_manifest
    from retrain.data.photo_folder import scan

    random = np.random.default_rng(0)
    for label, colour in colours.items():
        (root / "photos" / label).mkdir(parents=True)
        for i in range(9):
            pixels = np.clip(random.normal(colour, 4, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / label / f"{i}.png")
    folder = root / "run"
    folder.mkdir()
    write_run(folder)
    (folder / "model.tflite").unlink()
    if graph:
        digest = hashlib.sha256(graph).hexdigest()
        contract = replace(CONTRACT, labels=tuple(colours), graph_sha256=digest)
        (folder / "output_graph.pb").write_bytes(graph)
        (folder / "contract.json").write_text(contract.to_json(), "utf-8")
    photos = scan(root / "photos").photos
    splits = [("training", "validation", "testing")[i % 3] for i in range(len(photos))]
    write_manifest(folder / "manifest.csv", photos, splits)
    return folder


def draw_photos(folder: Path) -> dict[str, Path]:
    """Draw a photo of each label into `folder`, each in another format; return them by label."""
    drawn = {}
    colours = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)]
    names = ["one.jpg", "two.png", "three.webp", "four.gif"]
    for label, colour, name in zip(LABELS, colours, names, strict=True):
        image = Image.new("RGB", (80, 60), colour)
        ImageDraw.Draw(image).ellipse((30, 20, 50, 40), tuple(value // 2 + 64 for value in colour))
        drawn[label] = folder / name
        image.save(drawn[label])
    return drawn


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    """Return `image` as a file of the format `name`."""
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def golden_of(classifier: Classifier, colour: tuple[int, int, int]) -> Golden:
    """Return the golden of a photo that is all of one colour."""
    png = encoded(Image.new("RGB", (64, 64), colour), "PNG")
    image = open_image(png, SPEC)
    scores = classifier.scores(image)
    pixels_digest = digest(to_pixels(image, SPEC))
    return Golden(png, pixels_digest, LABELS[scores.argmax()], tuple(map(float, scores)))


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make files and folders of these names unreadable, even for root."""
    scandir, opened = os.scandir, Path.open

    def checked(path: Any) -> Any:
        if Path(path).name in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path

    monkeypatch.setattr(os, "scandir", lambda path: scandir(checked(path)))
    monkeypatch.setattr(
        Path, "open", lambda path, *words, **options: opened(checked(path), *words, **options)
    )


@cache
def has_tflite_runtime() -> bool:
    """Return whether DEVICE is there and has tflite-runtime 2.14.

    That has wheels for Python 3.11 at most; with a later one the environment has LiteRT.
    """
    code = "from importlib.metadata import version as v; print(v('tflite-runtime'))"
    if not DEVICE.exists():
        return False
    there = subprocess.run([DEVICE, "-c", code], capture_output=True, text=True, check=False)
    return there.stdout.startswith("2.14.")
