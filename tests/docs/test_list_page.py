"""The programs of the page on lists write what `train` reads."""

import os
import subprocess
import sys
from pathlib import Path

from retrain.data.source import read_photos
from tests.helpers.pages import ROOT, examples
from tests.helpers.photo_folders import put

PAGE = ROOT / "docs/how-to/train-from-a-list.md"


def test_the_programs_write_sources_of_the_same_photos(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / "photos" / ("good", "broken")[number % 2] / f"{number}.png", number)
    programs = [example.code for example in examples(PAGE) if example.language == "python"]
    for program in programs:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    addresses = [
        code.removeprefix("retrain train ").strip().strip("'")
        for code in (example.code for example in examples(PAGE) if example.language == "sh")
        if code.startswith("retrain train ")
    ]
    assert len(addresses) == len(programs) == 2
    expected = read_photos(tmp_path / "photos").sha256
    for address in addresses:
        assert read_photos(os.path.join(tmp_path, address)).sha256 == expected  # noqa: PTH118
