"""Time models against each other: rounds in random order, each in a new process."""

import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.find_models import FROZEN_GRAPH_LOADER, GRAPH, TimedModel
from bench.machine import BUSY_SHARE, CpuWatch, read_machine, read_state
from bench.record import (
    BenchRecord,
    NotRun,
    OperatorTime,
    PythonPackages,
    Round,
    Rules,
    RunnerRecord,
    Settings,
    States,
    WarmUpRule,
)
from bench.stats import milliseconds, ratio
from bench.time_one_round import MAX_WARM_UP_S, MIN_WARM_UP_S, STEADY_SHARE, WINDOW_CALLS
from bench.worker_process import call, packages
from deploy.errors import BadData, RetrainError, WrongUse
from deploy.system.counts import with_noun
from deploy.versioned_json import Fields

_SIDES = (256, 512, 1024, 2048)
"""Sides of the square matrices that numpy multiplies for its peak; the best counts."""
_PRODUCT = TimedModel("product", "", 0, "bench.load_tflite:load_product", (), {"sides": _SIDES})
_BUG = "a bug in bench"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Runner:
    """A model on a runtime of a Python, with a number of threads."""

    model: TimedModel
    runtime: str
    python: str
    threads: int

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the model's loader."""
        if self.model is _PRODUCT:
            return self.model.arguments
        arguments = {**self.model.arguments, "threads": self.threads}
        if "TensorFlow" in self.model.runtimes:
            return arguments
        return {**arguments, "runtime": self.runtime}


def compare(
    models: Sequence[TimedModel],
    settings: Settings,
    photo: Path,
    pythons: Sequence[str],
    report: Report,
) -> BenchRecord:
    """Time every model on every runtime of this Python and of `pythons`.

    `photo` is the file that goes through the steps of a photo; `report` gets lines of progress.
    A model that fails in a round is left out from then on, and is in `not_run` with its reason.
    Raises BadData if all fail, WrongUse if no runtime is installed for any of them, or if they are
    for others than those of the settings.
    """
    usable = dict.fromkeys(runtime for model in models for runtime in model.runtimes)
    if settings.runtimes and usable.keys().isdisjoint(settings.runtimes):
        raise WrongUse(
            f"`runtimes` {', '.join(settings.runtimes)}: these models run on "
            f"{' or '.join(usable)}: leave it out"
        )
    start, before = time.perf_counter(), read_state()
    with packages() as folder:
        installed = {
            python: _describe(python, folder)
            for python in dict.fromkeys((sys.executable, *pythons))
        }
        for packages_of_python in installed.values():
            for reason in packages_of_python.unusable.values():
                report(reason)
        possible = list(_possible_runners(models, settings, installed))
        not_run = _without_runtime(models, possible)
        for refusal in not_run:
            report(str(refusal))
        if not possible:
            raise WrongUse(
                "no runtime for any of these models: pip install 'retrain-tflite[train]'"
            )
        probes = [
            Runner(_PRODUCT, "numpy", sys.executable, threads) for threads in settings.threads
        ]
        rounds, failures = _alternate(
            [*possible, *probes], settings, photo.resolve(), folder, report
        )
        runners = [runner for runner in possible if runner not in failures]
        not_run += [
            NotRun(
                model=runner.model.name,
                runtime=runner.runtime,
                threads=runner.threads,
                python=installed[runner.python].python,
                reason=reason,
            )
            for runner, reason in failures.items()
        ]
        if not runners:
            raise BadData(*dict.fromkeys(map(str, not_run)))
        operators = _operators(runners, folder, report) if settings.profile else {}
    peaks = {probe.threads: _peak_gmacs(rounds[probe]) for probe in probes}
    return BenchRecord(
        machine=read_machine(),
        graph_sha256=next((file.sha256 for file in models if file.name == GRAPH), None),
        state=States(before, read_state()),
        settings=replace(settings, photo_bytes=photo.stat().st_size),
        rules=Rules(
            WarmUpRule(
                window=WINDOW_CALLS,
                steady=STEADY_SHARE,
                least_seconds=MIN_WARM_UP_S,
                seconds=MAX_WARM_UP_S,
            ),
            BUSY_SHARE,
        ),
        pythons=tuple(installed.values()),
        peak_gmacs={str(threads): peak for threads, peak in peaks.items()},
        not_run=tuple(not_run),
        runners=tuple(
            _summarize(runner, rounds, runners, peaks, installed, operators) for runner in runners
        ),
        seconds={"bench": time.perf_counter() - start},
    )


def _describe(python: str, folder: Path) -> PythonPackages:
    values = call("python", "bench.load_tflite:describe_python", {}, folder, python=python)
    return Fields(values, python, _BUG).record(PythonPackages)


def _possible_runners(
    models: Sequence[TimedModel], settings: Settings, installed: Mapping[str, PythonPackages]
) -> Iterable[Runner]:
    for model in models:
        for python, its_packages in installed.items():
            for runtime in its_packages.runtimes:
                if runtime in model.runtimes and runtime in (settings.runtimes or (runtime,)):
                    for threads in settings.threads:
                        yield Runner(model, runtime, python, threads)


def _without_runtime(models: Sequence[TimedModel], possible: Sequence[Runner]) -> list[NotRun]:
    with_runtime = {runner.model for runner in possible}
    return [
        NotRun(
            model=model.name,
            runtime=" or ".join(model.runtimes),
            reason="it is not installed, or not selected",
        )
        for model in models
        if model not in with_runtime
    ]


def _alternate(
    runners: Sequence[Runner], settings: Settings, photo: Path, folder: Path, report: Report
) -> tuple[dict[Runner, list[Round]], dict[Runner, str]]:
    """Return the rounds of each runner, and the reasons why others failed.

    The order is random and new for each round. A round in which the machine was busy or throttled
    is repeated once. Raises the RetrainError of numpy's product.
    """
    order = random.Random(settings.seed)  # noqa: S311 (no secret)
    rounds: dict[Runner, list[Round]] = {runner: [] for runner in runners}
    failures: dict[Runner, str] = {}
    for number in range(settings.rounds):
        running = [runner for runner in runners if runner not in failures]
        processes = with_noun(len(running), "process")
        report(f"round {number + 1} of {settings.rounds}: {processes} by turns")
        for runner in order.sample(running, len(running)):
            try:
                result = _run_round(runner, number, settings, photo, folder)
                if result.bad:
                    second = _run_round(runner, number, settings, photo, folder)
                    result = replace(second, repeated=True)
            except RetrainError as error:
                if runner.model is _PRODUCT:
                    raise
                failures[runner] = str(error)
                report(f"{runner.model.name} on {runner.runtime}: left out from now on: {error}")
            else:
                rounds[runner].append(result)
        if all(runner.model is _PRODUCT for runner in runners if runner not in failures):
            break
    return rounds, failures


def _run_round(runner: Runner, number: int, settings: Settings, photo: Path, folder: Path) -> Round:
    watch = CpuWatch()
    arguments = {
        "load": runner.model.load,
        "arguments": runner.arguments,
        "runs": settings.runs,
        "seconds": settings.seconds,
        "photo": str(photo),
    }
    figures = call(
        runner.model.name,
        "bench.time_one_round:measure",
        arguments,
        folder,
        python=runner.python,
        threads=runner.threads,
    )
    disturbance = watch.read()
    values = {
        **figures,
        "others": disturbance.others_share,
        "throttled": disturbance.throttled,
        "bad": disturbance.throttled or (disturbance.others_share or 0) > BUSY_SHARE,
        "repeated": False,
        "round": number,
    }
    return Round.from_json(Fields(values, runner.model.name, _BUG))


def _operators(
    runners: Sequence[Runner], folder: Path, report: Report
) -> dict[Runner, tuple[OperatorTime, ...]]:
    """Return the times of operators of the runners whose runtime reports them."""
    times = {}
    for runner in runners:
        if runner.model.load != FROZEN_GRAPH_LOADER:
            continue
        name = runner.model.name
        try:
            rows = call(
                name,
                "bench.profile_tensorflow:time_operators",
                {key: runner.arguments[key] for key in ("path", "threads", "ends", "size")},
                folder,
                python=runner.python,
                threads=runner.threads,
            )
        except RetrainError as error:  # the latencies are worth keeping
            report(f"{name}: not profiled: {error}")
        else:
            times[runner] = tuple(Fields(row, name, _BUG).record(OperatorTime) for row in rows)
    return times


def _summarize(
    runner: Runner,
    rounds: Mapping[Runner, Sequence[Round]],
    runners: Sequence[Runner],
    peaks: Mapping[int, float],
    installed: Mapping[str, PythonPackages],
    operators: Mapping[Runner, tuple[OperatorTime, ...]],
) -> RunnerRecord:
    own = rounds[runner]
    samples = [result.samples_ns for result in own]
    reference = next(first for first in runners if first.threads == runner.threads)
    ratio_p50, interval = ratio(samples, [result.samples_ns for result in rounds[reference]])
    ms = milliseconds(samples)
    gmacs, peak = _gmacs(own), peaks[runner.threads]
    first, score = own[0], runner.model.score
    return RunnerRecord(
        model=runner.model.name,
        sha256=runner.model.sha256,
        size_bytes=runner.model.size_bytes,
        accuracy=score.accuracy if score else None,
        accuracy_interval95=(score.low, score.high) if score else None,
        runtime=first.runtime,
        version=first.version,
        delegate=first.delegate,
        input=first.input,
        python=installed[runner.python].python,
        threads=runner.threads,
        ms=ms,
        ratio_p50=ratio_p50,
        ratio_interval95=interval,
        per_second=1e3 / ms.mean,
        photo_ms={
            step: milliseconds([result.photo_ns[step] for result in own]).p50
            for step in first.photo_ns
        },
        load_s=median(result.load_s for result in own),
        first_ms=median(result.first_ns for result in own) / 1e6,
        peak_rss_bytes=max(result.peak_bytes - result.bare_bytes for result in own),
        multiply_adds=first.multiply_adds,
        gmacs=gmacs,
        share_of_peak=gmacs / peak if gmacs else None,
        operators=operators.get(runner),
        rounds=tuple(own),
    )


def _peak_gmacs(rounds: Sequence[Round]) -> float:
    """Return billions of multiply-adds a second of the fastest call."""
    return max((result.multiply_adds or 0) / min(result.samples_ns) for result in rounds)


def _gmacs(rounds: Sequence[Round]) -> float | None:
    """Return billions of multiply-adds a second of the median call, None if unknown."""
    multiply_adds = rounds[0].multiply_adds
    if not multiply_adds:
        return None
    return multiply_adds / median(sample for result in rounds for sample in result.samples_ns)
