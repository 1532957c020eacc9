"""From the frozen graph to a TFLite model, calibrated on training photos, scored on test photos."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files, metadata
from deploy.contract import Contract, InputSpec, write_labels
from deploy.errors import BadData, GateFailed, WrongUse
from deploy.image import open_image, to_pixels
from deploy.metadata import ModelFile
from retrain import (
    dataset,
    familiarity,
    goldens,
    graph,
    layers,
    model_metadata,
    recipes,
    rejection,
    split,
    target_python,
    targets,
)
from retrain.dataset import Photo
from retrain.graph_classifier import GraphClassifier
from retrain.model_metadata import About
from retrain.parity import Bounds, Parity, Scores, compare, graph_scores
from retrain.progress import Progress
from retrain.recipes import Pixels, Quantization
from retrain.rejection import Rejection
from retrain.run_folder import RunFolder
from retrain.targets import Target

SCHEMA_VERSION = 1
_EACH = 20
"""Of so many training photos the mean of a class is taken."""
_NOISIEST = 10
"""Of so many layers `explain` prints the error."""


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert: `calibration_images` are training photos.

    With `choose`, smallest or fastest, each of `recipes.CHOICES` is tried instead of one recipe.
    `explain` measures the error of each layer of an int8 model. So many `goldens` are put into
    the file, with what is told `about` it. The model must run on `target`, and pass its goldens
    with each of the programs `target_python`, before it takes its place. Above 0, `reject_rate`
    is the share of photos of known classes that may be called unknown.
    """

    output_dir: Path = Path("retrained")
    quantization: Quantization = field(default_factory=Quantization)
    choose: str | None = None
    explain: bool = False
    calibration_images: int = 100
    target: str | None = None
    target_python: tuple[Path, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    goldens: int = 8
    reject_rate: float = 0.0
    seed: int = 0
    about: About = field(default_factory=About)

    def __post_init__(self) -> None:
        if self.target_python and not self.goldens:
            raise WrongUse("--target-python proves the goldens: --goldens 0 leaves it none")


@dataclass(frozen=True)
class Material:
    """What a conversion starts from, and what its models are held against.

    `calibration` is uint8 (N, height, width, 3), `testing` are the test photos, `likely` those to
    make goldens of, `known` validation photos to calibrate the reject rate on.
    """

    config: ConvertConfig
    graph: bytes
    contract: Contract
    calibration: Pixels
    testing: Sequence[Photo]
    likely: Sequence[Photo]
    known: Sequence[Photo]
    target: Target | None
    progress: Progress

    # Both when they are asked for, after the first conversion: until then TensorFlow is in the
    # converter's process only, and the two do not add up.
    @cached_property
    def reference(self) -> GraphClassifier:
        """The graph, to be held against."""
        return GraphClassifier(graph.parse(self.graph), self.contract)

    @cached_property
    def expected(self) -> Scores:
        """What it gives the photos `testing`, float32 (N, classes)."""
        return graph_scores(self.reference, self.testing, self.progress)


@dataclass(frozen=True)
class Candidate:
    """A model file's bytes, and how it compares with the graph.

    `otherwise` is how a model compares that the target cannot run, where one was made first.
    """

    packed: bytes
    parity: Parity
    rejection: Rejection | None = None
    otherwise: Parity | None = None


def convert(config: ConvertConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Write model.tflite and labels.txt, score that very file, return what conversion.json holds.

    Raises GateFailed when it is beyond `config.bounds`: the file is then kept under a name that
    says so.
    """
    from retrain.choose import choose

    progress = progress or Progress()
    for python in config.target_python:
        target_python.find(python)
    run = RunFolder(config.output_dir)
    with run.writing():
        material = prepare(run, config, progress)
        table: dict[str, Any] = {}
        how = config.quantization
        if config.choose:
            how, candidate, table = choose(run, material)
        else:
            candidate = attempt(material, how)
        if config.explain:
            table["layers"] = _explain(material, how)
        files.write(run.rejected, candidate.packed)
        reasons = candidate.parity.beyond(config.bounds) or _unproved(run, config, progress)
        result = {
            "schema": SCHEMA_VERSION,
            "recipe": how.recipe,
            "graph_sha256": material.contract.graph_sha256,
            "calibration_images": len(material.calibration),
            **asdict(config.bounds),
            "passed": not reasons,
            "bytes": {"graph": run.graph.stat().st_size, "model": len(candidate.packed)},
            **candidate.parity.to_json(),
            "rejection": candidate.rejection and candidate.rejection._asdict(),
            "otherwise": candidate.otherwise and candidate.otherwise.to_json(),
            **table,
            "seconds": progress.seconds,
        }
        files.write_json(run.conversion, result)
        if reasons:
            raise GateFailed(_refusal(run, candidate.parity, reasons))
        run.rejected.replace(run.model)
        files.write(run.labels, write_labels(material.contract.labels))
    return result


def prepare(run: RunFolder, config: ConvertConfig, progress: Progress) -> Material:
    """Read the photos of the run's manifest: some to calibrate on, all of the test split."""
    target = config.target or ("edgetpu" if config.quantization.recipe == "int8-edgetpu" else None)
    contract = run.read_contract()
    manifest = dataset.read_manifest(run.manifest)
    training, known, testing = (
        [photo for photo, name in manifest if name == wanted]
        for wanted in (split.TRAINING, split.VALIDATION, split.TESTING)
    )
    with progress.stage("calibration"):
        chosen = _balanced(training, config.calibration_images, config.seed)
        calibration = _calibration(chosen, contract.input)
    frozen = run.graph.read_bytes()
    if config.reject_rate:
        near = _balanced(training, _EACH * len(contract.labels), config.seed)
        with progress.stage("familiarity"):
            frozen = familiarity.add(frozen, contract, near, known, progress)
    return Material(
        config,
        frozen,
        contract,
        calibration,
        testing,
        _balanced(testing, len(testing), config.seed),
        known,
        targets.find(target) if target else None,
        progress,
    )


def attempt(material: Material, how: Quantization) -> Candidate:
    """Convert and score; raise BadData where TFLite does not convert the graph.

    Also where the target does not run the model. If dense layers with one scale each help it,
    they get that, and the model that would be without is scored too.
    """
    photos = f", calibrated on {len(material.calibration)} training photos"
    target, progress = material.target, material.progress
    progress.info(f"converting: {how.recipe}{photos if how.kind.ranges else ''}")
    flatbuffer = _flatbuffer(material, how)
    otherwise = None
    if target and target.per_tensor_dense and targets.check(flatbuffer, target):
        otherwise = _compared(material, ModelFile(flatbuffer, material.contract))
        progress.info(f"converting again: one scale for each dense layer, for {target.name}")
        flatbuffer = _flatbuffer(material, replace(how, per_tensor_dense=True))
    if target:
        targets.require(flatbuffer, target)
    candidate = _finish(material, how, flatbuffer)
    if otherwise:
        progress.info(f"test accuracy {candidate.parity.model}, without that {otherwise.model}")
    return replace(candidate, otherwise=otherwise)


def _flatbuffer(material: Material, how: Quantization) -> bytes:
    spec, output = material.contract.input, material.contract.output
    with material.progress.stage("convert"):
        return recipes.quantize(material.graph, how, material.calibration, spec, output)


def _compared(material: Material, file: ModelFile) -> Parity:
    with material.progress.stage("score"):
        return compare(material.expected, file, material.testing, material.progress)


def _finish(material: Material, how: Quantization, flatbuffer: bytes) -> Candidate:
    config, progress = material.config, material.progress
    contract = replace(material.contract, recipe=how.recipe)
    found = None
    if config.reject_rate:
        with progress.stage("reject"):
            bare = ModelFile(flatbuffer, contract)
            found = rejection.calibrate(bare, material.known, config.reject_rate, progress)
            contract = replace(contract, reject_threshold=found.threshold)
    with progress.stage("goldens"):
        bare = ModelFile(flatbuffer, contract)
        kept = goldens.make(material.reference, bare, material.likely, config.goldens)
    told = model_metadata.describe(contract, config.about, len(kept))
    flatbuffer = model_metadata.attach(flatbuffer, told)
    packed = metadata.pack(flatbuffer, contract, kept, goldens.tolerance(how.recipe))
    return Candidate(packed, _compared(material, metadata.unpack(packed)), found)


def _unproved(run: RunFolder, config: ConvertConfig, progress: Progress) -> list[str]:
    """Let each Python of `target_python` run the goldens; return why one did not pass them."""
    try:
        for python in config.target_python:
            record = target_python.selftest(python, run.rejected)
            runtime = "{name} {version}".format(**record["runtime"])
            progress.info(f"{python}: all goldens pass on {runtime}")
    except GateFailed as error:
        return [str(error)]
    return []


def _explain(material: Material, how: Quantization) -> list[dict[str, Any]]:
    progress = material.progress
    with progress.stage("explain"):
        found = layers.explain(
            material.graph,
            how,
            material.calibration,
            material.contract.input,
            material.contract.output,
        )
    progress.info(
        f"of {len(found)} layers, those whose errors move the scores most, for --keep-float\n"
        "(signal to noise in dB: of the scores, of the layer's own output):"
    )
    for layer in found[:_NOISIEST]:
        scores = "    -" if layer.scores_db is None else f"{layer.scores_db:5.1f}"
        progress.info(f"  {scores} {layer.signal_to_noise_db:5.1f}  {layer.name}")
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
