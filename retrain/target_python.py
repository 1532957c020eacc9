"""Let another Python, with the runtime of the target, prove the goldens of a model file."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import deploy
from deploy.errors import GateFailed, RetrainError, WrongUse

OLDEST = (3, 11)
SECONDS = 300.0
_NEEDS = "click, numpy, Pillow and tflite-runtime or ai-edge-litert"
_MISSING = ("No module named", "is not installed", "no TFLite runtime")


def selftest(python: Path, model: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """Return what `deploy selftest --json` says of `model`, run by the executable `python`.

    It sees our `deploy` and its own packages, nothing of this environment. Raises WrongUse when
    `python` is none, is too old or lacks a package, and GateFailed when the goldens fail, its
    process dies or takes longer than `seconds`.
    """
    found = shutil.which(python)
    if not found:
        raise WrongUse(f"--target-python {python}: no such program, or not executable")
    executable = Path(found).absolute()  # not resolved: the link is what makes an environment
    with TemporaryDirectory(prefix="retrain-") as folder:
        source = Path(deploy.__path__[0])
        shutil.copytree(
            source, Path(folder, "deploy"), ignore=shutil.ignore_patterns("__pycache__")
        )
        _check_version(executable, folder)
        command = ("-m", "deploy", "selftest", model.absolute(), "--json")
        done = _run(executable, folder, seconds, *command)
    try:
        record: dict[str, Any] = json.loads(done.stdout)
        failures = record["failures"]
    except (ValueError, KeyError):
        raise _failure(executable, done) from None
    if failures:
        raise _refusal(executable, "; ".join(failures))
    return record


def _check_version(python: Path, folder: str) -> None:
    code = "import sys; print(*sys.version_info[:2])"
    done = _run(python, folder, SECONDS, "-c", code)
    try:
        version = tuple(int(part) for part in done.stdout.split())
    except ValueError:
        version = ()
    if done.returncode or len(version) != 2:
        raise WrongUse(f"--target-python {python}: it is not a Python that works: {_said(done)}")
    if version < OLDEST:
        had, least = (".".join(map(str, each)) for each in (version, OLDEST))
        raise WrongUse(f"--target-python {python}: it is Python {had}; at least {least} is needed")


def _run(
    python: Path, folder: str, seconds: float, *arguments: object
) -> subprocess.CompletedProcess[str]:
    ours = {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        return subprocess.run(  # noqa: S603
            [python, *map(str, arguments)],
            cwd=folder,
            env=kept | ours,
            stdin=subprocess.DEVNULL,
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
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else f"exit code {done.returncode}"
