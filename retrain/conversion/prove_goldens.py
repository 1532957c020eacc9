"""Run the goldens of a model file with another Python, which has the runtime of the target."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy import versioned_json
from deploy.bundle import program
from deploy.errors import BadData, GateFailed, RetrainError, WrongUse, last_line
from deploy.requirements import OLDEST_PYTHON
from deploy.system.child_process import lifeline
from deploy.system.temporary_files import scratch

TIME_LIMIT_S = 300.0
_SELFTEST_VERSION = 1
"""Version of the record of `selftest --json` that this module reads."""
_REQUIRED_PACKAGES = "click, numpy, Pillow and tflite-runtime or ai-edge-litert"
_PROBE = """
import os, sys, threading
print(*sys.version_info[:2], flush=True)
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
import click, numpy, PIL
try:
    import ai_edge_litert.interpreter
except ModuleNotFoundError:
    import tflite_runtime.interpreter
"""
_SELFTEST = """
import runpy, sys
program, model = sys.argv[1:]
sys.path[0] = program
from deploy.system.child_process import end_with_parent
end_with_parent()
sys.argv = [program, "selftest", model, "--json"]
runpy.run_path(program, run_name="__main__")
"""
_MISSING_PACKAGE = ("No module named", "is not installed", "no TFLite runtime")
"""Parts of messages that say that a package is missing."""


@dataclass(frozen=True)
class Proof:
    """All `goldens` of a model file passed on `runtime`, such as "LiteRT 2.3.0"."""

    goldens: int
    runtime: str


def prove_goldens(python: Path, model: Path, time_limit_s: float = TIME_LIMIT_S) -> Proof:
    """Run `classify.pyz selftest` of `model` with the executable `python`.

    The process sees that program and its own packages, nothing of this environment. Raises
    WrongUse if `python` is no Python, is too old or lacks a package, and GateFailed if a golden
    fails, the process dies or takes longer than `time_limit_s`.
    """
    executable = find_python(python)
    with scratch() as folder:
        classify = folder / "classify.pyz"
        classify.write_bytes(program())
        script = folder / "selftest.py"
        script.write_text(_SELFTEST, "utf-8")
        process = _run(executable, time_limit_s, script, classify, model.absolute())
    try:
        record = versioned_json.read(json.loads(process.stdout), "selftest", _SELFTEST_VERSION, "")
        failures = record.texts("failures")
        if not failures:
            runtime = record.object("runtime")
            return Proof(
                record.object("goldens").integer("right"),
                f"{runtime.text('name')} {runtime.text('version')}",
            )
    except (ValueError, BadData):
        raise _failure(executable, process) from None
    raise _refusal(executable, "; ".join(failures))


def find_python(python: Path) -> Path:
    """Return the path of the executable `python`.

    Raises WrongUse if it is no Python, is too old, or cannot import what the goldens need.
    """
    path = shutil.which(python)
    if not path:
        raise WrongUse(f"`target_python` {python}: no such program, or not executable")
    executable = Path(path).absolute()  # not resolved: the link decides which environment it is
    process = _run(executable, TIME_LIMIT_S, "-c", _PROBE)
    reason = _reason(process)
    try:
        version = tuple(int(number) for number in process.stdout.split())
    except ValueError:
        version = ()
    if len(version) != 2:
        raise WrongUse(f"`target_python` {python}: it is not a Python that works: {reason}")
    if version < OLDEST_PYTHON:
        actual, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST_PYTHON))
        raise WrongUse(
            f"`target_python` {python}: it is Python {actual}; at least {oldest} is needed"
        )
    if process.returncode:
        raise WrongUse(
            f"`target_python` {python}: {reason}. Remedy: install {_REQUIRED_PACKAGES} for it"
        )
    return executable


def _run(python: Path, time_limit_s: float, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    try:
        with lifeline() as stdin:
            return subprocess.run(  # noqa: S603
                [python, *map(str, arguments)],
                env={**environment, "PYTHONUTF8": "1"},
                stdin=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=time_limit_s,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise GateFailed(
            f"`target_python` {python}: no answer in {time_limit_s:g} s: it hangs or is too slow"
        ) from error
    except OSError as error:
        raise WrongUse(f"`target_python` {python}: cannot be run ({error.strerror})") from error


def _failure(python: Path, process: subprocess.CompletedProcess[str]) -> RetrainError:
    """Return the error for a process that printed no record."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return GateFailed(f"`target_python` {python}: its process died at the goldens ({name})")
    return _refusal(python, _reason(process))


def _refusal(python: Path, reason: str) -> RetrainError:
    """Return WrongUse for a missing package, GateFailed for any other reason."""
    message = f"`target_python` {python}: {reason}"
    if any(words in reason for words in _MISSING_PACKAGE):
        return WrongUse(f"{message}. Remedy: install {_REQUIRED_PACKAGES} for it")
    return GateFailed(message)


def _reason(process: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a process wrote to stderr, or its exit code."""
    line = last_line(process.stderr, f"exit code {process.returncode}")
    return line.removeprefix("Error: ")
