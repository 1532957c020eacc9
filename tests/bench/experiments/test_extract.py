"""The comparison of extraction rates, on few photos; it does not assert on speed."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from bench.experiments import extract, memory
from deploy.errors import BadData
from tests.helpers.deploy_fixtures import networks


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny frozen graph and its flatbuffer, as the cache has them."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "graph.pb").write_bytes(networks().graph)
    (folder / "model.tflite").write_bytes(networks().float32)
    return folder


def test_extraction_is_compared_on_the_same_photos(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(35):
            Image.new("RGB", (40, 30), (i, i, i)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no photo")
    calls: list[tuple[int, str, tuple[str, ...]]] = []

    def product(
        folder: Path,
        place: Path,  # noqa: ARG001
        bottlenecks: str,
        options: tuple[str, ...],
    ) -> extract.Product:
        calls.append((len(extract.find_photos(folder)), bottlenecks, options))
        spec = {"height": 32, "width": 32, "crop": None, "mean": 128.0, "std": 128.0}
        graph = str(prepared / "graph.pb")
        made = {"analysed": 70, "seconds": {"bottlenecks": 0.5}, "graph": graph, "input": spec}
        return extract.Product(made, 321.0)

    def road_mb(folder: Path, *_: object) -> dict[str, float]:
        calls.append((len(extract.find_photos(folder)), "run", ("--architecture", "x")))
        return {"train": 700.0, "convert": 800.0}

    monkeypatch.setattr(extract, "product", product)
    monkeypatch.setattr(extract, "road_mb", road_mb)
    figures = extract.compare(tmp_path, rounds=1, options=("--architecture", "x"))
    assert figures["photos"] == 70
    assert [count for count, *_ in calls] == [12, 12, 70, 70, 70]
    assert len({bottlenecks for _, bottlenecks, _ in calls}) == 5
    assert {options[:2] for *_, options in calls} == {("--architecture", "x")}
    engines = [options[3] for *_, options in calls[2:]]
    assert engines == ["auto", "tflite", "tensorflow"]
    assert all(figures["photos_per_s"][name] == [140.0] for name in "ALT")
    held = {"train": [700.0], "convert": [800.0]}
    assert figures["peak_mb"] == {"A": [321.0], "L": [321.0], "T": [321.0], **held}
    for name in "BCDE":
        assert len(figures["photos_per_s"][name]) == 1
        assert min(figures["photos_per_s"][name]) > 0
    text = extract.table(figures)
    for said in (
        "A/L 1.00",
        "A/T 1.00",
        "A/B",
        "A/C",
        "A/D",
        "A/E",
        "T peak 321 MB",
        "convert peak 800 MB",
    ):
        assert said in text


def test_the_product_is_run_and_its_memory_measured(
    photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").symlink_to(cache_dir)
    made = extract.product(photos, tmp_path, "mine", ["--extract-engine", "tflite"])
    assert made.made["analysed"] == 72
    assert 50 < made.peak_mb < 1000
    with pytest.raises(BadData, match=r"`retrain bottlenecks` .* exit code 2"):
        extract.product(photos, tmp_path, "mine", ("--no-such-option",))


FAMILY = """
import subprocess, sys, time
held = bytearray({mb} << 20)
held[::4096] = b"x" * len(held[::4096])
if {children}:
    code = sys.argv[1]
    subprocess.run([sys.executable, "-c", code], check=True)
time.sleep(0.5)
print("said")
"""


def test_memory_is_that_of_all_that_a_process_starts() -> None:
    child = FAMILY.format(mb=200, children=False)
    alone = memory.run([sys.executable, "-c", child])
    both = memory.run([sys.executable, "-c", FAMILY.format(mb=100, children=True), child])
    assert (alone.stdout, alone.exit_code) == (b"said\n", 0)
    assert both.stdout == b"said\nsaid\n"
    assert 205 < alone.peak_mb < 260
    assert 310 < both.peak_mb < 400
    assert memory.run([sys.executable, "-c", "raise SystemExit(3)"]).exit_code == 3
