"""Convert a run's frozen graph to a TFLite model, and check it on the test photos."""

from hashlib import sha256

from deploy import files, goldens
from deploy.contract import write_labels
from deploy.errors import GateFailed, WrongUse
from deploy.system.counts import with_noun
from deploy.system.temporary_files import scratch
from retrain import predictions
from retrain.conversion import layer_errors
from retrain.conversion.build_model import convert_graph, load_reference, score_model
from retrain.conversion.choose_recipe import choose
from retrain.conversion.inputs import ConversionInputs, is_calibrated, read_inputs
from retrain.conversion.layer_errors import LayerError
from retrain.conversion.prove_goldens import find_python, prove_goldens
from retrain.conversion.result import ConversionResult
from retrain.data import split
from retrain.data.photo_table import PhotoTable
from retrain.predictions import PredictionRows, Predictions
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.conversion import RECIPES, ConvertSettings

_PRINTED_LAYERS = 10
"""Layers whose error `explain` prints; conversion.json has all."""


def convert(settings: ConvertSettings, progress: Progress | None = None) -> ConversionResult:
    """Write the model, its labels, predictions and figures into the run's folder.

    The model file itself is scored on the test photos. If it exceeds `settings.bounds`, it is
    written to model.rejected.tflite instead, and GateFailed is raised. Raises WrongUse and BadData
    for settings that do not fit, and for a run that is damaged or incomplete.
    """
    progress = progress or Progress()
    for python in settings.target_python:
        find_python(python)
    run = RunFolder(settings.output_dir)
    labels = run.read_contract().labels  # raises before a folder is created for no run
    most = goldens.most(labels)
    if settings.goldens > most:
        raise WrongUse(
            f"`goldens` {settings.goldens}: with {len(labels):,} labels a model file holds the "
            f"scores of {most} at most"
        )
    with run.writing():
        inputs = read_inputs(run, settings, progress)
        run.forget_recipes()
        layers = _explain(inputs, settings, progress) if settings.explain else None
        comparison = None
        if settings.choose:
            model, comparison = choose(run, inputs, settings.choose, settings, progress)
        else:
            converted = convert_graph(inputs, settings.quantization, settings, progress)
            reference = load_reference(inputs, progress)
            model = score_model(inputs, converted, reference, settings, progress)
        reasons = model.parity.violations(settings.bounds) or _failures_on_targets(
            model.content, settings, progress
        )
        progress.show_seconds()
        calibrated = is_calibrated(model.quantization, inputs.trunk)
        result = ConversionResult(
            recipe=model.quantization.recipe,
            graph_sha256=inputs.contract.graph_sha256,
            composed=inputs.trunk_for(model.quantization) is not None,
            calibration_images=len(inputs.calibration) if calibrated else 0,
            bounds=settings.bounds,
            passed=not reasons,
            model_sha256=sha256(model.content).hexdigest(),
            graph_bytes=run.graph.stat().st_size,
            model_bytes=len(model.content),
            parity=model.parity,
            rejection=model.rejection,
            per_channel_dense=model.per_channel_dense,
            comparison=comparison,
            layers=layers,
            seconds=dict(progress.seconds),
            settings=settings,
        )
        # conversion.json is written after the model, and names it by its digest: if the process is
        # killed in between, the digest shows that the record is of another model.
        if reasons:
            files.write(run.rejected, model.content)
            files.write_json(run.conversion, result.to_json())
            raise GateFailed(*_refusal(run, result, reasons))
        files.write(run.model, model.content)
        files.write(run.labels, write_labels(labels))
        block = (model.scores, PhotoTable.of(inputs.test_photos), split.TESTING)
        rows = PredictionRows.of_scores([block], labels)
        predictions.write(run.model_predictions, Predictions(result.model_sha256, rows))
        files.write_json(run.conversion, result.to_json())
        run.rejected.unlink(missing_ok=True)
    return result


def _failures_on_targets(
    content: bytes, settings: ConvertSettings, progress: Progress
) -> list[str]:
    """Run the goldens with each Python of `target_python`; return why one failed, [] if none."""
    try:
        with scratch() as folder:
            path = folder / "model.tflite"
            path.write_bytes(content)
            for python in settings.target_python:
                proof = prove_goldens(python, path)
                progress.info(f"{python}: all goldens pass on {proof.runtime}")
    except GateFailed as error:
        return [str(error)]
    return []


def _explain(
    inputs: ConversionInputs, settings: ConvertSettings, progress: Progress
) -> tuple[LayerError, ...]:
    """Measure the errors of the layers, and print the largest."""
    quantization = settings.explained_quantization
    with progress.stage("explain"):
        layers = layer_errors.explain(inputs.graph, quantization, inputs.calibration)
    progress.info(
        f"of {with_noun(len(layers), 'layer')}, those whose errors move the scores most, for "
        "`keep_float`"
    )
    progress.info("(signal to noise in dB: of the scores, of the layer's own output):")
    for layer in layers[:_PRINTED_LAYERS]:
        scores = "    -" if layer.scores_db is None else f"{layer.scores_db:5.1f}"
        progress.info(f"  {scores} {layer.signal_to_noise_db:5.1f}  {layer.name}")
    return tuple(layers)


def _refusal(run: RunFolder, result: ConversionResult, reasons: list[str]) -> list[str]:
    """Return the lines of the error for a model that the gate refused."""
    worst = (
        f"  {photo.photo}: {photo.graph}, by the model {photo.model} ({photo.difference:.2f} apart)"
        for photo in result.parity.worst
    )
    record = RECIPES[result.recipe]
    remedies = []
    if result.parity.violations(result.bounds):
        if result.calibration_images:
            remedies.append("more `calibration_images`")
        if not result.comparison:  # it is of the others, which were refused too
            remedies.append("another `recipe`")
        if record.explainable and record.mixed_precision:
            remedies.append("`explain` and `keep_float`")
        remedies.append("wider bounds if you can live with it")
    else:
        remedies += ["another `recipe`", "another version of the target's runtime"]
    *others, last = remedies
    return [
        f"{run.rejected}: {'; '.join(reasons)}. "
        f"Remedy: {', '.join([*others, f'or {last}']) if others else last}",
        *worst,
    ]
