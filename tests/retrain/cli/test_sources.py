"""Commands on photos of a list, of tar files and of a URL."""

import csv
import hashlib
import json
import os
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from retrain.data.manifest import read_manifest
from tests.helpers.photo_sources import rows_of, write_csv, write_everywhere
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, STEPS, Invoke

NAMES = ("csv", "tars by braces", "memory folder", "memory tars")


@pytest.fixture(scope="module")
def everywhere(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the addresses of sources of the same photos."""
    return write_everywhere(photos, tmp_path_factory.mktemp("sources"), ["memory://commands"])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_source_is_trained_converted_examined_and_shown(
    everywhere: dict[str, str],
    photos: Path,
    name: str,
    cache_dir: Path,
    tmp_path: Path,
    invoke: Invoke,
) -> None:
    address, run = everywhere[name], tmp_path / "run"
    places = ("--cache-dir", cache_dir, "--output-dir", run)
    result = invoke("train", address, *places, "--how-many-training-steps", STEPS)
    assert result.exit_code == 0, result.output
    assert f"{address}: 72 photos in 3 classes" in result.output
    manifest = [photo for photo, _ in read_manifest(run / "manifest.csv")]
    digests = {photo.digest: photo.label for photo in manifest}
    assert len(digests) == len(rows_of(photos))
    settings = json.loads((run / "metrics.json").read_text())["settings"]["source"]
    assert settings["image_dir"] == address
    for command in (
        ("convert", "--output-dir", run, *FEW_CALIBRATION_IMAGES),
        ("doctor", run, "--kind", "exact-copy", "--kind", "bright"),
        ("report", "--output-dir", run),
    ):
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output)
        if command[0] == "convert":
            worst = result.stdout.split("at most, in ")[1].split("\n")[0]
            assert worst in {str(photo.path) for photo in manifest}
    assert (run / "report.html").stat().st_size > 100_000


def test_a_list_named_from_another_folder_is_found_again(
    photos: Path, cache_dir: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").symlink_to(photos)
    rows = [
        {"uri": f"there/{p.parent.name}/{p.name}", "label": name} for p, name in rows_of(photos)
    ]
    write_csv(tmp_path / "list.csv", rows)
    monkeypatch.chdir(tmp_path)
    places = ("--cache-dir", cache_dir, "--output-dir", "run")
    result = invoke("train", "list.csv", *places, "--how-many-training-steps", STEPS)
    assert result.exit_code == 0, result.output
    monkeypatch.chdir("/")
    result = invoke("doctor", tmp_path / "run", "--kind", "exact-copy")
    assert result.exit_code == 0, result.output


def draw(folder: Path) -> Path:
    """Write a list of two classes, with a copy, a row twice, and a row of no file."""
    rows = []
    for number in range(12):
        path = folder / "files" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((64, 64), 50 + number).convert("RGB").save(path)
        rows.append({"uri": f"files/{path.name}", "label": ("cat", "dog")[number % 2]})
    (folder / "files" / "copy.png").write_bytes((folder / "files" / "0.png").read_bytes())
    (folder / "files" / "text.jpg").write_text("no photo")
    more = [("files/copy.png", "cat"), ("files/../files/2.png", "cat"), ("files/text.jpg", "cat")]
    rows += [
        {"uri": uri, "label": label} for uri, label in (*more, ("gone.png", "cat"), ("", "cat"))
    ]
    return write_csv(folder / "list.csv", rows)


def test_the_doctor_sets_files_of_a_list_aside_and_nothing_else(
    cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    address = draw(folder)
    kinds = ("--kind", "exact-copy", "--kind", "unreadable")
    options = ("--cache-dir", cache_dir, *kinds, "--json")
    aside = tmp_path / "data-quarantine"
    result = invoke("doctor", address, *options, "--quarantine", aside)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    moved = {"files/copy.png", "files/text.jpg"}
    assert {str(Path(path).relative_to(folder)) for path in record["moved"]} == moved
    assert address.exists()
    assert (folder / "files" / "2.png").exists()
    result = invoke("doctor", address, "--undo")
    assert result.exit_code == 0, result.output
    assert (folder / "files" / "copy.png").exists()


@pytest.mark.parametrize("name", ["tars by braces", "memory folder", "tars"])
def test_the_doctor_does_not_move_what_is_no_file(
    everywhere: dict[str, str], name: str, cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    arguments = ("--quarantine", tmp_path / "aside", "--kind", "bright", "--kind", "unreadable")
    result = invoke("doctor", everywhere[name], "--cache-dir", cache_dir, *arguments)
    if name == "tars":  # a folder may be moved from, but nothing in this one is suggested
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code == 2
        assert "are not moved" in result.stderr
    result = invoke("doctor", everywhere[name], "--undo")
    assert result.exit_code == 2


def test_a_sound_photo_that_is_left_out_is_not_suggested(
    cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    rows = list(csv.DictReader(draw(tmp_path).read_text().splitlines()))
    os.mkfifo(tmp_path / "pipe.jpg")
    rows.append({"uri": "pipe.jpg", "label": "cat"})
    content = {row["uri"]: tmp_path / row["uri"] for row in rows}
    digests = {
        uri: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for uri, path in content.items()
    }
    digests["files/5.png"] = "0" * 64
    digests["files/6.png"] = "no digest"
    address = write_csv(
        tmp_path / "list.csv", [{**row, "digest": digests[row["uri"]]} for row in rows]
    )
    kind = ("--cache-dir", cache_dir, "--kind", "unreadable", "--json")
    result = invoke("doctor", address, *kind)
    assert result.exit_code == 0, result.output
    damaged, unused = json.loads(result.stdout)["findings"]
    assert [Path(photo["path"]).name for photo in damaged["photos"]] == ["text.jpg"]
    assert {Path(photo["path"]).name for photo in unused["photos"]} == {
        "5.png",
        "6.png",
        "gone.png",
        "list.csv",
        "pipe.jpg",
    }
    assert (damaged["suggested"], unused["suggested"], unused["command"]) == (1, 0, None)


@pytest.mark.parametrize("name", ["x-02.tar", "."])
def test_a_tar_file_that_is_cut_off_is_reported_and_not_suggested(
    photos: Path, name: str, cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    folder = Path(write_everywhere(photos, tmp_path)["tars"])
    cut = folder / "x-02.tar"
    cut.write_bytes(cut.read_bytes()[:-30_000])
    kind = ("--cache-dir", cache_dir, "--kind", "unreadable", "--json")
    result = invoke("doctor", folder / name, *kind)
    assert result.exit_code == 0, result.output
    (finding,) = json.loads(result.stdout)["findings"]
    assert "not a whole tar file" in finding["photos"][0]["reason"]
    assert (finding["suggested"], finding["command"]) == (0, None)


def test_a_list_at_a_url_of_photos_here_has_findings_without_commands(
    cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    text = draw(tmp_path).read_text().replace("files/", f"{tmp_path}/files/")
    with fsspec.open("memory://lists/l.csv", "w") as stream:
        stream.write(text)
    kind = ("--cache-dir", cache_dir, "--kind", "exact-copy", "--json")
    result = invoke("doctor", "memory://lists/l.csv", *kind)
    assert result.exit_code == 0, result.output
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["suggested"], finding["command"]) == (1, None)


def test_photos_cannot_be_trained_on_without_their_package(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    result = invoke("train", "gs://bucket/photos", "--output-dir", tmp_path / "run")
    assert result.exit_code == 3
    assert "pip install gcsfs" in result.stderr


def test_failed_csv_has_the_rows_of_a_list_that_are_left_out(
    cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    address, run = draw(tmp_path), tmp_path / "run"
    places = ("--cache-dir", cache_dir, "--output-dir", run)
    result = invoke("train", address, *places, "--how-many-training-steps", STEPS)
    assert result.exit_code == 0, result.output
    with (run / "failed.csv").open(newline="") as stream:
        rows = [
            (Path(row["path"]).name, row["label"], row["reason"]) for row in csv.DictReader(stream)
        ]
    assert [row for row in rows if row[0] != "text.jpg"] == [
        ("gone.png", "cat", "there is no such file"),
        ("list.csv", "cat", "line 18 has no uri"),
    ]
