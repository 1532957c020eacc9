"""The clock, with models whose time and memory are known."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench import compare_models, load_tflite, report
from bench.find_models import TimedModel
from bench.machine import Disturbance
from bench.record import BenchRecord, Settings
from bench.time_one_round import Limits, measure, time_calls, warm_up
from bench.worker_process import call, packages
from deploy.errors import BadData
from tests.helpers.bench_fixtures import Clock

PHOTO = Path(__file__)  # fake models take any file as a photo


def fake_model(load: str, **arguments: Any) -> TimedModel:
    function = f"tests.helpers.fake_runners:{load}"
    return TimedModel(load, load, 1000, function, ("LiteRT",), arguments)


def compare(*models: TimedModel, **settings: Any) -> BenchRecord:
    lines: list[str] = []
    how = Settings(**{"rounds": 2, "runs": 20, "seconds": 20.0, **settings})
    return compare_models.compare(models, how, PHOTO, (), lines.append)


@pytest.fixture
def _product_takes_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let numpy's product take 1 ms of the fake clock, for which it would take no time."""
    product = load_tflite.Loaded(
        lambda: clock.sleep(1e-3), load_tflite.About("numpy", "2", None, "float32", 0.0, 10**9)
    )
    monkeypatch.setattr(load_tflite, "load_product", lambda sides: product)  # noqa: ARG005 (by its name)


@pytest.mark.usefixtures("in_process", "_product_takes_time")
def test_known_times_are_what_is_reported() -> None:
    record = compare(fake_model("sleeper", seconds=0.05), fake_model("uneven", seconds=0.01))
    sleeper, uneven = record.runners
    assert asdict(sleeper.ms) == pytest.approx({"p50": 50, "p90": 50, "p99": 50, "mean": 50})
    assert uneven.ms.p50 == pytest.approx(10)
    assert uneven.ms.p90 == pytest.approx(100)
    assert uneven.ms.p99 == pytest.approx(100)
    assert (sleeper.ratio_p50, sleeper.ratio_interval95) == (1, (1, 1))
    low, high = uneven.ratio_interval95
    assert uneven.ratio_p50 == pytest.approx(0.2)
    assert low <= uneven.ratio_p50 <= high < 0.5
    assert sleeper.load_s == 0.25
    assert sleeper.first_ms == pytest.approx(50)
    assert sleeper.per_second == pytest.approx(20)
    assert sleeper.gmacs == pytest.approx(0.02)
    assert record.peak_gmacs["1"] == pytest.approx(1000)
    assert sleeper.share_of_peak == pytest.approx(0.02 / 1000)


def test_known_memory_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    peaks = {}
    with packages() as folder:
        for load, arguments in (("leaky", {"megabytes": 60}), ("sleeper", {"seconds": 0})):
            job = {"load": f"fake_runners:{load}", "arguments": arguments, "runs": 0, "seconds": 0}
            figures = call(load, "bench.time_one_round:measure", job, folder)
            peaks[load] = figures["peak_bytes"] - figures["bare_bytes"]
    assert peaks["sleeper"] < 20e6
    assert 55e6 < peaks["leaky"] < 75e6  # pages that the bare process had freed are used again


@pytest.mark.usefixtures("in_process", "_product_takes_time")
@pytest.mark.parametrize(("runs", "seconds", "photos"), [(40, 20.0, 10), (10**6, 1.0, 5)])
def test_the_steps_of_a_photo_are_timed_apart_and_together(
    runs: int, seconds: float, photos: int
) -> None:
    (runner,) = compare(fake_model("stepwise"), runs=runs, seconds=seconds).runners
    assert runner.photo_ms == pytest.approx(
        {"decode": 10, "preprocess": 20, "invoke": 30, "total": 60}
    )
    assert [len(one_round.photo_ns["total"]) for one_round in runner.rounds] == [photos] * 2


def test_a_round_ends_after_its_runs_or_its_seconds(clock: Clock) -> None:
    def nap() -> None:
        clock.sleep(0.1)

    assert len(time_calls(nap, Limits(7, 60))) == 7
    assert len(time_calls(nap, Limits(10**9, 0.95))) == 10
    assert time_calls(nap, Limits(5, 0)) == [10**8]


def test_warm_up_ends_once_two_windows_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = [[100] * 5, [50] * 5, [30] * 5, [29] * 5, [1] * 5]
    monkeypatch.setattr("bench.time_one_round.time_calls", lambda _call, _limits: paces.pop(0))
    monkeypatch.setattr("bench.time_one_round.MIN_WARM_UP_S", 0.0)
    assert warm_up(lambda: None) == (20, True)
    assert paces == [[1] * 5]


def test_warm_up_of_a_fast_model_lasts_until_the_clock_rises(clock: Clock) -> None:
    start = clock.perf_counter()
    calls, steady = warm_up(lambda: clock.sleep(0.002))
    assert steady
    assert 0.5 <= clock.perf_counter() - start < 0.52
    assert calls == pytest.approx(250, abs=5)


def test_warm_up_that_does_not_become_steady_ends(clock: Clock) -> None:
    def slower() -> None:
        clock.sleep((clock.perf_counter() - start) / 10 + 0.001)

    start = clock.perf_counter()
    _, steady = warm_up(slower)
    assert not steady
    assert 10 <= clock.perf_counter() - start < 12


def test_without_runs_there_is_one_call(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.time_one_round.gc.disable", lambda: None)
    before = clock.ns
    figures = measure("tests.helpers.fake_runners:sleeper", {"seconds": 0.01}, 0, 0)
    assert figures["first_ns"] == clock.ns - before == 10**7
    assert (figures["samples_ns"], figures["warm_up"]) == ([], 0)


ANSWER: dict[str, Any] = {
    "runtime": "LiteRT", "version": "1", "delegate": None, "input": "float32", "load_s": 0.1,
    "multiply_adds": 10**6, "first_ns": 10**6, "warm_up": 10, "steady": True,
    "samples_ns": [10**6] * 3, "photo_ns": {}, "bare_bytes": 10, "peak_bytes": 50,
}  # fmt: skip
PYTHON = {
    "python": "3.11.1", "numpy": "2", "pillow": "12", "runtimes": ["LiteRT"],
    "unusable": {"other": "other fails"},
}  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the runners that are called for a round; none of them runs."""
    names: list[str] = []

    def call(name: str, function: str, *_: Any, **__: Any) -> Any:
        if function == "bench.load_tflite:describe_python":
            return PYTHON
        names.append(name)
        return ANSWER

    monkeypatch.setattr(compare_models, "call", call)
    monkeypatch.setattr("bench.stats.RESAMPLES", 20)
    return names


def disturb(monkeypatch: pytest.MonkeyPatch, *shares: float) -> None:
    """Let others take these shares of the CPU in the first rounds, and nothing after."""
    remaining = list(shares)

    class Watch:
        def read(self) -> Disturbance:
            return Disturbance(remaining.pop(0) if remaining else 0.0, throttled=False)

    monkeypatch.setattr(compare_models, "CpuWatch", Watch)


def unused_model(name: str, runtime: str = "LiteRT") -> TimedModel:
    return TimedModel(name, name, 1, "x:y", (runtime,))


def test_each_round_has_every_runner_in_an_order_of_its_own(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch)
    models = [unused_model(name) for name in "abcdef"]
    record = compare(*models, rounds=4)
    orders = [tuple(calls[i : i + 7]) for i in range(0, 28, 7)]
    assert all(set(order) == {*"abcdef", "product"} for order in orders)
    assert len(set(orders)) > 1
    for seed, same in ((0, True), (1, False)):
        calls.clear()
        again = compare(*models, rounds=4, seed=seed)
        assert again.settings.seed == seed
        assert ([tuple(calls[i : i + 7]) for i in range(0, 28, 7)] == orders) == same
    assert [runner.model for runner in record.runners] == list("abcdef")
    assert record.runners[0].peak_rss_bytes == 40


@pytest.mark.parametrize(("shares", "times", "bad"), [((0.5,), 5, False), ((0.5, 0.4), 5, True)])
def test_a_busy_round_is_repeated_once_and_marked_if_it_still_is(
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, ...],
    times: int,
    bad: bool,
) -> None:
    disturb(monkeypatch, *shares)
    monkeypatch.setattr("random.Random.sample", lambda _self, runners, _count: list(runners))
    record = compare(unused_model("model"))
    assert calls == ["model", "model", "product", "model", "product"]
    assert len(calls) == times
    first, second = record.runners[0].rounds
    assert (first.repeated, first.bad) == (True, bad)
    assert (second.repeated, second.bad) == (False, False)
    text = report.report(record)
    warning = (
        "busy in 1 of 2 rounds (marked *), when repeated too: others took up to 40% of the CPU"
    )
    assert (warning in text) == bad
    assert ("*1.00" in text) == bad


def test_a_model_without_its_runtime_is_left_out_and_named(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch)
    lines: list[str] = []
    models = [unused_model("a.pb", "TensorFlow"), unused_model("b")]
    record = compare_models.compare(models, Settings(rounds=2), PHOTO, (), lines.append)
    line = "a.pb on TensorFlow: not run: it is not installed, or not selected"
    assert line in lines
    assert line in report.report(record)
    assert "other fails" in lines
    assert [runner.model for runner in record.runners] == ["b"]
    assert "a.pb" not in calls


@pytest.mark.usefixtures("calls")
def test_a_throttled_machine_is_not_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        def read(self) -> Disturbance:
            return Disturbance(None, throttled=True)

    monkeypatch.setattr(compare_models, "CpuWatch", Watch)
    text = report.report(compare(unused_model("model")))
    assert "the CPU was throttled in 2 of 2 rounds (marked *), when repeated too" in text
    assert "was busy" not in text
    assert "this system does not report what others took of the CPU" in text


@pytest.mark.usefixtures("in_process", "_product_takes_time")
def test_a_model_that_does_not_run_leaves_the_others_to_run() -> None:
    record = compare(fake_model("broken"), fake_model("sleeper", seconds=0.002), runs=5)
    (runner,) = record.runners
    assert runner.model == "sleeper"
    assert runner.ratio_p50 == 1  # the first model that runs is the reference
    (refused,) = record.not_run
    assert refused.model == "broken"
    text = report.report(record)
    assert "broken on LiteRT: not run: no such operator" in text
    assert "ratio: p50 against that of sleeper (LiteRT) on as many" in text
    with pytest.raises(BadData, match="broken on LiteRT: not run: no such operator"):
        compare(fake_model("broken"))


def test_the_peak_is_of_the_side_that_numpy_is_best_at() -> None:
    # A product of 2x2 is nearly all overhead: no machine is best at it.
    product = load_tflite.load_product((2, 256))
    assert product.about.multiply_adds == 256**3
    assert product.call().shape == (256, 256)
