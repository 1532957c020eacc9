"""`selftest`: check that a model computes the same on this device as where it was converted."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy import untrusted_files, versioned_json
from deploy.bundle_texts import SUMS
from deploy.errors import BadData, GateFailed, MissingPackage, RetrainError
from deploy.system.error_messages import doing
from deploy.system.machine import Device
from deploy.system.terminal import align, say

if TYPE_CHECKING:
    from deploy.classifier import Classifier

SCHEMA_VERSION = 1
_NO_GOLDENS = (
    "no goldens in this file: what it computes was run and not compared; "
    "`retrain convert` of this version puts them in"
)


@dataclass(frozen=True)
class GoldenCount:
    """How many goldens give the same result here, of how many; `tolerance` is of a score."""

    right: int
    total: int
    tolerance: float


@dataclass(frozen=True)
class RuntimeVersion:
    """The TFLite runtime that ran the model."""

    name: str
    version: str


@dataclass(frozen=True)
class SelfTest:
    """The result of a self-test; a field is None if it could not be found out.

    `bytes` and `sha256` are of the model file; `files` counts the files that have the digest in
    the SHA256SUMS beside it, None if that does not list the model; `packages` are versions by name;
    `load_ms` is the time to load the model, `ms` the milliseconds of each step of one photo.
    """

    model: str
    device: Device
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    bytes: int | None = None
    files: int | None = None
    labels: int | None = None
    goldens: GoldenCount | None = None
    runtime: RuntimeVersion | None = None
    packages: Mapping[str, str] | None = None
    load_ms: float | None = None
    ms: Mapping[str, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "schema": SCHEMA_VERSION,
            "passed": self.passed,
            "failures": list(self.failures),
            "notes": list(self.notes),
            "model": self.model,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "files": self.files,
            "labels": self.labels,
            "goldens": self.goldens and asdict(self.goldens),
            "runtime": self.runtime and asdict(self.runtime),
            "packages": self.packages and dict(self.packages),
            "load_ms": self.load_ms,
            "ms": self.ms and dict(self.ms),
            "device": asdict(self.device),
        }

    @classmethod
    def from_json(cls, value: Any, where: str, remedy: str) -> "SelfTest":
        """Return the result in JSON values that a device printed; raise BadData for others.

        `where` and `remedy` are for the error, as in `versioned_json.read`.
        """
        fields = versioned_json.read(value, where, SCHEMA_VERSION, remedy)
        return fields.record(cls)


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def selftest(model: Path, as_json: bool) -> None:
    """Check that MODEL computes the same here as where it was converted.

    Prints PASS, or FAIL with the reasons and exit code 4.
    """
    result = run(model)
    say(*([json.dumps(result.to_json())] if as_json else table(result)))
    if not result.passed:
        raise GateFailed(f"{model}: the self-test failed")


def run(path: Path) -> SelfTest:
    """Return the result of the self-test of the model at `path`.

    If a SHA256SUMS beside the model lists it, all files of that list are checked. A bad file and
    a missing package are failures in the result, never errors.
    """
    from deploy.system.machine import device

    result = SelfTest(str(path), device())
    try:
        with _explained():
            content = untrusted_files.read(path, untrusted_files.MAX_MODEL_BYTES)
            digest = hashlib.sha256(content).hexdigest()
            result = replace(result, sha256=digest, bytes=len(content))
            files, failures = _check_files(path)
            result = replace(result, files=files, failures=failures)

            import numpy as np
            import PIL

            from deploy.check_goldens import check_goldens
            from deploy.classifier import Classifier

            packages = {"numpy": np.__version__, "pillow": PIL.__version__}
            result = replace(result, packages=packages)
            start = time.perf_counter()
            classifier = Classifier.open(path)
            load_ms = 1000 * (time.perf_counter() - start)
            name, version, _ = classifier.model.runtime
            labels = len(classifier.contract.labels)
            result = replace(result, load_ms=load_ms, labels=labels)
            result = replace(result, runtime=RuntimeVersion(name, version))
            failures = tuple(check_goldens(classifier))
            total, tolerance = len(classifier.file.goldens), classifier.file.tolerance
            result = replace(
                result,
                failures=(*result.failures, *failures),
                goldens=GoldenCount(total - len(failures), total, tolerance),
                notes=() if total else (_NO_GOLDENS,),
            )
            result = replace(result, ms=_time_photo(classifier, use_golden=not failures))
    except RetrainError as error:
        result = replace(result, failures=(*result.failures, str(error)))
    return replace(result, device=device())


@contextmanager
def _explained() -> Iterator[None]:
    """Raise a RetrainError for a package or a file that cannot be loaded in the block."""
    try:
        yield
    except ImportError as error:
        missing = MissingPackage.of_device(error)
        if not missing:
            raise
        raise missing from error
    except OSError as error:
        raise BadData(f"{error.filename}: {error.strerror}") from error


def _check_files(model: Path) -> tuple[int | None, tuple[str, ...]]:
    """Return how many files beside `model` have their digest in SHA256SUMS, and the failures.

    The count is None without a SHA256SUMS that lists the model.
    """
    sums = model.with_name(SUMS)
    text = sums.read_text("utf-8", "replace") if sums.is_file() else ""
    # After the digest comes a space, then the kind of `sha256sum`: a space, or * for binary.
    lines = [line.partition(" ") for line in text.splitlines()]
    listed = {Path(name[1:]): digest for digest, _, name in lines if name.startswith((" ", "*"))}
    if Path(model.name) not in listed:
        return None, ()
    right, failures = 0, []
    for name, digest in listed.items():
        file = model.parent / name
        if not file.is_file():
            failures.append(f"{file}: missing")
        elif _sha256(file) != digest.lower():
            failures.append(f"{file}: not the file that {SUMS} tells of: copy it again")
        else:
            right += 1
    return right, tuple(failures)


def _sha256(path: Path) -> str:
    with doing("read", path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _time_photo(classifier: "Classifier", use_golden: bool) -> dict[str, float]:
    """Return the milliseconds of each step of the second of two runs: a golden or a black photo."""
    import numpy as np

    spec = classifier.contract.input
    goldens = classifier.file.goldens if use_golden else ()
    photo = goldens[0].png if goldens else np.zeros((spec.height, spec.width, 3), np.uint8)
    classifier.answer(photo)
    return classifier.answer(photo).ms


def table(result: SelfTest) -> list[str]:
    """Return the lines that show a result to a person."""
    device, goldens, runtime = result.device, result.goldens, result.runtime
    rows = {
        "model": result.model,
        "sha256": result.sha256,
        "files": f"no {SUMS} lists it"
        if result.files is None
        else f"{result.files} as {SUMS} says",
        "labels": result.labels,
        "runtime": runtime and f"{runtime.name} {runtime.version}",
        "packages": _pairs(result.packages, "{} {}"),
        "goldens": goldens and f"{goldens.right} of {goldens.total} within {goldens.tolerance:g}",
        "load": result.load_ms and f"{result.load_ms:.0f} ms",
        "one photo": _pairs(result.ms, "{} {:.1f} ms"),
        "board": device.board,
        "cpu": f"{device.cpu} ({device.architecture}, {device.bits} bits)",
        "system": f"{device.os}, kernel {device.kernel}, Python {device.python}",
        "governor": device.governor,
        "temperature": device.temperature_c and f"{device.temperature_c:.1f} C",
        "throttling": device.throttling,
    }
    cells = [(name, "unknown" if value is None else str(value)) for name, value in rows.items()]
    lines = align(cells, (0, 1))
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"FAIL: {failure}" for failure in result.failures]
    if result.passed:
        compared = goldens and goldens.total
        lines.append("PASS" if compared else "PASS, but no score was compared")
    return lines


def _pairs(values: Mapping[str, Any] | None, form: str) -> str | None:
    return ", ".join(form.format(*pair) for pair in values.items()) if values else None
