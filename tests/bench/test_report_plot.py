"""The pictures of a benchmark: what is in them, not how they look."""

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from bench import report_plot
from tests.helpers.bench_fixtures import invoke as run
from tests.helpers.record_fixtures import drawn, record, runner, written


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
    runners[2]["rounds"][0]["bad"] = True
    (path,) = written(tmp_path, one=record(*runners))
    png, svg, again = (tmp_path / "plots" / name for name in ("p.png", "p.svg", "again.svg"))
    result = run("--merge", path, "--plot", png, "--plot", svg, "--plot", again, "--json")
    assert result.exit_code == 0, result.output
    assert svg.read_bytes() == again.read_bytes()
    with Image.open(png) as image:
        assert image.width == panels * 7 * 150
    said = texts(svg)
    for name in ("graph, LiteRT 2.3.0, 1 thr.", "small, LiteRT 2.3.0, 1 thr.", "* small, "):
        assert name in said
    assert ("test accuracy, %" in said) == (panels == 2)
    assert "Cortex-A76, 4 cores" in said


def test_two_machines_are_in_one_picture(tmp_path: Path) -> None:
    one = record(runner("m", drawn(5), accuracy=0.9), cpu="Laptop")
    two = record(runner("m", drawn(40), accuracy=0.9))
    svg = tmp_path / "both.svg"
    result = run("--merge", *written(tmp_path, one=one, two=two), "--plot", svg)
    assert result.exit_code == 0, result.output
    for name in ("[1] m, LiteRT 2.3.0, ", "[2] m, LiteRT 2.3.0, ", "[1] Laptop", "[2] Cortex-A76"):
        assert name in texts(svg)


def test_a_model_has_one_colour_in_both_panels(tmp_path: Path) -> None:
    runners = [
        runner("unknown", drawn(12)),
        runner("scored", drawn(5), accuracy=0.9, accuracy_interval95=[0.85, 0.93]),
    ]
    svg = tmp_path / "two.svg"
    report_plot.draw([record(*runners)], svg)
    drawing = svg.read_text()
    # matplotlib's first two: one box of the first, and box, mark, bar and caps of the second.
    assert drawing.count("#1f77b4") == 1
    assert drawing.count("#ff7f0e") > 3


def test_names_and_rounded_intervals_are_drawn_as_they_are(tmp_path: Path) -> None:
    name, svg = "a$\\frac{$.tflite", tmp_path / "odd.svg"
    interval = [0.8, 1 - 1e-16]
    report_plot.draw(
        [record(runner(name, drawn(5), accuracy=1.0, accuracy_interval95=interval))], svg
    )
    assert name in texts(svg)


@pytest.mark.parametrize(
    ("paces", "ticks"),
    [((4.2, 5.1), "4.5"), ((24, 120), "30"), ((2, 300), "20"), ((0.02, 500), "0.1")],
)
def test_an_axis_has_ticks_enough(tmp_path: Path, paces: tuple[float, float], ticks: str) -> None:
    svg = tmp_path / "axis.svg"
    report_plot.draw([record(*(runner(str(pace), drawn(pace)) for pace in paces))], svg)
    said = texts(svg).splitlines()
    assert ticks in said
    numbers = [word for word in said if word.replace(".", "").isdigit()]
    assert 4 <= len(numbers) <= 12


def test_a_picture_that_fails_late_loses_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "plot.png")

    monkeypatch.setattr(report_plot, "draw", full)
    (path,) = written(tmp_path, one=record(runner("m", drawn(5))))
    result = run("--merge", path, "--plot", tmp_path / "plot.png")
    assert result.exit_code == 3
    assert "plot.png: No space left on device" in result.stderr
    assert "m      LiteRT 2.3.0" in result.stdout


def test_a_picture_with_no_place_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "no-model.tflite", "--plot", tmp_path / "file" / "plot.png")
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
    (path,) = written(tmp_path, one=record(runner("m", drawn(5), accuracy=None)))
    if without:
        monkeypatch.setitem(sys.modules, without, None)
    result = run("--merge", path, "--plot", tmp_path / name)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / name).exists()
