"""Run a function in a new process, for code that leaks memory, prints, crashes or never ends."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from deploy.errors import BadData, RetrainError, last_line
from deploy.system.child_process import lifeline
from deploy.system.error_messages import explain
from deploy.system.temporary_files import scratch
from retrain.tf_graph import failure_reason

Result = TypeVar("Result")

_CHILD = """
import pickle, sys
with open(sys.argv[1], "rb") as job:
    sys.path[:] = pickle.load(job)
    from deploy.system.child_process import end_with_parent
    end_with_parent()
    from retrain.isolated import run_job
    run_job(job, sys.argv[2])
"""
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "262144"}
"""Makes glibc return large arrays to the system: preparing Inception v3 takes 0.2 GB less."""


def run_isolated(
    task: str, limit_s: float, function: Callable[..., Result], *arguments: Any
) -> Result:
    """Return `function(*arguments)`, computed in a new process whose output is not shown.

    `function` belongs to a module: unlike multiprocessing, the process does not run the caller's
    script again. Raises a RetrainError that `function` raises. Raises BadData, in one line that
    begins with `task`, for another error, a crash, or more than `limit_s` seconds. The process is
    killed when this process is.
    """
    job = pickle.dumps(sys.path) + pickle.dumps((task, function, arguments))
    with scratch() as folder:
        job_path, log_path, result_path = (folder / name for name in ("job", "log", "result"))
        job_path.write_bytes(job)
        # Temporary files of a process that is killed are removed with the folder.
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
        try:
            with log_path.open("wb") as log, lifeline() as stdin:
                subprocess.run(  # noqa: S603 (our own code)
                    # -P: a file in the current folder does not stand in for a module.
                    [sys.executable, "-P", "-c", _CHILD, job_path, result_path],
                    stdin=stdin,
                    env=_ENVIRONMENT | os.environ | temporary,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=limit_s,
                    check=True,
                )
        except subprocess.TimeoutExpired as error:
            raise BadData(f"{task} took longer than {limit_s:g} s") from error
        except subprocess.CalledProcessError as error:
            reason = last_line(log_path.read_text(errors="replace"), "without a word")
            if error.returncode == -signal.SIGKILL:
                reason = "killed by the system, which does that when memory runs out"
            raise BadData(f"{task} died: {reason}") from error
        succeeded, result = pickle.loads(result_path.read_bytes())  # noqa: S301 (of `run_job`)
    if succeeded:
        value: Result = result
        return value
    raise result


def run_job(job: BinaryIO, path: str) -> None:
    """Run the pickled `job`; write to `path` whether it succeeded, and its result or error."""
    answer: tuple[bool, Any]
    try:
        task, function, arguments = pickle.load(job)  # noqa: S301 (written by `run_isolated`)
        answer = True, run_here(task, function, *arguments)
    except RetrainError as error:
        answer = False, error
    Path(path).write_bytes(pickle.dumps(answer))


def run_here(task: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Return `function(*arguments)`; raise BadData, in one line, for any error but a RetrainError.

    The line begins with `task`, except for an error of the operating system.
    """
    try:
        return function(*arguments)
    except RetrainError:
        raise
    except OSError as error:
        raise BadData(explain(error)) from error
    except Exception as error:  # TensorFlow's converter raises kinds that nobody documents
        raise BadData(f"{task} failed: {failure_reason(error)}") from error
