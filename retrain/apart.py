"""Run a function in a process of its own, for what leaks, prints, crashes or never ends."""

import os
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from deploy.errors import BadData, RetrainError, last_line
from retrain.graph import refusal

Result = TypeVar("Result")


def apart(what: str, seconds: float, body: Callable[..., Result], *arguments: Any) -> Result:
    """Return `body(*arguments)`, made in a new process; what that prints is kept off the screen.

    Raises BadData in one line that begins with `what`, if it raises, dies or takes longer than
    `seconds`; a RetrainError of its own comes through as it is.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="retrain-") as folder:
        log = Path(folder) / "log"
        process = context.Process(target=_run, args=(sender, log, body, arguments), daemon=True)
        process.start()
        sender.close()
        try:
            if not receiver.poll(seconds):
                raise BadData(f"{what} took longer than {seconds:g} s")
            done, result = receiver.recv()
        except EOFError as error:
            said = log.read_text(errors="replace") if log.exists() else ""
            raise BadData(f"{what} died: {last_line(said, 'without a word')}") from error
        finally:
            process.kill()
            process.join()
            receiver.close()
    if done:
        made: Result = result
        return made
    if isinstance(result, RetrainError):
        raise result
    raise BadData(f"{what} failed: {result}")


def _run(
    sender: Connection, log: Path, body: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        answer = True, body(*arguments)
    except RetrainError as error:
        answer = False, error
    except Exception as error:  # the converter's own, undocumented kinds
        answer = False, refusal(error)
    sender.send(answer)
