"""Time models against each other: rounds in random order, a new process for each of them."""

import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.find_models import GRAPH, Subject
from bench.machine import BUSY, Watch, described, read_state
from bench.record import refusal
from bench.stats import milliseconds, ratio
from bench.time_one_round import LEAST_WARM_UP_S, STEADY, WARM_UP_S, WINDOW
from bench.worker_process import call, packages
from deploy.errors import BadData, RetrainError, WrongUse

_SIDES = (256, 512, 1024, 2048)
"""Of the matrices that numpy multiplies for its peak; the best one is taken, in each round."""
_PRODUCT = Subject("product", "", 0, "bench.load_tflite:product", (), {"sides": _SIDES})

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """Each of `rounds` ends after `runs` calls or after `seconds`, what comes first.

    `threads` are the numbers of CPU threads to try; `runtimes` the names wanted, all if empty.
    `seed` decides the order of the rounds.
    """

    rounds: int = 5
    runs: int = 100
    seconds: float = 3.0
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    profile: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Runner:
    """A model on a runtime of a Python, on so many threads."""

    subject: Subject
    runtime: str
    python: str
    threads: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What its loader is called with."""
        if self.subject is _PRODUCT:
            return self.subject.arguments
        arguments = {**self.subject.arguments, "threads": self.threads}
        return arguments if "TensorFlow" in self.subject.runtimes else {
            **arguments, "runtime": self.runtime
        }  # fmt: skip


def compare(
    subjects: Sequence[Subject],
    settings: Settings,
    photo: Path,
    pythons: Sequence[str],
    tell: Tell,
) -> dict[str, Any]:
    """Time every subject on every runtime of this Python and of `pythons`; return JSON values.

    `photo` is the file that goes through the steps. What fails in a round is left out from then
    on, and is in `not_run` with its reason. Raises BadData if all fail, WrongUse where there is no
    runtime for any of them.
    """
    start, before = time.perf_counter(), read_state()
    with packages() as folder:
        found = {
            python: call("python", "bench.load_tflite:installed", {}, folder, python=python)
            for python in dict.fromkeys((sys.executable, *pythons))
        }
        for reason in (each for about in found.values() for each in about["unusable"].values()):
            tell(reason)
        asked = list(_runners(subjects, settings, found))
        not_run = _without_runtime(subjects, asked)
        for each in not_run:
            tell(refusal(each))
        if not asked:
            raise WrongUse(
                "no runtime for any of these models: pip install 'retrain-tflite[train]'"
            )
        probes = [
            Runner(_PRODUCT, "numpy", sys.executable, threads) for threads in settings.threads
        ]
        turns, failed = _alternate([*asked, *probes], settings, photo.resolve(), folder, tell)
        runners = [runner for runner in asked if runner not in failed]
        not_run += [
            {"model": each.subject.name, "runtime": each.runtime, "threads": each.threads,
             "python": found[each.python]["python"], "reason": reason}
            for each, reason in failed.items()
        ]  # fmt: skip
        if not runners:
            raise BadData(*dict.fromkeys(map(refusal, not_run)))
        operators = _operators(runners, folder, tell) if settings.profile else {}
    peaks = {probe.threads: _peak(turns[probe]) for probe in probes}
    graph = {each.sha256 for each in subjects if each.name == GRAPH}
    return described(
        {
            "graph_sha256": next(iter(graph), None),
            "state": {"before": before._asdict(), "after": read_state()._asdict()},
            "settings": {**asdict(settings), "photo_bytes": photo.stat().st_size},
            "rules": {
                "warm": {
                    "window": WINDOW,
                    "steady": STEADY,
                    "least_seconds": LEAST_WARM_UP_S,
                    "seconds": WARM_UP_S,
                },
                "busy": BUSY,
            },
            "pythons": list(found.values()),
            "peak_gmacs": peaks,
            "not_run": not_run,
            "runners": [
                _figures(runner, turns, runners, peaks, found, operators) for runner in runners
            ],
            "seconds": {"bench": time.perf_counter() - start},
        }
    )


def _runners(
    subjects: Sequence[Subject], settings: Settings, found: dict[str, Any]
) -> Iterable[Runner]:
    for subject in subjects:
        for python, about in found.items():
            for runtime in about["runtimes"]:
                if runtime in subject.runtimes and runtime in (settings.runtimes or (runtime,)):
                    for threads in settings.threads:
                        yield Runner(subject, runtime, python, threads)


def _without_runtime(subjects: Sequence[Subject], asked: Sequence[Runner]) -> list[dict[str, Any]]:
    there = {runner.subject for runner in asked}
    return [
        {
            "model": each.name,
            "runtime": " or ".join(each.runtimes),
            "reason": "it is not there, or not asked for",
        }
        for each in subjects
        if each not in there
    ]


def _alternate(
    runners: Sequence[Runner], settings: Settings, photo: Path, folder: Path, tell: Tell
) -> tuple[dict[Runner, list[Any]], dict[Runner, str]]:
    """Return the rounds of each runner, in an order drawn anew for each; and why others failed.

    One during which others used the CPU, or it was throttled, is taken again, once. Raises the
    RetrainError of the probe.
    """
    order = random.Random(settings.seed)  # noqa: S311 (no secret)
    turns: dict[Runner, list[Any]] = {runner: [] for runner in runners}
    failed: dict[Runner, str] = {}
    for number in range(settings.rounds):
        left = [runner for runner in runners if runner not in failed]
        tell(f"round {number + 1} of {settings.rounds}: {len(left)} processes by turns")
        for runner in order.sample(left, len(left)):
            try:
                turn = _turn(runner, settings, photo, folder)
                if turn["bad"]:
                    turn = {**_turn(runner, settings, photo, folder), "repeated": True}
            except RetrainError as error:
                if runner.subject is _PRODUCT:
                    raise
                failed[runner] = str(error)
                tell(f"{runner.subject.name} on {runner.runtime}: left out from now on: {error}")
            else:
                turns[runner].append({**turn, "round": number})
        if all(runner.subject is _PRODUCT for runner in runners if runner not in failed):
            break
    return turns, failed


def _turn(runner: Runner, settings: Settings, photo: Path, folder: Path) -> dict[str, Any]:
    watch = Watch()
    arguments = {
        "load": runner.subject.load,
        "arguments": runner.arguments,
        "runs": settings.runs,
        "seconds": settings.seconds,
        "photo": str(photo),
    }
    taken = call(
        runner.subject.name,
        "bench.time_one_round:measure",
        arguments,
        folder,
        python=runner.python,
        threads=runner.threads,
    )
    seen = watch.seen()
    bad = seen["throttled"] or (seen["others"] or 0) > BUSY
    return {**taken, **seen, "bad": bad, "repeated": False}


def _operators(runners: Sequence[Runner], folder: Path, tell: Tell) -> dict[Runner, Any]:
    """Return the time of each kind of operator of the runners whose runtime tells it."""
    found = {}
    for runner in runners:
        if runner.subject.load != "bench.load_tensorflow:frozen_graph":
            continue
        name = runner.subject.name
        asked = {key: runner.arguments[key] for key in ("path", "threads", "ends", "size")}
        try:
            found[runner] = call(
                name,
                "bench.profile_tensorflow:operators",
                asked,
                folder,
                python=runner.python,
                threads=runner.threads,
            )
        except RetrainError as error:  # what was measured is not lost for that
            tell(f"{name}: not profiled: {error}")
    return found


def _figures(
    runner: Runner,
    turns: dict[Runner, list[Any]],
    runners: Sequence[Runner],
    peaks: dict[int, float],
    found: dict[str, Any],
    operators: dict[Runner, Any],
) -> dict[str, Any]:
    rounds = turns[runner]
    samples = [each["samples_ns"] for each in rounds]
    # That of the first model, on as many threads.
    reference = next(each for each in runners if each.threads == runner.threads)
    value, interval = ratio(samples, [each["samples_ns"] for each in turns[reference]])
    ms = milliseconds(samples)
    gmacs, peak = _gmacs(rounds), peaks[runner.threads]
    steps = rounds[0]["photo_ns"]
    about, score = rounds[0], runner.subject.score
    return {
        "model": runner.subject.name,
        "sha256": runner.subject.sha256,
        "size_bytes": runner.subject.size_bytes,
        "accuracy": score and score.accuracy,
        "accuracy_interval95": score and [score.low, score.high],
        **{key: about[key] for key in ("runtime", "version", "delegate", "input")},
        "python": found[runner.python]["python"],
        "threads": runner.threads,
        "ms": ms,
        "ratio_p50": value,
        "ratio_interval95": interval,
        "per_second": 1e3 / ms["mean"],
        "photo_ms": {
            name: milliseconds([each["photo_ns"][name] for each in rounds])["p50"] for name in steps
        },
        "load_s": median(each["load_s"] for each in rounds),
        "first_ms": median(each["first_ns"] for each in rounds) / 1e6,
        "peak_rss_bytes": max(each["peak_bytes"] - each["bare_bytes"] for each in rounds),
        "multiply_adds": about["multiply_adds"],
        "gmacs": gmacs,
        "share_of_peak": gmacs / peak if gmacs else None,
        "operators": operators.get(runner),
        "rounds": rounds,
    }


def _peak(rounds: Sequence[Any]) -> float:
    """Return billions of multiply-adds a second at the best call."""
    return float(max(each["multiply_adds"] / min(each["samples_ns"]) for each in rounds))


def _gmacs(rounds: Sequence[Any]) -> float | None:
    """Return billions of multiply-adds a second at the median call, None if not known."""
    counted = rounds[0]["multiply_adds"]
    return (
        counted / median(sample for each in rounds for sample in each["samples_ns"])
        if counted
        else None
    )
