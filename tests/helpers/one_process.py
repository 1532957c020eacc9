"""Run in this process what production isolates in a new one, with the same errors."""

from collections.abc import Callable
from typing import Any

from deploy.errors import BadData, RetrainError
from deploy.system.error_messages import explain
from retrain.tf_graph import failure_reason


def call(task: str, _limit_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`; raise the errors that `run_isolated` raises."""
    try:
        return function(*arguments)
    except RetrainError:
        raise
    except OSError as error:
        raise BadData(explain(error)) from error
    except Exception as error:
        raise BadData(f"{task} failed: {failure_reason(error)}") from error
