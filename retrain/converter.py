"""From the frozen graph to a quantized TFLite model, calibrated on training photos only."""

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy import files, metadata
from deploy.contract import InputSpec, write_labels
from deploy.errors import BadData, GateFailed, RetrainError
from deploy.image import normalise, open_image, to_pixels
from deploy.metadata import ModelFile
from retrain import dataset, goldens, model_metadata, split
from retrain.dataset import Photo
from retrain.graph_classifier import GraphClassifier
from retrain.model_metadata import About
from retrain.parity import Parity, compare
from retrain.progress import Progress
from retrain.run_folder import RunFolder

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert: `calibration_images` are training photos, `max_accuracy_drop` is points.

    `goldens` is how many test photos go into the file, as thumbnails with their scores.
    """

    output_dir: Path = Path("retrained")
    calibration_images: int = 100
    max_accuracy_drop: float = 1.0
    seed: int = 0
    goldens: int = 8
    about: About = field(default_factory=About)


def convert(config: ConvertConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Write model.tflite and labels.txt, score that very file, return what conversion.json holds.

    Raises GateFailed when its test accuracy is more than `max_accuracy_drop` points below the
    graph's: the file is then kept under a name that says so.
    """
    progress = progress or Progress()
    run = RunFolder(config.output_dir)
    with run.writing():
        contract = run.read_contract()
        manifest = dataset.read_manifest(run.manifest)
        training = [photo for photo, name in manifest if name == split.TRAINING]
        testing = [photo for photo, name in manifest if name == split.TESTING]
        with progress.stage("calibration"):
            chosen = _balanced(training, config.calibration_images, config.seed)
            calibration = _calibration(chosen, contract.input)
        progress.info(f"quantizing, calibrated on {len(chosen)} training photos")
        with progress.stage("convert"):
            flatbuffer = to_int8(
                run.graph.read_bytes(), calibration, contract.input, contract.output
            )
        with progress.stage("goldens"):
            made = goldens.make(
                GraphClassifier.open(run.graph),
                ModelFile(flatbuffer, contract),
                _balanced(testing, len(testing), config.seed),
                config.goldens,
            )
        flatbuffer = model_metadata.attach(
            flatbuffer, model_metadata.describe(contract, config.about, len(made))
        )
        packed = metadata.pack(flatbuffer, contract, made, goldens.tolerance("int8"))
        files.write(run.rejected, packed)
        with progress.stage("score"):
            parity = compare(run.graph, run.rejected, testing, progress)
        passed = parity.drop <= config.max_accuracy_drop
        result = {
            "schema": SCHEMA_VERSION,
            "recipe": "int8",
            "graph_sha256": contract.graph_sha256,
            "calibration_images": len(chosen),
            "max_accuracy_drop": config.max_accuracy_drop,
            "passed": passed,
            "bytes": {"graph": run.graph.stat().st_size, "model": len(packed)},
            **parity.to_json(),
            "seconds": progress.seconds,
        }
        files.write_json(run.conversion, result)
        if not passed:
            raise GateFailed(_refusal(parity, config, run))
        run.rejected.replace(run.model)
        files.write(run.labels, write_labels(contract.labels))
    return result


def _refusal(parity: Parity, config: ConvertConfig, run: RunFolder) -> str:
    return (
        f"{run.rejected} loses {parity.drop:.1f} points of test accuracy (graph {parity.graph}, "
        f"model {parity.model}); --max-accuracy-drop is {config.max_accuracy_drop:g}. Remedy: more "
        "--calibration-images, or a larger drop if you can live with it"
    )


def _balanced(photos: Sequence[Photo], count: int, seed: int) -> list[Photo]:
    """Return `count` photos, as many of each class as there are; the same seed, the same ones."""
    random = np.random.default_rng(seed)
    by_label: dict[str, list[Photo]] = {}
    for i in random.permutation(len(photos)):
        by_label.setdefault(photos[i].label, []).append(photos[i])
    columns = [by_label[label] for label in sorted(by_label)]
    longest = max((len(column) for column in columns), default=0)
    turns = (column[turn] for turn in range(longest) for column in columns if turn < len(column))
    return [photo for photo, _ in zip(turns, range(count), strict=False)]


def _calibration(photos: Sequence[Photo], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return float32 (N, height, width, 3); one black and one white value are put into the first.

    The converter takes the input's scale and zero point from the extremes it sees: with both ends
    of 0..255 there they are exactly 1 / std and mean, and a pixel's byte is the input's byte.
    """
    if not photos:
        raise BadData("no training photos to calibrate on")
    pixels = np.concatenate([to_pixels(open_image(photo.read(), spec), spec) for photo in photos])
    pixels[0, 0, 0, :2] = 0, 255
    return normalise(pixels, spec)


def to_int8(
    graph: bytes, calibration: npt.NDArray[np.float32], spec: InputSpec, output: str
) -> bytes:
    """Return a TFLite flatbuffer: int8 weights per channel, uint8 in, float32 out.

    `graph` is a frozen GraphDef whose operation `output` gives probabilities, `calibration` float32
    (N, height, width, 3). Runs in a process of its own: the converter leaks memory, prints, and
    may crash. Raises BadData when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="retrain-") as folder:
        log = Path(folder) / "log"
        pool = ProcessPoolExecutor(1, get_context("spawn"), _redirect, (str(log),))
        try:
            flatbuffer, (scale, zero_point) = pool.submit(
                _to_int8, graph, calibration, output
            ).result()
        except BrokenProcessPool as error:
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            said = next((line for line in reversed(lines) if line.strip()), "without a word")
            raise BadData(f"the TFLite converter died: {said}") from error
        except RetrainError:
            raise
        except Exception as error:  # the converter's own, undocumented kinds
            raise BadData(f"TFLite does not convert this graph: {error}") from error
        finally:
            pool.shutdown(cancel_futures=True)
    if (np.float32(scale), zero_point) != (np.float32(1 / spec.std), spec.mean):
        raise BadData(
            f"the converter made the input's scale {scale} and zero point {zero_point}, "
            f"not {1 / spec.std} and {spec.mean:g}: a pixel would not be its byte"
        )
    return flatbuffer


def _redirect(log: str) -> None:
    """Send what this process prints, C++ included, to a file."""
    with Path(log).open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def _to_int8(
    graph: bytes, calibration: npt.NDArray[np.float32], output: str
) -> tuple[bytes, tuple[float, int]]:
    from retrain.graph import function, parse, tensorflow

    tf = tensorflow()
    run = function(parse(graph), output)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    flatbuffer = converter.convert()
    detail = tf.lite.Interpreter(model_content=flatbuffer).get_input_details()[0]
    return flatbuffer, detail["quantization"]
