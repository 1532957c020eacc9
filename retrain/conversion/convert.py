"""From the frozen graph to a TFLite model, calibrated on training photos, scored on test photos."""

from dataclasses import asdict
from hashlib import sha256
from typing import Any

from deploy import files
from deploy.contract import write_labels
from deploy.errors import GateFailed
from deploy.system.temporary_files import scratch
from retrain.conversion import prove_goldens
from retrain.conversion.build_model import converted, scored
from retrain.conversion.choose_recipe import choose
from retrain.conversion.inputs import Material, prepare
from retrain.conversion.layer_errors import explain
from retrain.conversion.parity import Parity
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.conversion import ConvertSettings

SCHEMA_VERSION = 1
_NOISIEST = 10
"""Of so many layers `explain` prints the error."""


def convert(config: ConvertSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Write model.tflite and labels.txt, score that very file, return what conversion.json holds.

    Raises GateFailed when it is beyond `config.bounds`: the file is then kept under a name that
    says so.
    """
    progress = progress or Progress()
    for python in config.target_python:
        prove_goldens.find(python)
    run = RunFolder(config.output_dir)
    run.read_contract()  # where there is no run, no folder is made for one
    with run.writing():
        material = prepare(run, config, progress)
        run.forget_recipes()
        layers = {"layers": _explain(material)} if config.explain else {}
        how, table = config.quantization, dict[str, Any]()
        if config.choose:
            how, candidate, table = choose(run, material)
        else:
            candidate = scored(material, converted(material, how))
        packed = candidate.packed
        reasons = candidate.parity.beyond(config.bounds) or _unproved(packed, config, progress)
        result = {
            "schema": SCHEMA_VERSION,
            "recipe": how.recipe,
            "graph_sha256": material.contract.graph_sha256,
            "calibration_images": len(material.calibration),
            **asdict(config.bounds),
            "passed": not reasons,
            "model_sha256": sha256(packed).hexdigest(),
            "bytes": {"graph": run.graph.stat().st_size, "model": len(packed)},
            **candidate.parity.to_json(),
            "rejection": candidate.rejection and candidate.rejection._asdict(),
            "otherwise": candidate.otherwise and candidate.otherwise.to_json(),
            **table,
            **layers,
            "seconds": progress.seconds,
        }
        # The record is written after what it tells of, and names it by its digest: a conversion
        # that is killed before is one that did not take place.
        if reasons:
            files.write(run.rejected, packed)
            files.write_json(run.conversion, result)
            raise GateFailed(*_refusal(run, candidate.parity, reasons))
        files.write(run.model, packed)
        files.write(run.labels, write_labels(material.contract.labels))
        files.write_json(run.conversion, result)
        run.rejected.unlink(missing_ok=True)
    return result


def _unproved(packed: bytes, config: ConvertSettings, progress: Progress) -> list[str]:
    """Let each Python of `target_python` run the goldens; return why one did not pass them."""
    try:
        with scratch() as folder:
            model = folder / "model.tflite"
            model.write_bytes(packed)
            for python in config.target_python:
                record = prove_goldens.selftest(python, model)
                runtime = "{name} {version}".format(**record["runtime"])
                progress.info(f"{python}: all goldens pass on {runtime}")
    except GateFailed as error:
        return [str(error)]
    return []


def _explain(material: Material) -> list[dict[str, Any]]:
    progress = material.progress
    with progress.stage("explain"):
        found = explain(
            material.graph,
            material.config.explained,
            material.calibration,
            material.contract.input,
            material.contract.output,
        )
    progress.info(
        f"of {len(found)} layers, those whose errors move the scores most, for --keep-float"
    )
    progress.info("(signal to noise in dB: of the scores, of the layer's own output):")
    for layer in found[:_NOISIEST]:
        scores = "    -" if layer.scores_db is None else f"{layer.scores_db:5.1f}"
        progress.info(f"  {scores} {layer.signal_to_noise_db:5.1f}  {layer.name}")
    return [layer._asdict() for layer in found]


def _refusal(run: RunFolder, parity: Parity, reasons: list[str]) -> list[str]:
    worst = (
        f"  {each.photo}: {each.graph}, by the model {each.model} ({each.difference:.2f} apart)"
        for each in parity.worst
    )
    return [
        f"{run.rejected}: {'; '.join(reasons)}. Remedy: more --calibration-images, another "
        "--quantize, --explain and --keep-float, or wider bounds if you can live with it",
        *worst,
    ]
