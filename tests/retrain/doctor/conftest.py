"""Fixtures of the doctor's tests: folders with faults, examined once."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from retrain.doctor.examine import examine, load
from retrain.doctor.finding import Finding
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings
from tests.helpers.photos import scene

Examine = Callable[[Path], Mapping[str, Finding]]


@pytest.fixture(scope="session")
def examine_folder(cache_dir: Path) -> Examine:
    """Return a function that gives the findings about a folder, the last one of each kind."""

    def run(folder: Path) -> Mapping[str, Finding]:
        source, quiet = Source(folder, cache_dir=cache_dir), Progress(verbosity="ERROR")
        data = load(source, SplitSettings(), quiet)
        return {finding.kind: finding for finding in examine(data, source, quiet)}

    return run


@pytest.fixture(scope="session")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 24 sound photos of two classes, and some with faults. Not to change."""
    root = tmp_path_factory.mktemp("sick")
    for label, first in (("cat", 0), ("dog", 100)):
        (root / label).mkdir()
        for i in range(first, first + 12):
            scene(i).save(root / label / f"sound {i}.jpg", quality=90)
    cat = root / "cat"
    shutil.copy(cat / "sound 0.jpg", cat / "z exact.jpg")
    scene(1).resize((192, 144)).save(cat / "near.jpg", quality=60)
    scene(2).crop((8, 6, 320, 234)).save(root / "dog" / "cropped.jpg", quality=60)
    for label in ("cat", "dog"):
        scene(50).save(root / label / "both.jpg")
    (cat / "cut.jpg").write_bytes((cat / "sound 3.jpg").read_bytes()[:3000])
    (cat / "text.jpg").write_text("no photo")
    (cat / "new.jxl").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40))
    scene(51).resize((60, 60)).save(cat / "tiny.png")
    scene(52).resize((640, 130)).save(cat / "long.jpg")
    scene(53).point(lambda level: level // 6).save(cat / "dark.jpg")
    scene(54).point(lambda level: 225 + level // 9).save(cat / "bright.jpg")
    scene(55).filter(ImageFilter.GaussianBlur(9)).save(cat / "blurred.jpg")
    Image.new("RGB", (320, 240), (90, 120, 60)).save(cat / "empty.jpg")
    scene(56).convert("L").save(cat / "grey.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(57).save(cat / "turned.jpg", exif=exif)
    return root


@pytest.fixture(scope="session")
def findings(sick: Path, examine_folder: Examine) -> Mapping[str, Finding]:
    """Return the findings about `sick`."""
    return examine_folder(sick)
