"""Run a function in a process of its own, for what leaks, prints, crashes or never ends."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
    from retrain.isolated import answer
    answer(job, sys.argv[2])
"""
_FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "262144"}
"""glibc then gives large arrays back when they end: preparing Inception v3 takes 0.2 GB less."""


def apart(what: str, seconds: float, body: Callable[..., Result], *arguments: Any) -> Result:
    """Return `body(*arguments)`, made in a new process; what that prints is kept off the screen.

    The process does not run the caller's script again, which multiprocessing's would: `body` is
    of a module. Raises BadData in one line that begins with `what`, if it raises, dies or takes
    longer than `seconds`; a RetrainError of its own comes through as it is. When this process is
    killed, so is the new one.
    """
    job = pickle.dumps(sys.path) + pickle.dumps((body, arguments))
    with scratch() as folder:
        task, log, made = (folder / name for name in ("job", "log", "answer"))
        task.write_bytes(job)
        # What the process leaves when it is killed is in the folder too, and goes with it.
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
        try:
            with log.open("wb") as stream, lifeline() as stdin:
                subprocess.run(  # noqa: S603 (our own code)
                    # -P: else a file in the current folder could stand in for a module.
                    [sys.executable, "-P", "-c", _CHILD, task, made],
                    stdin=stdin,
                    env=_FRUGAL | os.environ | places,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=seconds,
                    check=True,
                )
        except subprocess.TimeoutExpired as error:
            raise BadData(f"{what} took longer than {seconds:g} s") from error
        except subprocess.CalledProcessError as error:
            said = last_line(log.read_text(errors="replace"), "without a word")
            if error.returncode == -signal.SIGKILL:
                said = "killed by the system, which does that when memory runs out"
            raise BadData(f"{what} died: {said}") from error
        done, result = pickle.loads(made.read_bytes())  # noqa: S301 (written by `answer`)
    if done:
        found: Result = result
        return found
    if isinstance(result, RetrainError):
        raise result
    raise BadData(f"{what} failed: {result}")


def answer(job: Any, path: str) -> None:
    """Do the pickled `job`, and write to `path` whether it was done, and its result or error."""
    try:
        body, arguments = pickle.load(job)  # noqa: S301 (written by `apart`)
        made = True, body(*arguments)
    except RetrainError as error:
        made = False, error
    except OSError as error:
        made = False, BadData(explain(error))
    except Exception as error:  # the converter's own, undocumented kinds
        made = False, failure_reason(error)
    Path(path).write_bytes(pickle.dumps(made))
