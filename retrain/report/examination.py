"""Take what the doctor found and the learning curve from a run; measure what it lacks."""

from deploy.errors import RetrainError
from deploy.system.error_messages import explain
from retrain.data.photo import shown
from retrain.doctor import examine
from retrain.doctor.finding import Finding
from retrain.progress import Progress
from retrain.report import findings, learning_curve
from retrain.report.learning_curve import LearningCurve
from retrain.report.run_inputs import RunInputs
from retrain.settings.training import HeadSettings


def examine_run(
    inputs: RunInputs, progress: Progress
) -> tuple[tuple[Finding, ...], LearningCurve | None, str | None]:
    """Return the doctor's findings and the learning curve; measure what the run lacks.

    Where the photos cannot be examined, such as on another machine, the reason comes last, and is
    a warning.
    """
    diagnosis = findings.read(inputs)
    path, graph_sha256 = inputs.run.learning_curve, inputs.contract.graph_sha256
    curve = learning_curve.read(path, graph_sha256)
    needs_curve = curve is None and not inputs.is_adopted
    if diagnosis is not None and not needs_curve:
        return diagnosis, curve, None
    try:
        data = examine.load(inputs.source, inputs.split_settings, progress, inputs.adopted_labels)
    except (RetrainError, OSError) as error:
        reason = reason_of(error, inputs)
        progress.warn(f"the photos could not be examined: {reason}")
        return diagnosis or (), curve, reason
    if diagnosis is None:
        diagnosis = findings.examine_photos(inputs, data, progress)
    if needs_curve:
        with progress.stage("learning curve"):
            trained = inputs.settings.head
            head = HeadSettings(seed=trained.seed, class_weight=trained.class_weight)
            curve = learning_curve.measure(data, head, graph_sha256)
            learning_curve.write(path, curve)
    return diagnosis, curve, None


def reason_of(error: RetrainError | OSError, inputs: RunInputs) -> str:
    """Return why something that the run lacks could not be made again, and the remedy."""
    reason = explain(error) if isinstance(error, OSError) else str(error)
    cache_dir = inputs.source.cache_dir
    if cache_dir.is_dir():
        return reason
    return (
        f"{reason}. The cache folder of the run, {shown(cache_dir)}, is gone and cannot be made "
        "again: make it, or train again with another `cache_dir`"
    )
