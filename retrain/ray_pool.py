"""Run independent tasks in actors of Ray, one a core, each with its own tool.

Ray gets each task and its small result; what makes the tool is put into its object store once. A
task that an actor dies of is tried again by another, so tasks may run twice.
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from deploy.errors import BadData, WrongUse
from deploy.system.cores import cores as cores_here
from deploy.system.error_messages import explain

Tool = TypeVar("Tool")
Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_AN_ACTOR = 2
"""One in work, and one so that the actor need not wait."""
_MAX_RESTARTS, _MAX_RETRIES = 10, 3
_MAX_WAIT_S = 10.0
_MAX_START_S = 20.0
"""After this time without a worker the caller hears of it: a slow machine takes some seconds."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "error",
}
"""Ray does not report its use, nor warn of unused graphics cards and of each attempt to connect."""


def run(
    tasks: Iterable[Task],
    make_tool: Callable[[], Tool],
    call: Callable[[Tool, Task], Result],
    address: str | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Generator[Result, None, None]:
    """Yield `call(tool, task)` for each task, in the order in which they finish.

    Each core of the cluster at `address` has an actor, which calls `make_tool()` once; None starts
    Ray on this machine, as `connect` does. Tasks, results and both functions can be pickled.
    `tasks` may be endless, because it is read two tasks an actor ahead. When the caller stops
    early, actors end at once. Raises what `call` raises, an OSError as BadData with its message.
    `warn` is called once if no actor has begun after a while; it may still do so. Raises WrongUse
    without Ray, and BadData if it cannot be reached, or if actors die over and over.
    """
    connect(address)
    ray = _import_ray()
    actors: list[Any] = []
    try:
        yield from _run(ray, actors, tasks, ray.put((make_tool, call)), warn)
    except ray.exceptions.RayError as error:
        remedy = (
            "run again, what was analysed is cached; if memory is too little, use fewer workers"
        )
        raise BadData(f"Ray gave up: {_explain(error)}: {remedy}") from error
    finally:
        for actor in actors:
            ray.kill(actor)


def connect(address: str | None) -> None:
    """Connect this process to Ray, if it is not; it stays so, and a Ray of its own ends with it.

    So a command that extracts several times starts Ray once, which takes seconds. Raises as `run`
    does.
    """
    ray = _import_ray()
    if ray.is_initialized():
        return
    if address:
        _require_answer(address)
    # Ray prints what happens to its processes to stdout, which is for data.
    vars(import_module("ray._private.worker"))["_worker_logs_enabled"] = False
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else cores_here(),
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # many kinds, for an address that does not answer
        where = f"at {address}" if address else "on this machine"
        hint = "; if the cluster wants a token, set RAY_AUTH_MODE=token" if address else ""
        raise BadData(f"Ray {where} cannot be used: {_explain(error)}{hint}") from error


def _require_answer(address: str) -> None:
    """Raise BadData if nothing listens at a host and port, for which Ray waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):  # "auto", or a name
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _MAX_WAIT_S).close()
    except (OSError, OverflowError) as error:
        raise BadData(
            f"Ray at {address} does not answer ({error}): check `ray_address`, and that its head "
            "runs"
        ) from error


def cores() -> int:
    """Return how many cores the connected cluster has, at least 1."""
    return max(1, int(_import_ray().cluster_resources().get("CPU", 1)))


class _Outcome(NamedTuple):
    """What a task returned, or the error that it raised, which Ray would wrap."""

    value: Any
    error: Exception | None


class _Actor:
    """Run tasks with one tool."""

    def __init__(self) -> None:
        self._tool: Any = None
        self._call: Any = None

    def start(self) -> None:
        """Do nothing: the actor has begun when this returns."""

    def call(self, work: list[Any], task: Any) -> _Outcome:
        """Return what `call` returns for `task`, or what it raises.

        `work` has the place of both functions in the object store. Each task has it, because an
        actor that is started again knows nothing.
        """
        try:
            if self._call is None:
                make_tool, call = _import_ray().get(work[0])
                self._tool, self._call = make_tool(), call
            return _Outcome(self._call(self._tool, task), None)
        except OSError as error:  # its traceback, which says what failed, stays here
            return _Outcome(None, BadData(explain(error)))
        except Exception as error:  # raised again where results are read
            return _Outcome(None, error)


def _run(
    ray: ModuleType,
    actors: list[Any],
    tasks: Iterable[Any],
    work: Any,
    warn: Callable[[str], None],
) -> Generator[Any, None, None]:
    """Yield the results of `tasks`; add the actors that are started to `actors`."""
    waiting = iter(tasks)
    make_actor = ray.remote(num_cpus=1, max_restarts=_MAX_RESTARTS, max_task_retries=_MAX_RETRIES)(
        _Actor
    )
    # Actors get tasks once they have begun: other programs may use a part of the cluster.
    actors += [make_actor.remote() for _ in range(cores())]
    starting = {actor.start.remote(): actor for actor in actors}
    running: dict[Any, Any] = {}
    is_more = True
    max_wait_s: float | None = _MAX_START_S
    while running or (starting and is_more):
        all_ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=max_wait_s)
        max_wait_s = None
        if not all_ready:
            free = int(ray.available_resources().get("CPU", 0))
            warn(
                f"no worker of Ray has started yet, and {free} of its {cores()} CPUs are free: "
                "waiting for one: end what uses them, or add a machine"
            )
            continue
        (ready,) = all_ready
        outcome = ray.get(ready)
        actor = starting.pop(ready, None) or running.pop(ready)
        free = 1 if outcome else _TASKS_AN_ACTOR
        for _ in range(free):
            task = next(waiting, None)
            is_more = task is not None
            if not is_more:
                break
            running[actor.call.remote([work], task)] = actor
        if outcome is None:
            continue
        if outcome.error:
            raise outcome.error
        yield outcome.value


def _import_ray() -> ModuleType:
    os.environ.update(
        {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    )
    try:
        import ray
    except ModuleNotFoundError as error:
        raise WrongUse("`executor` ray needs Ray: pip install 'retrain-tflite[ray]'") from error
    return ray


def _explain(error: Exception) -> str:
    """Return the last line of an error of Ray, which has the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no reason'}"
