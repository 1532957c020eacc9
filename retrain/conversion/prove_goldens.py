"""Let another Python, with the runtime of the target, prove the goldens of a model file."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from deploy.bundle import program
from deploy.errors import GateFailed, RetrainError, WrongUse, last_line
from deploy.requirements import OLDEST_PYTHON
from deploy.system.child_process import lifeline
from deploy.system.temporary_files import scratch

SECONDS = 300.0
_NEEDS = "click, numpy, Pillow and tflite-runtime or ai-edge-litert"
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
_MISSING = ("No module named", "is not installed", "no TFLite runtime")


def selftest(python: Path, model: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """Return what `classify.pyz selftest --json` says of `model`, run by the executable `python`.

    It sees that program and its own packages, nothing of this environment. Raises WrongUse when
    `python` is none, is too old or lacks a package, and GateFailed when the goldens fail, its
    process dies or takes longer than `seconds`.
    """
    executable = find(python)
    with scratch() as folder:
        classify = folder / "classify.pyz"
        classify.write_bytes(program())
        script = folder / "selftest.py"
        script.write_text(_SELFTEST, "utf-8")
        done = _run(executable, seconds, script, classify, model.absolute())
    try:
        record: dict[str, Any] = json.loads(done.stdout)
        failures = record["failures"]
    except (ValueError, KeyError):
        raise _failure(executable, done) from None
    if failures:
        raise _refusal(executable, "; ".join(failures))
    return record


def find(python: Path) -> Path:
    """Return the path of the executable `python`.

    Raises WrongUse if it is none, is too old or cannot import what the goldens need.
    """
    found = shutil.which(python)
    if not found:
        raise WrongUse(f"--target-python {python}: no such program, or not executable")
    executable = Path(found).absolute()  # not resolved: the link is what makes an environment
    done = _run(executable, SECONDS, "-c", _PROBE)
    try:
        version = tuple(int(part) for part in done.stdout.split())
    except ValueError:
        version = ()
    if len(version) != 2:
        raise WrongUse(f"--target-python {python}: it is not a Python that works: {_said(done)}")
    if version < OLDEST_PYTHON:
        had, least = (".".join(map(str, each)) for each in (version, OLDEST_PYTHON))
        raise WrongUse(f"--target-python {python}: it is Python {had}; at least {least} is needed")
    if done.returncode:
        said = _said(done)
        raise WrongUse(f"--target-python {python}: {said}. Remedy: install {_NEEDS} for it")
    return executable


def _run(python: Path, seconds: float, *arguments: object) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        with lifeline() as stdin:
            return subprocess.run(  # noqa: S603
                [python, *map(str, arguments)],
                env={**kept, "PYTHONUTF8": "1"},
                stdin=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise GateFailed(
            f"--target-python {python}: no answer in {seconds:g} s: it hangs or is too slow"
        ) from error
    except OSError as error:
        raise WrongUse(f"--target-python {python}: cannot be run ({error.strerror})") from error


def _failure(python: Path, done: subprocess.CompletedProcess[str]) -> RetrainError:
    """Return the error for a process that told no result."""
    if done.returncode < 0:
        died = signal.Signals(-done.returncode).name
        return GateFailed(f"--target-python {python}: its process died at the goldens ({died})")
    return _refusal(python, _said(done))


def _refusal(python: Path, said: str) -> RetrainError:
    where = f"--target-python {python}: {said}"
    if any(words in said for words in _MISSING):
        return WrongUse(f"{where}. Remedy: install {_NEEDS} for it")
    return GateFailed(where)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return last_line(done.stderr, f"exit code {done.returncode}").removeprefix("Error: ")
