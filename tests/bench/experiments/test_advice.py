"""What following the advice gains is counted over the seeds."""

import pytest

from bench.experiments import advice


def test_the_share_gained_back_is_of_the_sums_over_the_seeds() -> None:
    rows = [
        {"clean": 0.90, "swapped": 0.86, "mended": 0.89},
        {"clean": 0.92, "swapped": 0.90, "mended": 0.91},
    ]
    figures = advice.summarise(rows)
    assert figures["lost"] == pytest.approx(3)
    assert figures["gained"] == pytest.approx(2)
    assert figures["share"] == pytest.approx(4 / 6)
    # Without the first seed the share is 1 / 2, without the second 3 / 4.
    assert figures["share_error"] == pytest.approx(0.125)
    assert figures["lost_error"] == pytest.approx(1)
