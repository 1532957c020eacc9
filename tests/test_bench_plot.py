"""The pictures of a benchmark: what is in them, not how they look."""

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from test_bench_stats import drawn, record, run, runner, written


def texts(path: Path) -> str:
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 (ours)
    return "\n".join("".join(each.itertext()) for each in found)


@pytest.mark.parametrize(("accuracy", "panels"), [(None, 1), (0.9, 2)])
def test_a_picture_shows_each_runner_and_accuracy_where_it_is_known(
    tmp_path: Path, accuracy: float | None, panels: int
) -> None:
    runners = [
        runner("graph", drawn(12), accuracy=accuracy),
        runner("small", drawn(5), accuracy=None),
        runner("small", drawn(3), threads=2, accuracy=None),
    ]
    (path,) = written(tmp_path, one=record(*runners))
    png, svg, again = (tmp_path / "plots" / name for name in ("p.png", "p.svg", "again.svg"))
    result = run("--merge", path, "--plot", png, "--plot", svg, "--plot", again, "--json")
    assert result.exit_code == 0, result.output
    assert svg.read_bytes() == again.read_bytes()
    with Image.open(png) as image:
        assert image.width == panels * 7 * 150
    said = texts(svg)
    for name in ("graph, LiteRT, 1 thr.", "small, LiteRT, 1 thr.", "small, LiteRT, 2 thr."):
        assert name in said
    assert ("test accuracy, %" in said) == (panels == 2)
    assert "Cortex-A76, 4 cores" in said


def test_two_machines_are_in_one_picture(tmp_path: Path) -> None:
    one = record(runner("m", drawn(5), accuracy=0.9), cpu="Laptop")
    two = record(runner("m", drawn(40), accuracy=0.9))
    svg = tmp_path / "both.svg"
    result = run("--merge", *written(tmp_path, one=one, two=two), "--plot", svg)
    assert result.exit_code == 0, result.output
    for name in ("[1] m, LiteRT, 1 thr.", "[2] m, LiteRT, 1 thr.", "[1] Laptop", "[2] Cortex-A76"):
        assert name in texts(svg)


@pytest.mark.parametrize(
    ("name", "without", "reason"),
    [
        ("plot.gif", None, "a plot is a .png or a .svg file"),
        ("plot.png", "matplotlib", "a plot needs matplotlib: pip install 'retrain-tflite[plot]'"),
    ],
)
def test_a_picture_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, without: Any, reason: str
) -> None:
    (path,) = written(tmp_path, one=record(runner("m", drawn(5), accuracy=None)))
    if without:
        monkeypatch.setitem(sys.modules, without, None)
    result = run("--merge", path, "--plot", tmp_path / name)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / name).exists()
