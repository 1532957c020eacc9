"""From the frozen graph to a TFLite model, calibrated on training photos, scored on test photos."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files, metadata
from deploy.contract import Contract, InputSpec, write_labels
from deploy.errors import BadData, GateFailed
from deploy.image import open_image, to_pixels
from deploy.metadata import ModelFile
from retrain import dataset, goldens, layers, model_metadata, recipes, split
from retrain.dataset import Photo
from retrain.graph_classifier import GraphClassifier
from retrain.model_metadata import About
from retrain.parity import Bounds, Parity, Scores, compare, graph_scores
from retrain.progress import Progress
from retrain.recipes import Pixels, Quantization
from retrain.run_folder import RunFolder

SCHEMA_VERSION = 1
_NOISIEST = 10
"""Of so many layers `explain` prints the error."""


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert: `calibration_images` are training photos.

    With `choose`, smallest or fastest, each of `recipes.CHOICES` is tried instead of one recipe.
    `explain` measures the error of each layer of an int8 model. So many `goldens` are put into
    the file, with what is told `about` it.
    """

    output_dir: Path = Path("retrained")
    quantization: Quantization = field(default_factory=Quantization)
    choose: str | None = None
    explain: bool = False
    calibration_images: int = 100
    bounds: Bounds = field(default_factory=Bounds)
    goldens: int = 8
    seed: int = 0
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Material:
    """What a conversion starts from, and what its models are held against.

    `calibration` is uint8 (N, height, width, 3), `expected` what the graph, `reference`, gives the
    photos `testing`, float32 (N, classes). `likely` are test photos to make `goldens` of.
    """

    graph: bytes
    reference: GraphClassifier
    contract: Contract
    calibration: Pixels
    testing: Sequence[Photo]
    expected: Scores
    likely: Sequence[Photo]
    goldens: int
    about: About


@dataclass(frozen=True)
class Candidate:
    """A model file's bytes, and how it compares with the graph."""

    packed: bytes
    parity: Parity


def convert(config: ConvertConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Write model.tflite and labels.txt, score that very file, return what conversion.json holds.

    Raises GateFailed when it is beyond `config.bounds`: the file is then kept under a name that
    says so.
    """
    from retrain.choose import choose

    progress = progress or Progress()
    run = RunFolder(config.output_dir)
    with run.writing():
        material = prepare(run, config, progress)
        table: dict[str, Any] = {}
        how = config.quantization
        if config.choose:
            how, candidate, table = choose(run, material, config, progress)
        else:
            candidate = attempt(material, how, progress)
        if config.explain:
            table["layers"] = _explain(material, how, progress)
        reasons = candidate.parity.beyond(config.bounds)
        result = {
            "schema": SCHEMA_VERSION,
            "recipe": how.recipe,
            "graph_sha256": material.contract.graph_sha256,
            "calibration_images": len(material.calibration),
            **asdict(config.bounds),
            "passed": not reasons,
            "bytes": {"graph": len(material.graph), "model": len(candidate.packed)},
            **candidate.parity.to_json(),
            **table,
            "seconds": progress.seconds,
        }
        files.write(run.rejected, candidate.packed)
        files.write_json(run.conversion, result)
        if reasons:
            raise GateFailed(_refusal(run, candidate.parity, reasons))
        run.rejected.replace(run.model)
        files.write(run.labels, write_labels(material.contract.labels))
    return result


def prepare(run: RunFolder, config: ConvertConfig, progress: Progress) -> Material:
    """Read the photos of the run's manifest: some to calibrate on, all of the test split."""
    contract = run.read_contract()
    manifest = dataset.read_manifest(run.manifest)
    training = [photo for photo, name in manifest if name == split.TRAINING]
    testing = [photo for photo, name in manifest if name == split.TESTING]
    with progress.stage("calibration"):
        chosen = _balanced(training, config.calibration_images, config.seed)
        calibration = _calibration(chosen, contract.input)
    with progress.stage("score"):
        reference = GraphClassifier.open(run.graph)
        expected = graph_scores(reference, testing, progress)
    return Material(
        run.graph.read_bytes(),
        reference,
        contract,
        calibration,
        testing,
        expected,
        _balanced(testing, len(testing), config.seed),
        config.goldens,
        config.about,
    )


def attempt(material: Material, how: Quantization, progress: Progress) -> Candidate:
    """Convert and score; raise BadData where TFLite does not convert the graph."""
    contract, calibration = material.contract, material.calibration
    calibrated = f", calibrated on {len(calibration)} training photos" if how.kind.ranges else ""
    progress.info(f"converting: {how.recipe}{calibrated}")
    with progress.stage("convert"):
        flatbuffer = recipes.quantize(
            material.graph, how, calibration, contract.input, contract.output
        )
    contract = replace(contract, recipe=how.recipe)
    with progress.stage("goldens"):
        bare = ModelFile(flatbuffer, contract)
        kept = goldens.make(material.reference, bare, material.likely, material.goldens)
    told = model_metadata.describe(contract, material.about, len(kept))
    flatbuffer = model_metadata.attach(flatbuffer, told)
    packed = metadata.pack(flatbuffer, contract, kept, goldens.tolerance(how.recipe))
    with progress.stage("score"):
        parity = compare(material.expected, metadata.unpack(packed), material.testing, progress)
    return Candidate(packed, parity)


def _explain(material: Material, how: Quantization, progress: Progress) -> list[dict[str, Any]]:
    with progress.stage("explain"):
        found = layers.explain(
            material.graph,
            replace(how, keep_float=()),
            material.calibration,
            material.contract.input,
            material.contract.output,
        )
    progress.info(f"the noisiest of {len(found)} layers, for --keep-float (signal to noise):")
    for layer in found[:_NOISIEST]:
        progress.info(f"  {layer.signal_to_noise_db:5.1f} dB  {layer.name}")
    return [layer._asdict() for layer in found]


def _refusal(run: RunFolder, parity: Parity, reasons: list[str]) -> str:
    worst = (
        f"  {each.photo}: {each.graph}, by the model {each.model} ({each.difference:.2f} apart)"
        for each in parity.worst
    )
    return "\n".join(
        [
            f"{run.rejected}: {'; '.join(reasons)}. Remedy: more --calibration-images, another "
            "--quantize, --explain and --keep-float, or wider bounds if you can live with it",
            *worst,
        ]
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


def _calibration(photos: Sequence[Photo], spec: InputSpec) -> Pixels:
    if not photos:
        raise BadData("no training photos to calibrate on")
    pixels = [to_pixels(open_image(photo.read(), spec), spec) for photo in photos]
    return recipes.spanned(np.concatenate(pixels))
