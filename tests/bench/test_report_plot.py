"""The pictures of a benchmark: what is in them, not how they look."""

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from bench import report_plot
from tests.helpers.bench_fixtures import invoke
from tests.helpers.record_fixtures import busy, draw, record, runner, write_records


def texts(path: Path) -> str:
    elements = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 (ours)
    return "\n".join("".join(element.itertext()) for element in elements)


@pytest.mark.parametrize(("accuracy", "panels"), [(None, 1), (0.9, 2)])
def test_a_picture_shows_each_runner_and_accuracy_where_it_is_known(
    tmp_path: Path, accuracy: float | None, panels: int
) -> None:
    runners = [
        runner("graph", draw(12), accuracy=accuracy),
        runner("small", draw(5)),
        busy(runner("small", draw(3), threads=2), 0),
    ]
    (path,) = write_records(tmp_path, laptop=record(*runners))
    png, svg, again = (tmp_path / "plots" / name for name in ("p.png", "p.svg", "again.svg"))
    result = invoke("plot", path, "--output", png, "--output", svg, "--output", again)
    assert result.exit_code == 0, result.output
    assert svg.read_bytes() == again.read_bytes()
    with Image.open(png) as image:
        assert image.width == panels * 7 * 150
    text = texts(svg)
    for name in ("graph, LiteRT 2.3.0, 1 thr.", "small, LiteRT 2.3.0, 1 thr.", "* small, "):
        assert name in text
    assert ("test accuracy, %" in text) == (panels == 2)
    assert "Cortex-A76, 4 cores" in text


def test_two_machines_are_in_one_picture(tmp_path: Path) -> None:
    laptop = record(runner("m", draw(5), accuracy=0.9), cpu="Laptop")
    pi = record(runner("m", draw(40), accuracy=0.9))
    svg = tmp_path / "both.svg"
    result = invoke("plot", *write_records(tmp_path, laptop=laptop, pi=pi), "--output", svg)
    assert result.exit_code == 0, result.output
    for name in ("[1] m, LiteRT 2.3.0, ", "[2] m, LiteRT 2.3.0, ", "[1] Laptop", "[2] Cortex-A76"):
        assert name in texts(svg)


def test_a_model_has_one_colour_in_both_panels(tmp_path: Path) -> None:
    runners = [
        runner("unknown", draw(12)),
        runner("scored", draw(5), accuracy=0.9, accuracy_interval95=(0.85, 0.93)),
    ]
    svg = tmp_path / "two.svg"
    report_plot.draw([record(*runners)], svg)
    drawing = svg.read_text()
    # The first two colours: one box of the first model; box, mark, bar and caps of the second.
    assert drawing.count("#1f77b4") == 1
    assert drawing.count("#ff7f0e") > 3


def test_names_and_rounded_intervals_are_drawn_as_they_are(tmp_path: Path) -> None:
    name, svg = "a$\\frac{$.tflite", tmp_path / "odd.svg"
    interval = (0.8, 1 - 1e-16)
    report_plot.draw(
        [record(runner(name, draw(5), accuracy=1.0, accuracy_interval95=interval))], svg
    )
    assert name in texts(svg)


@pytest.mark.parametrize(
    ("paces", "ticks"),
    [((4.2, 5.1), "4.5"), ((24, 120), "30"), ((2, 300), "20"), ((0.02, 500), "0.1")],
)
def test_an_axis_has_ticks_enough(tmp_path: Path, paces: tuple[float, float], ticks: str) -> None:
    svg = tmp_path / "axis.svg"
    report_plot.draw([record(*(runner(str(pace), draw(pace)) for pace in paces))], svg)
    words = texts(svg).splitlines()
    assert ticks in words
    numbers = [word for word in words if word.replace(".", "").isdigit()]
    assert 4 <= len(numbers) <= 12


def test_a_picture_without_a_folder_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("plot", tmp_path / "none.json", "--output", tmp_path / "file" / "plot.png")
    assert result.exit_code == 3
    assert f"{tmp_path / 'file'}: File exists" in result.stderr


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
    (path,) = write_records(tmp_path, laptop=record(runner("m", draw(5))))
    if without:
        monkeypatch.setitem(sys.modules, without, None)
    result = invoke("plot", path, "--output", tmp_path / name)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / name).exists()
