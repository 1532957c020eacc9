"""The arithmetic of the experiments; what they measure is run by hand."""

import numpy as np
import pytest

from bench.experiments import accuracy, backbones, classic, device, extract, recipes, repeat
from bench.experiments.unknown import Scores, assess, auroc
from tests.helpers.record_fixtures import draw, record, runner


@pytest.mark.parametrize(
    ("inside", "outside", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 1.0),
        ([0.1, 0.2], [0.9, 0.8], 0.0),
        ([0.5, 0.5], [0.5], 0.5),
        ([0.9, 0.3], [0.1, 0.5], 0.75),
    ],
)
def test_auroc_is_how_often_the_known_photo_scores_higher(
    inside: list[float], outside: list[float], expected: float
) -> None:
    assert auroc(np.array(inside), np.array(outside)) == expected


def scores(values: list[float]) -> Scores:
    return Scores(np.array(values), np.array(values) < 0.5)


def test_false_accepts_are_counted_where_95_percent_are_accepted() -> None:
    row = assess(scores([i / 100 for i in range(1, 101)]), scores([0.04, 0.05, 0.06, 0.99]))
    # 0.06 to 1.00 are 95 of 100, but a quantile lies on a photo: 0.05 is accepted too.
    assert row["false_accept_at_95"] == 0.75
    assert row["rule"] == {"true_accept": 0.51, "false_accept": 0.25}
    assert (row["known"], row["unknown"]) == (100, 4)


def test_repeated_runs_are_summed_up() -> None:
    records = [
        record(
            runner("graph", draw(10 * drift), ratio_p50=1.0),
            runner("m", draw(5 * drift)),
        )
        for drift in (0.8, 1.0, 1.2)
    ]
    graph, model = repeat.summary(records)
    assert graph["p50_variation"] == pytest.approx(0.2, rel=0.02)
    assert (graph["ratio_variation"], model["ratio_variation"]) == (0, 0)
    text = repeat.table([graph, model])
    assert "20.0%" in text
    assert "0.500 0.500 0.500" in text
    # A runner that is not in every record has no variation.
    (only,) = repeat.summary([*records, record(runner("m", draw(5)))])
    assert only["model"] == "m"


def test_accuracies_of_backbones_have_student_intervals() -> None:
    rows = [
        {"salt": "1", "graph": 0.8, "int8": 0.7, "agreement": 0.95, "total": 10},
        {"salt": "2", "graph": 0.9, "int8": 0.7, "agreement": 0.95, "total": 10},
    ]
    means = accuracy.mean(rows)
    assert means["mean"]["graph"] == pytest.approx(0.85)
    assert means["standard_error"]["graph"] == pytest.approx(0.05)
    row = {
        "backbone": "lite1", "folder": "flowers", "photos": 72, "salts": rows, **means,
        "p50_ms": {"graph": 12.0, "float32": 8.0, "int8": 5.0},
        "bytes": {"graph": 16_000_000, "float32": 15_000_000, "int8": 4_000_000},
        "photos_per_s": [100.0, 144.0, 200.0],
    }  # fmt: skip
    # Half a difference of ten points is one standard error of two; 12.71 of them are 95%.
    assert backbones.table([row]).splitlines()[2] == (
        "| flowers (72) | lite1 | 85.0% ± 63.5 | 70.0% ± 0.0 | 95.0% "
        "| 12.0 / 8.0 / 5.0 | 15.0 / 4.0 | 144 |"
    )


def test_recipes_lose_points_below_the_graph() -> None:
    salts = [
        {"graph": 0.9, "accuracy": score, "interval95": [0.8, 0.96], "agreement": 0.98, "bytes": 4}
        for score in (0.9, 0.88)
    ]
    mean = recipes._mean(salts)
    assert mean["drop"] == pytest.approx(1)
    assert mean["accuracy"] == pytest.approx(0.89)


def test_ratios_are_those_of_one_round() -> None:
    assert device._ratio([10, 20, 90], [10, 10, 30]) == 2
    figures = {
        "photos": 70, "names": {"A": "product", "B": "one loop"},
        "photos_per_s": {"A": [100.0, 200.0, 400.0], "B": [100.0, 100.0, 100.0]},
        "peak_mb": {"A": [300.0, 321.0]},
    }  # fmt: skip
    text = extract.table(figures)
    assert "A/B 2.00 (median)" in text
    assert "A peak 321 MB" in text


def test_the_classic_script_is_compared_by_the_rounds_of_a_state() -> None:
    rows = [
        {
            "round": number,
            "state": state,
            "classic": {"seconds": 60.0, "cpu_s": 80.0, "accuracy": 0.9},
            "retrain": {"seconds": seconds, "cpu_s": 8.0, "accuracy": 0.92},
        }
        for number, seconds in enumerate((2.0, 3.0, 10.0), 1)
        for state in ("prepared", "cached")
    ]
    rows[0]["classic"] = {"seconds": 20.0, "cpu_s": 80.0, "accuracy": 0.87}
    summaries = classic.summarise(rows)
    assert list(summaries) == ["prepared", "cached"]
    # Ratios are 10, 20 and 6: the ratio of the medians would be 20.
    assert summaries["prepared"]["ratio"] == 10
    assert summaries["prepared"]["cpu_ratio"] == 10
    assert summaries["prepared"]["classic"]["accuracy"] == pytest.approx(0.89)
    assert summaries["cached"]["ratio"] == 20
    text = classic.table({"folder": "flowers", "photos": 999, "rows": rows})
    assert "prepared         60.0        3.0    10.0" in text
