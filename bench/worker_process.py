"""Call a function in a process of its own, of any Python: one job in, one answer out, as JSON.

What is compared shares no threads and no memory. The process imports `bench` and `deploy` from a
copy, so another Python needs only their packages: click, numpy, Pillow and a runtime.
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
from typing import IO, Any
from uuid import uuid4

import deploy
from deploy import errors
from deploy.errors import BadData, MissingPackage, RetrainError, WrongUse
from deploy.system.child_process import end_with_parent, lifeline
from deploy.system.temporary_files import scratch

PATIENCE_S = 600.0
"""How long a process may take for its answer."""
_THREADS = tuple(
    f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "BLIS")
)


@contextmanager
def packages() -> Iterator[Path]:
    """Make a folder that holds `bench` and `deploy` and nothing else, for the block."""
    with scratch() as folder:
        for package in (Path(__file__).parent, Path(deploy.__file__).parent):
            others = shutil.ignore_patterns("__pycache__", "experiments")
            shutil.copytree(package, folder / package.name, ignore=others)
        yield folder


def call(
    name: str,
    function: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    python: str = sys.executable,
    threads: int = 1,
    patience_s: float | None = PATIENCE_S,
) -> Any:
    """Return what `function`, as "module:name", makes of `arguments` in a new process.

    `folder` is that of `packages`; `arguments` and the answer are JSON values. `threads` are those
    of numpy's own products. Raises the RetrainError that the process raised, and BadData, with
    `name` in it, for any other end. The process does not outlive the call.
    """
    program = shutil.which(python)
    if program is None:
        raise WrongUse(f"{python}: not a program: name a Python")
    job = folder / f"{uuid4().hex}.json"
    job.write_text(json.dumps({"function": function, "arguments": dict(arguments)}), "utf-8")
    search = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        **dict.fromkeys(_THREADS, str(threads)),
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    try:
        with lifeline() as stdin:
            done = subprocess.run(  # noqa: S603 (a Python that the user chose)
                [Path(program).absolute(), "-m", "bench.worker_process", job.name],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("RETRAIN_DEBUG") else subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                timeout=patience_s,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise BadData(f"{name}: its process gave no answer in {patience_s} s") from error
    except OSError as error:
        raise WrongUse(f"{python}: not run ({error.strerror}): name a Python") from error
    finally:
        job.unlink(missing_ok=True)
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        code = done.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        doubt = "is the file whole" if code < 0 else f"does {python} have click, numpy and Pillow"
        raise BadData(
            f"{name}: its process died ({how}); {doubt}? RETRAIN_DEBUG=1 shows what it prints"
        ) from error
    if "error" in answer:
        raise _error(answer["error"], answer["reason"].format(name=name))
    return answer["value"]


def _error(kind: str, reason: str) -> RetrainError:
    made: RetrainError = getattr(errors, kind)(reason)
    return made


def _serve(job: Path, answer: IO[bytes]) -> None:
    try:
        asked = json.loads(job.read_text("utf-8"))
        module, _, name = asked["function"].partition(":")
        value = getattr(importlib.import_module(module), name)(**asked["arguments"])
        told = {"value": value}
    except ModuleNotFoundError as error:
        told = _refusal(MissingPackage.of(error))
    except RetrainError as error:
        told = _refusal(error)
    except Exception as error:  # of any library: the process that asked must hear of it
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        told = {"error": "BadData", "reason": "{name}: " + _literal(text)}
    answer.write(json.dumps(told).encode())


def _refusal(error: RetrainError) -> dict[str, Any]:
    return {"error": type(error).__name__, "reason": _literal(str(error))}


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _main() -> None:
    """Answer the job in the file that is named.

    What native code prints goes to stderr: stdout is the answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_with_parent()
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        _serve(Path(sys.argv[1]), answer)
        answer.flush()
    os._exit(0)  # the answer is given: what a runtime does at its end is nobody's


if __name__ == "__main__":
    _main()
