"""Which photos a command line names: files, folders, patterns, standard input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import commands
from deploy.cli.label import find_photos
from tests.helpers.deploy_fixtures import draw_photos, forbid


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder of four photos, and more in it and below it."""
    monkeypatch.chdir(tmp_path)
    drawn = draw_photos(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "no-suffix").write_bytes(drawn["red"].read_bytes())
    (tmp_path / "below" / ".hidden.jpg").write_bytes(drawn["red"].read_bytes())
    (tmp_path / "notes.txt").write_text("no photo, and it does not claim to be one")
    (tmp_path / "phone").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(60))
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["two.png", "one.jpg", "two.png"], ["two.png", "one.jpg", "two.png"]),
        (["."], ["four.gif", "one.jpg", "phone", "three.webp", "two.png", "below/no-suffix"]),
        (["./below/"], ["below/no-suffix"]),
        (["*.[jp][pn]g"], ["one.jpg", "pipe.jpg", "two.png"]),
        (["b*"], ["below/no-suffix"]),
        (["**/*-*"], ["below/no-suffix"]),
        (["**/b*"], ["**/b*"]),
        (["none.jpg", "*.none", "-"], ["none.jpg", "*.none", "-"]),
        (["empty"], ["empty"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_names_become_photos(names: list[str], found: list[str]) -> None:
    assert list(find_photos(names)) == found


def test_an_absolute_pattern_is_one_too(folder: Path) -> None:
    assert list(find_photos([f"{folder}/t*"])) == [f"{folder}/three.webp", f"{folder}/two.png"]


def test_a_name_that_looks_like_a_pattern_is_a_name_first(folder: Path) -> None:
    (folder / "one[1].jpg").touch()
    assert list(find_photos(["one[1].jpg"])) == ["one[1].jpg"]


@pytest.mark.usefixtures("folder")
def test_what_a_folder_cannot_show_is_reported(model: Path) -> None:
    result = CliRunner().invoke(commands, [".", "empty", "gone", "--model", str(model), "--json"])
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 5
    assert result.stderr.splitlines() == [
        "Error: phone: camera raw file: develop it to JPEG, PNG or TIFF",
        "Error: empty: no photos in this folder",
        "Error: gone: No such file or directory",
        "Error: 3 of 8 photos could not be classified",
    ]


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_read_does_not_hide_the_rest(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as lost+found on a stick, or a file of another user's."""
    forbid(monkeypatch, "below", "two.png")
    result = CliRunner().invoke(commands, [".", "--model", str(model), "--json"])
    assert result.exit_code == 3
    shown = [json.loads(line)["path"] for line in result.stdout.splitlines()]
    assert result.stderr.splitlines()[:-1] == [
        "Error: phone: camera raw file: develop it to JPEG, PNG or TIFF",
        "Error: two.png: Permission denied",
        "Error: below: Permission denied",
    ]
    assert shown == ["four.gif", "one.jpg", "three.webp"]


def test_what_a_system_put_there_is_left_out_with_a_word(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "below" / "@eaDir").mkdir()
    (folder / "below" / "@eaDir" / "thumbnail.png").touch()
    assert list(find_photos(["below"])) == ["below/no-suffix"]
    assert "below/@eaDir is left out, put there by a Synology NAS" in capsys.readouterr().err
    assert list(find_photos(["below/@eaDir"])) == ["below/@eaDir/thumbnail.png"]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("colour", ["red", "blue"])
def test_standard_input_is_a_photo(model: Path, folder: Path, name: str, colour: str) -> None:
    photo = draw_photos(folder)[colour].read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "deploy", name, "--model", model],
        input=photo,
        capture_output=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert (lines[0], lines[1].split()[1]) == (name, colour)


def test_nothing_on_standard_input_is_an_empty_file(model: Path) -> None:
    result = CliRunner().invoke(commands, ["-", "--model", str(model)], input=b"")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (3, "Error: -: the file is empty")
