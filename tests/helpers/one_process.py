"""Run in this process what production runs in a new one, with the same errors."""

from collections.abc import Callable
from typing import Any

from retrain.isolated import run_here


def call(task: str, _limit_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`, as `run_isolated` does without its process."""
    return run_here(task, function, *arguments)
