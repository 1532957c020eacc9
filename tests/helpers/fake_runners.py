"""Fake models for the bench: known times, known memory, known failures."""

import os
import signal
import time
from functools import partial
from itertools import count
from typing import Any

from bench.load_tflite import About, Loaded
from deploy.errors import BadData, GateFailed

ABOUT = About("LiteRT", "1", None, "float32", 0.25, 10**6)


def sleeper(seconds: float, **_: Any) -> Loaded:
    return Loaded(partial(time.sleep, seconds), ABOUT)


def uneven(seconds: float, **_: Any) -> Loaded:
    """Return a model that takes ten times as long every tenth time."""
    calls = count(1)
    return Loaded(lambda: time.sleep(seconds * (1 if next(calls) % 10 else 10)), ABOUT)


def leaky(megabytes: int, **_: Any) -> Loaded:
    """Return a model that holds more memory after every call."""
    memory: list[bytes] = []
    return Loaded(lambda: memory.append(os.urandom(megabytes * 10**6)), ABOUT)


def stepwise(**_: Any) -> Loaded:
    """Return a model that takes 10, 20 and 30 ms in its three steps."""

    def step(seconds: float, value: Any) -> Any:
        time.sleep(seconds)
        return value

    seconds = {"decode": 0.01, "preprocess": 0.02, "invoke": 0.03}
    steps = tuple((name, partial(step, duration)) for name, duration in seconds.items())
    return Loaded(partial(time.sleep, 0.001), ABOUT, steps)


def broken(**_: Any) -> Loaded:
    raise BadData("no such operator")


def dies(code: int) -> None:
    os._exit(code)


def is_killed() -> None:
    signal.raise_signal(signal.SIGTERM)


def raises(text: str) -> None:
    raise ValueError(text)


def refuses(text: str) -> None:
    raise GateFailed(text)


def prints_much() -> str:
    """Print where native code does."""
    os.write(1, b"greetings")
    return "answer"


def environment() -> dict[str, str]:
    return dict(os.environ)


def naps(seconds: float) -> None:
    time.sleep(seconds)
