"""The Python page: its examples run, and it describes every public name of `retrain`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import retrain
from tests.docs.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/python.md").read_text("utf-8")
ON_THE_LAPTOP, ON_THE_DEVICE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(example: str, folder: Path, cache: Path) -> list[str]:
    """Run an example as a script in `folder`; return the words that it prints."""
    script = folder / "example.py"
    script.write_text(example, "utf-8")
    (folder / "cache").mkdir()
    (folder / "cache/retrain").symlink_to(cache)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    process = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_train_and_convert_from_python(photos: Path, cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(photos)
    figures = run(ON_THE_LAPTOP, tmp_path, cache_dir)
    assert len(figures) == 2
    assert all(float(figure) > 0.8 for figure in figures)


def test_classify_from_python(
    converted: Path, photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "retrained").symlink_to(converted)
    (tmp_path / "photo.jpg").symlink_to(photos / "stripes" / "00.jpg")
    score, label, *_ = run(ON_THE_DEVICE, tmp_path, cache_dir)
    assert label == "stripes"
    assert float(score.removesuffix("%")) > 50


def test_every_public_name_is_described(site: Path) -> None:
    described = set(re.findall(r"^::: retrain\.(\w+)$", PAGE, flags=re.MULTILINE))
    assert described == set(retrain._MODULES)
    html = (site / "reference/python.html").read_text("utf-8")
    anchors = {name for name in retrain._MODULES if f'id="retrain.{name}"' in html}
    assert anchors == described
    assert "how_many_training_steps" in html
