"""Time a function in a process of its own: what is compared shares no threads and no memory."""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from deploy.errors import BadData, MissingPackage, RetrainError

PATIENCE_S = 600.0
"""How long a runner may take for one answer."""


class About(NamedTuple):
    """What runs, and how; `load_s` is from the file to the first answer, imports not counted."""

    runtime: str
    version: str
    delegate: str | None
    input: str
    load_s: float


class Loaded(NamedTuple):
    """What a process has ready: `call` is what is timed, nothing around it."""

    call: Callable[[], Any]
    about: About


@dataclass(frozen=True)
class Runner:
    """A process that has loaded something and waits for the word to time it."""

    name: str
    about: About
    ask: Callable[[int], Any]

    def run(self, times: int) -> list[int]:
        """Return the nanoseconds of each of `times` calls, in order.

        Raises what `started` raises.
        """
        samples: list[int] = self.ask(times)
        return samples


@contextmanager
def started(
    name: str, load: Callable[[], Loaded], patience_s: float = PATIENCE_S
) -> Iterator[Runner]:
    """Call `load` in a new process and yield its Runner; the process ends with the block.

    `load` must be picklable. Raises the RetrainError that the process raised, and BadData for
    any other exception there, for its death, and for no answer within `patience_s` seconds.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, name, load), daemon=True)

    def ask(times: int) -> Any:
        with suppress(OSError):  # that of a dead process: _answer says how it died
            ours.send(times)
        return _answer(name, process, ours, patience_s)

    process.start()
    try:
        theirs.close()
        yield Runner(name, _answer(name, process, ours, patience_s), ask)
    finally:
        process.kill()
        process.join()
        ours.close()


def _answer(name: str, process: SpawnProcess, pipe: Connection, patience_s: float) -> Any:
    deadline = time.monotonic() + patience_s
    try:
        while not pipe.poll(0.5):
            if time.monotonic() > deadline:
                raise BadData(f"{name}: its process gave no answer in {patience_s:g} s")
            if not process.is_alive() and not pipe.poll():
                raise EOFError
        answer = pipe.recv()
    except (EOFError, OSError) as error:
        process.join(5)
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise BadData(f"{name}: its process died ({how})") from error
    if isinstance(answer, RetrainError):
        raise answer
    return answer


def _serve(pipe: Connection, name: str, load: Callable[[], Loaded]) -> None:
    """Load, then time as many calls as each message asks for, until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    if not os.environ.get("RETRAIN_DEBUG"):
        _silence()
    try:
        call, about = load()
        pipe.send(about)
        gc.disable()  # as timeit does: a collection is not the model's time
        while True:
            pipe.send(time_calls(call, pipe.recv()))
    except EOFError:  # the parent is gone
        return
    except ModuleNotFoundError as error:
        pipe.send(MissingPackage.of(error))
    except RetrainError as error:
        pipe.send(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        pipe.send(BadData(f"{name}: {reason}"))


def time_calls(call: Callable[[], Any], times: int) -> list[int]:
    """Return the nanoseconds of each of `times` calls, in order."""
    samples = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return samples


def _silence() -> None:
    """Send what native code prints nowhere: errors come through the pipe, and stdout is data."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
