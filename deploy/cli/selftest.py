"""`selftest`: whether a model gives here what it gave where it was converted."""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.bundle_texts import SUMS
from deploy.errors import BadData, GateFailed, MissingPackage, RetrainError
from deploy.system.terminal import say

if TYPE_CHECKING:
    from deploy.classifier import Classifier

SCHEMA_VERSION = 1


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def selftest(model: Path, as_json: bool) -> None:
    """Check that MODEL gives here what it gave where it was converted.

    Prints PASS, or FAIL with the reasons and exit code 4.
    """
    record = run(model)
    say(*([json.dumps(record)] if as_json else table(record)))
    if not record["passed"]:
        raise GateFailed(f"{model}: the self-test failed")


def run(path: Path) -> dict[str, Any]:
    """Return what the self-test of the model at `path` found, as JSON values.

    `passed` is whether `failures` is empty; `notes` tell what could not be checked; None is
    unknown. Beside a model, the files that SHA256SUMS lists are checked too. Raises nothing that
    a bad file or a missing package causes: that is a failure.
    """
    from deploy.system.machine import device

    failures: list[str] = []
    notes: list[str] = []
    record: dict[str, Any] = {"schema": SCHEMA_VERSION, "passed": False}
    record |= {"failures": failures, "notes": notes, "model": str(path)}
    record |= dict.fromkeys(
        ("sha256", "bytes", "files", "labels", "goldens", "runtime", "packages", "load_ms", "ms")
    )
    try:
        try:
            content = path.read_bytes()
            record |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            record["files"] = _check_files(path.parent, failures)
            _check_model(path, record)
        except ImportError as error:
            missing = MissingPackage.of_device(error)
            if not missing:
                raise
            raise missing from error
        except OSError as error:
            raise BadData(f"{error.filename}: {error.strerror}") from error
    except RetrainError as error:
        failures.append(str(error))
    record["device"] = device()._asdict()
    record["passed"] = not failures
    return record


def _check_files(folder: Path, failures: list[str]) -> int | None:
    """Return how many files beside the model are those of SHA256SUMS, None without one."""
    sums = folder / SUMS
    if not sums.is_file():
        return None
    right = 0
    for line in sums.read_text("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file():
            failures.append(f"{file}: missing")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            failures.append(f"{file}: not the file that {SUMS} tells of: copy it again")
        else:
            right += 1
    return right


def _check_model(path: Path, record: dict[str, Any]) -> None:
    import numpy as np
    import PIL

    from deploy import goldens
    from deploy.classifier import Classifier

    record["packages"] = {"numpy": np.__version__, "pillow": PIL.__version__}
    started = time.perf_counter()
    classifier = Classifier.open(path)
    record["load_ms"] = 1000 * (time.perf_counter() - started)
    record["labels"] = len(classifier.contract.labels)
    record["runtime"] = dict(zip(("name", "version"), classifier.model.runtime, strict=False))
    file = classifier.file
    failed = goldens.check(classifier)
    record["failures"] += failed
    record["goldens"] = {
        "right": len(file.goldens) - len(failed),
        "total": len(file.goldens),
        "tolerance": file.tolerance,
    }
    if not file.goldens:
        record["notes"].append(
            "no goldens in this file: what it computes was run and not compared; "
            "`retrain convert` of this version puts them in"
        )
    record["ms"] = _timed(classifier, photo=not failed)


def _timed(classifier: "Classifier", photo: bool) -> dict[str, float]:
    """Return the milliseconds of one photo, the second of two; a golden, or else a black one."""
    import numpy as np

    spec = classifier.contract.input
    goldens = classifier.file.goldens if photo else ()
    timed = goldens[0].png if goldens else np.zeros((spec.height, spec.width, 3), np.uint8)
    classifier.answer(timed)
    return classifier.answer(timed).ms


def table(record: dict[str, Any]) -> list[str]:
    """Return the lines that show a record of `run` to a person."""
    device, goldens, runtime = record["device"], record["goldens"], record["runtime"]
    rows = {
        "model": record["model"],
        "sha256": record["sha256"],
        "files": f"no {SUMS}" if record["files"] is None else f"{record['files']} as {SUMS} says",
        "labels": record["labels"],
        "runtime": runtime and f"{runtime['name']} {runtime['version']}",
        "packages": _pairs(record["packages"], "{} {}"),
        "goldens": goldens and "{right} of {total} within {tolerance:g}".format(**goldens),
        "load": record["load_ms"] and f"{record['load_ms']:.0f} ms",
        "one photo": _pairs(record["ms"], "{} {:.1f} ms"),
        "board": device["board"],
        "cpu": f"{device['cpu']} ({device['architecture']}, {device['bits']} bits)",
        "system": f"{device['os']}, kernel {device['kernel']}, Python {device['python']}",
        "governor": device["governor"],
        "temperature": device["temperature_c"] and f"{device['temperature_c']:.1f} C",
        "throttling": device["throttling"],
    }
    lines = [f"{name:<12} {'unknown' if value is None else value}" for name, value in rows.items()]
    lines += [f"note: {note}" for note in record["notes"]]
    lines += [f"FAIL: {failure}" for failure in record["failures"]]
    if record["passed"]:
        lines.append("PASS" if goldens["total"] else "PASS, but no score was compared")
    return lines


def _pairs(values: dict[str, Any] | None, form: str) -> str | None:
    return ", ".join(form.format(*pair) for pair in values.items()) if values else None
