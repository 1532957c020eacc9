"""Call a function in a process of its own, of any Python, with JSON arguments and a JSON answer.

Models that are compared share no threads and no memory. The process imports `bench` and `deploy`
from a copy, so that another Python needs only click, numpy, Pillow and a runtime.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import deploy
from deploy import errors
from deploy.errors import BadData, MissingPackage, RetrainError, WrongUse
from deploy.system.child_process import end_with_parent, lifeline
from deploy.system.temporary_files import scratch

TIMEOUT_S = 600.0
_THREAD_VARIABLES = tuple(
    f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "BLIS")
)


@contextmanager
def packages() -> Iterator[Path]:
    """Make a folder for the block that holds the code of `bench` and `deploy` and nothing else."""
    with scratch() as folder:
        for package in (Path(__file__).parent, Path(deploy.__file__).parent):
            no_code = shutil.ignore_patterns("__pycache__", "results", "*.sh")
            shutil.copytree(package, folder / package.name, ignore=no_code)
        yield folder


def call(
    name: str,
    function: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    python: str = sys.executable,
    threads: int = 1,
    timeout_s: float | None = TIMEOUT_S,
) -> Any:
    """Call `function`, "module:name", with `arguments` in a new process, and return its result.

    Arguments and result are JSON values; `folder` is that of `packages`. `threads` are for numpy's
    own products. Raises the RetrainError that the process raised, and BadData with `name` for any
    other failure. The process ends before the call returns.
    """
    program = shutil.which(python)
    if program is None:
        raise WrongUse(f"{python}: not a program: name a Python")
    job = folder / f"{uuid4().hex}.json"
    job.write_text(json.dumps({"function": function, "arguments": dict(arguments)}), "utf-8")
    search = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    try:
        with lifeline() as stdin:
            process = subprocess.run(  # noqa: S603 (a Python that the user chose)
                [Path(program).absolute(), "-m", "bench.worker_process", job.name],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("RETRAIN_DEBUG") else subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                timeout=timeout_s,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise BadData(f"{name}: its process gave no answer in {timeout_s} s") from error
    except OSError as error:
        raise WrongUse(f"{python}: not run ({error.strerror}): name a Python") from error
    finally:
        job.unlink(missing_ok=True)
    try:
        answer = json.loads(process.stdout)
    except ValueError as error:
        code = process.returncode
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        question = (
            "is the file whole" if code < 0 else f"does {python} have click, numpy and Pillow"
        )
        raise BadData(
            f"{name}: its process died ({reason}); {question}? RETRAIN_DEBUG=1 shows what it prints"
        ) from error
    if "missing" in answer and python != sys.executable:
        raise MissingPackage(
            f"{python} lacks {answer['missing']}: install click, numpy, Pillow and a TFLite "
            "runtime for it"
        )
    if "error" in answer:
        raise _error(answer["error"], answer["reason"].format(name=name))
    return answer["value"]


def _error(kind: str, reason: str) -> RetrainError:
    error: RetrainError = getattr(errors, kind)(reason)
    return error


def _answer(job: Path) -> dict[str, Any]:
    """Call the function of a job; return its value, or the kind and the reason of its error."""
    try:
        request = json.loads(job.read_text("utf-8"))
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        return {"value": function(**request["arguments"])}
    except ModuleNotFoundError as error:
        return {**_refusal(MissingPackage.of(error)), "missing": (error.name or "").split(".")[0]}
    except RetrainError as error:
        return _refusal(error)
    except Exception as error:  # of any library: the caller reports it
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"error": "BadData", "reason": "{name}: " + _escape(text)}


def _refusal(error: RetrainError) -> dict[str, Any]:
    return {"error": type(error).__name__, "reason": _escape(str(error))}


def _escape(text: str) -> str:
    """Return `text` such that `str.format` gives it back."""
    return text.replace("{", "{{").replace("}", "}}")


def _main() -> None:
    """Do the job in the file that the command line names, and print the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    end_with_parent()
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)  # native code prints to stdout too, which is for the answer alone
        stdout.write(json.dumps(_answer(Path(sys.argv[1]))).encode())
        stdout.flush()
    os._exit(0)  # whatever a runtime does when it ends does not matter any more


if __name__ == "__main__":
    _main()
