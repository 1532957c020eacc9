"""The clock, held against runners whose time and memory are known."""

import time
from pathlib import Path
from typing import Any

import pytest

from bench import compare_models, load_tflite, report, stats
from bench.compare_models import Settings
from bench.find_models import Subject
from bench.time_one_round import Limits, measure, timed, warm
from deploy.errors import BadData

PHOTO = Path(__file__)  # of fakes, any file is a photo


def fake(load: str, **arguments: Any) -> Subject:
    return Subject(load, load, 1000, f"fake_runners:{load}", ("LiteRT",), arguments)


def compared(*subjects: Subject, **settings: Any) -> Any:
    told: list[str] = []
    how = Settings(**{"rounds": 2, "runs": 20, "seconds": 20.0, **settings})
    return compare_models.compare(subjects, how, PHOTO, (), told.append)


@pytest.fixture
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    monkeypatch.setattr(compare_models, "BUSY", 2.0)  # a busy machine is tested below


@pytest.mark.usefixtures("_fakes")
def test_known_times_and_known_memory_are_what_is_reported() -> None:
    record = compared(
        fake("sleeper", seconds=0.05), fake("moody", seconds=0.01), fake("leaky", megabytes=3)
    )
    sleeper, moody, leaky = record["runners"]
    assert sleeper["ms"]["p50"] == pytest.approx(50, rel=0.03)
    assert moody["ms"]["p50"] < 20
    assert moody["ms"]["p90"] >= 100
    assert moody["ms"]["p99"] >= 100
    assert sleeper["peak_rss_bytes"] < 20e6
    assert leaky["peak_rss_bytes"] > 60e6
    assert (sleeper["ratio_p50"], sleeper["ratio_interval95"]) == (1, (1, 1))
    low, high = moody["ratio_interval95"]
    assert moody["ratio_p50"] == pytest.approx(moody["ms"]["p50"] / sleeper["ms"]["p50"])
    assert low <= moody["ratio_p50"] <= high < 0.5
    assert sleeper["load_s"] == 0.25
    assert sleeper["first_ms"] == pytest.approx(50, rel=0.2)
    assert sleeper["per_second"] == pytest.approx(1e3 / sleeper["ms"]["mean"])
    assert sleeper["gmacs"] == pytest.approx(1e-3 / (sleeper["ms"]["p50"] / 1e3))
    peak = record["peak_gmacs"][1]
    assert peak > 1
    assert sleeper["share_of_peak"] == pytest.approx(sleeper["gmacs"] / peak)


@pytest.mark.usefixtures("_fakes")
def test_the_steps_of_a_photo_are_timed_apart_and_together() -> None:
    (runner,) = compared(fake("stepwise"), runs=40)["runners"]
    assert {name: round(ms, -1) for name, ms in runner["photo_ms"].items()} == {
        "decode": 10, "preprocess": 20, "invoke": 30, "total": 60,
    }  # fmt: skip
    assert [len(turn["photo_ns"]["total"]) for turn in runner["rounds"]] == [10, 10]


def test_a_round_ends_after_its_runs_or_its_seconds() -> None:
    assert len(timed(lambda: None, Limits(7, 60))) == 7
    assert len(timed(lambda: None, Limits(10**9, 0.01))) < 10**9
    assert len(timed(lambda: None, Limits(5, 0))) == 1


def test_warm_up_ends_once_two_windows_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = [[100] * 5, [50] * 5, [30] * 5, [29] * 5, [1] * 5]
    monkeypatch.setattr("bench.time_one_round.timed", lambda _call, _limits: paces.pop(0))
    monkeypatch.setattr("bench.time_one_round.LEAST_WARM_UP_S", 0.0)
    assert warm(lambda: None) == (20, True)
    assert paces == [[1] * 5]


def test_warm_up_of_a_fast_model_lasts_for_the_clock_to_rise() -> None:
    start = time.perf_counter()
    calls, steady = warm(lambda: time.sleep(0.002))
    assert steady
    assert time.perf_counter() - start >= 0.5
    assert calls > 50


def test_warm_up_that_never_settles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.time_one_round.WARM_UP_S", 0.0)
    assert warm(lambda: None) == (1, False)


def test_without_runs_there_is_one_call() -> None:
    taken = measure("fake_runners:sleeper", {"seconds": 0.01}, 0, 0)
    assert taken["first_ns"] >= 10e6
    assert (taken["samples_ns"], taken["warm_up"]) == ([], 0)


TURN = {
    "runtime": "LiteRT", "version": "1", "delegate": None, "input": "float32", "load_s": 0.1,
    "multiply_adds": 10**6, "first_ns": 10**6, "warm_up": 10, "steady": True,
    "samples_ns": [10**6] * 3, "photo_ns": {}, "bare_bytes": 1, "peak_bytes": 2,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the runners asked for a round, none of which runs."""
    names: list[str] = []

    def call(name: str, function: str, *_: Any, **__: Any) -> Any:
        if function == "bench.load_tflite:installed":
            return {"python": "3", "runtimes": ["LiteRT"], "unusable": {"other": "other fails"}}
        names.append(name)
        return TURN

    monkeypatch.setattr(compare_models, "call", call)
    return names


def seen(monkeypatch: pytest.MonkeyPatch, *others: float) -> None:
    shares = list(others)

    class Watch:
        def seen(self) -> dict[str, Any]:
            return {"others": shares.pop(0) if shares else 0.0, "throttled": False}

    monkeypatch.setattr(compare_models, "Watch", Watch)


def test_each_round_has_every_runner_in_an_order_of_its_own(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch)
    subjects = [Subject(name, name, 1, "x:y", ("LiteRT",)) for name in "abcdef"]
    record = compared(*subjects, rounds=4)
    orders = [tuple(asked[i : i + 7]) for i in range(0, 28, 7)]
    assert all(set(order) == {*"abcdef", "product"} for order in orders)
    assert len(set(orders)) > 1
    for seed, same in ((0, True), (1, False)):
        asked.clear()
        again = compared(*subjects, rounds=4, seed=seed)
        assert again["settings"]["seed"] == seed
        assert ([tuple(asked[i : i + 7]) for i in range(0, 28, 7)] == orders) == same
    assert [each["model"] for each in record["runners"]] == list("abcdef")


@pytest.mark.parametrize(("others", "times", "bad"), [((0.5,), 5, False), ((0.5, 0.4), 5, True)])
def test_a_busy_round_is_repeated_once_and_said_if_it_still_is(
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    others: tuple[float, ...],
    times: int,
    bad: bool,
) -> None:
    seen(monkeypatch, *others)
    monkeypatch.setattr("random.Random.sample", lambda _self, runners, _count: list(runners))
    record = compared(Subject("model", "0", 1, "x:y", ("LiteRT",)))
    assert asked == ["model", "model", "product", "model", "product"]
    assert len(asked) == times
    first, second = record["runners"][0]["rounds"]
    assert (first["repeated"], first["bad"]) == (True, bad)
    assert (second["repeated"], second["bad"]) == (False, False)
    text = report.report(record)
    told = "busy in 1 of 2 rounds (marked *), when repeated too: others took up to 40% of the CPU"
    assert (told in text) == bad
    assert ("*1.00" in text) == bad


def test_a_model_without_its_runtime_is_left_out_and_said(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch)
    told: list[str] = []
    subjects = [
        Subject("a.pb", "1", 1, "x:y", ("TensorFlow",)),
        Subject("b", "2", 1, "x:y", ("LiteRT",)),
    ]
    record = compare_models.compare(subjects, Settings(rounds=2), PHOTO, (), told.append)
    said = "a.pb on TensorFlow: not run: it is not there, or not asked for"
    assert said in told
    assert said in report.report(record)
    assert "other fails" in told
    assert [each["model"] for each in record["runners"]] == ["b"]
    assert "a.pb" not in asked


@pytest.mark.usefixtures("asked")
def test_a_throttled_machine_is_not_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        def seen(self) -> dict[str, Any]:
            return {"others": None, "throttled": True}

    monkeypatch.setattr(compare_models, "Watch", Watch)
    text = report.report(compared(Subject("model", "0", 1, "x:y", ("LiteRT",))))
    assert "the CPU was throttled in 2 of 2 rounds (marked *), when repeated too" in text
    assert "was busy" not in text
    assert "this system does not tell what others took of the CPU" in text


@pytest.mark.usefixtures("_fakes")
def test_a_model_that_does_not_run_leaves_the_others_to_run() -> None:
    record = compared(fake("sleeper", seconds=0.002), fake("broken"), runs=5)
    (runner,) = record["runners"]
    assert runner["model"] == "sleeper"
    (refused,) = record["not_run"]
    assert refused["model"] == "broken"
    assert "broken on LiteRT: not run: no such operator" in report.report(record)
    with pytest.raises(BadData, match="broken on LiteRT: not run: no such operator"):
        compared(fake("broken"))


@pytest.mark.usefixtures("_fakes")
def test_a_first_model_that_does_not_run_is_no_reference() -> None:
    record = compared(fake("broken"), fake("sleeper", seconds=0.002), runs=5)
    (runner,) = record["runners"]
    assert runner["ratio_p50"] == 1
    assert "ratio: p50 against that of sleeper (LiteRT) on as many" in report.report(record)


def test_the_peak_is_of_the_side_that_numpy_is_best_at() -> None:
    # A product of 2x2 is nearly all overhead: no machine is best at it.
    product = load_tflite.product((2, 256))
    assert product.about.multiply_adds == 256**3
    assert product.call().shape == (256, 256)


def test_percentiles_are_of_all_rounds() -> None:
    ms = stats.milliseconds([[1_000_000] * 45, [2_000_000] * 45, [30_000_000] * 10])
    assert ms == {"p50": 2, "p90": 30, "p99": 30, "mean": pytest.approx(4.35)}
