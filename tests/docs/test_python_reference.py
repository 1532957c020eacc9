"""The Python page: its examples run, and it describes every public name of `retrain`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import retrain
from tests.docs.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/python.md").read_text("utf-8")
ON_THE_LAPTOP, ON_THE_DEVICE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def run(
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], list[str]]:
    """Return a function that runs an example in `tmp_path`, and returns the words it prints."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/retrain").symlink_to(cache_dir)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run_example(example: str) -> list[str]:
        exec(example, {"__name__": "__main__"})  # noqa: S102 (an example of our own page)
        return capsys.readouterr().out.split()

    return run_example


def test_train_and_convert_from_python(
    run: Callable[[str], list[str]], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").symlink_to(photos)
    figures = run(ON_THE_LAPTOP)
    assert len(figures) == 2
    assert all(float(figure) > 0.8 for figure in figures)


def test_classify_from_python(
    run: Callable[[str], list[str]], converted: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "retrained").symlink_to(converted)
    (tmp_path / "photo.jpg").symlink_to(photos / "stripes" / "00.jpg")
    score, label, *_ = run(ON_THE_DEVICE)
    assert label == "stripes"
    assert float(score.removesuffix("%")) > 50


def test_every_public_name_is_described(site: Path) -> None:
    described = set(re.findall(r"^::: retrain\.(\w+)$", PAGE, flags=re.MULTILINE))
    assert described == set(retrain._MODULES)
    html = (site / "reference/python.html").read_text("utf-8")
    anchors = {name for name in retrain._MODULES if f'id="retrain.{name}"' in html}
    assert anchors == described
    assert "how_many_training_steps" in html
