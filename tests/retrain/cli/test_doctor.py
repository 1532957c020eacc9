"""`retrain doctor`: findings of a folder or a run, and photos set aside and moved back."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import pytest

from retrain.cli.doctor import _rest
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.run_folder import RunFolder
from retrain.settings.doctor import quarantine_of
from tests.helpers.photos import copy_some
from tests.helpers.runs import Invoke, Run, Train


@pytest.fixture
def root(photos: Path, tmp_path: Path) -> Path:
    """Return a folder of two classes, an exact copy, and a text that is called a photo."""
    root = tmp_path / "photos"
    root.mkdir()
    copy_some(photos, root, 5, 5)
    shutil.copy(root / "circles" / "00.jpg", root / "circles" / "copy.jpg")
    (root / "stripes" / "odd\n\x1b[31m.jpg").write_text("no photo")
    return root


def names(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "undo.json")
    }


def test_findings_are_printed_with_photos_and_commands(
    root: Path, cache_dir: Path, invoke: Invoke
) -> None:
    result = invoke("doctor", root, "--cache-dir", cache_dir)
    assert result.exit_code == 0, result.output
    assert "[exact-copy]" in result.stdout
    assert "circles/copy.jpg: the same file as circles/00.jpg" in result.stdout
    assert (
        f"$ retrain doctor {root} --cache-dir {cache_dir} --kind exact-copy --quarantine"
        in result.stdout
    )
    assert r"stripes/odd\n\x1b[31m.jpg: not a photo" in result.stdout
    assert "\x1b" not in result.output


def test_settings_are_named_as_the_options_of_train(
    photos: Path, tmp_path: Path, cache_dir: Path, invoke: Invoke
) -> None:
    copy_some(photos, tmp_path, 3, 10)
    result = invoke("doctor", tmp_path, "--cache-dir", cache_dir, "--kind", "imbalance")
    assert "train with --class-weight balanced" in result.stdout


@pytest.mark.parametrize(
    ("suggested", "words"),
    [(0, "4 more"), (9, "4 more"), (7, "2 more and 2 less sure"), (2, "4 less sure")],
)
def test_photos_that_are_not_printed_are_counted_by_whether_they_are_suggested(
    suggested: int, words: str
) -> None:
    photos = (FindingPhoto(Path("a.jpg"), "a", "looks like b"),) * 9
    finding = Finding("wrong-label", "title", "why", "what", photos, suggested=suggested)
    assert _rest(4, finding) == words


def test_a_quarantine_takes_the_suggested_photos_and_undo_brings_them_back(
    root: Path, cache_dir: Path, invoke: Invoke
) -> None:
    before = names(root)
    options = ("--cache-dir", cache_dir, "--quarantine", root.parent / "aside", "--json")
    result = invoke("doctor", root, "--kind", "exact-copy", *options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [finding["kind"] for finding in record["findings"]] == ["exact-copy"]
    assert record["moved"] == [str(root / "circles" / "copy.jpg")]
    assert names(root.parent / "aside") == {"circles/copy.jpg"}
    assert names(root) == before - {"circles/copy.jpg"}
    result = invoke("doctor", root, "--undo", "--quarantine", root.parent / "aside")
    assert "1 file moved back" in result.stdout
    assert names(root) == before
    result = invoke("doctor", root, "--undo", "--quarantine", root.parent / "aside")
    assert result.exit_code == 2
    assert "nothing to move back" in result.stderr


def test_the_command_that_is_printed_moves_back_from_the_named_quarantine(
    root: Path, cache_dir: Path, invoke: Invoke
) -> None:
    before = names(root)
    options = ("--cache-dir", cache_dir, "--quarantine", root.parent / "my own")
    result = invoke("doctor", root, "--kind", "exact-copy", *options)
    command = next(line for line in result.stdout.splitlines() if "--undo" in line)
    assert names(root) != before
    assert invoke(*shlex.split(command.removeprefix("$ retrain "))).exit_code == 0
    assert names(root) == before


def test_a_list_is_carried_out(root: Path, invoke: Invoke, tmp_path: Path) -> None:
    text = "circles/00.jpg\r\nstripes/odd\\n\\x1b[31m.jpg\r\ncircles/gone.jpg\r\n"
    (tmp_path / "list.txt").write_text(text)
    result = invoke("doctor", root, "--apply", tmp_path / "list.txt")
    assert result.exit_code == 0, result.output
    assert names(quarantine_of(root)) == {"circles/00.jpg", "stripes/odd\n\x1b[31m.jpg"}
    assert "circles/gone.jpg" in result.stderr
    assert "2 files moved" in result.stdout
    (tmp_path / "list.txt").write_text("circles/01.png\n/etc/hostname\n")
    result = invoke("doctor", root, "--apply", tmp_path / "list.txt")
    assert result.exit_code == 3
    assert "line 2" in result.stderr
    assert (root / "circles" / "01.png").exists()


def test_files_that_cannot_be_moved_give_an_error(
    root: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> str:
        return "Permission denied"

    monkeypatch.setattr("retrain.doctor.quarantine._try_to_move", refuse)
    (tmp_path / "list.txt").write_text("circles/00.jpg\n")
    result = invoke("doctor", root, "--apply", tmp_path / "list.txt")
    assert result.exit_code == 3
    assert "circles/00.jpg: Permission denied" in result.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--undo", "--apply", "list"), "--apply"),
        (("--undo", "--kind", "dark"), "--kind"),
        (("--kind", "sad"), "sad"),
        (("--quarantine", "inside"), "--quarantine"),
    ],
)
def test_options_that_contradict_are_refused(
    root: Path,
    cache_dir: Path,
    invoke: Invoke,
    options: tuple[str, ...],
    word: str,
) -> None:
    places = [root / option if option == "inside" else option for option in options]
    result = invoke("doctor", root, "--cache-dir", cache_dir, *places)
    assert result.exit_code == 2
    assert word in result.stderr
    assert not (root / "inside").exists()


@pytest.fixture
def run(root: Path, train: Train) -> Run:
    """Return a run on `root`, with another split than the default."""
    return train("--split-salt", "pepper", source=root)


def test_a_run_is_examined_with_its_settings(run: Run, invoke: Invoke) -> None:
    result = invoke("doctor", run.folder, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads((run.folder / "doctor.json").read_text())
    assert record == json.loads(result.stdout)
    assert (
        record["dataset_sha256"]
        == json.loads((run.folder / "contract.json").read_text())["dataset_sha256"]
    )
    finding = next(item for item in record["findings"] if item["kind"] == "exact-copy")
    assert finding["command"].startswith(f"retrain doctor {run.folder} --kind")
    (run.folder / "doctor.json").unlink()
    invoke("doctor", run.folder, "--kind", "dark")
    assert not (run.folder / "doctor.json").exists()


def test_a_run_that_is_written_into_is_not_examined(run: Run, invoke: Invoke) -> None:
    with RunFolder(run.folder).writing():
        result = invoke("doctor", run.folder)
    assert result.exit_code == 2
    assert "another retrain is writing there" in result.stderr


@pytest.mark.parametrize("place", ["filelock.FileLock", "deploy.files.write_json"])
def test_a_run_that_cannot_be_written_into_is_examined(
    run: Run, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(place, refuse)
    result = invoke("doctor", run.folder)
    assert result.exit_code == 0, result.output
    assert "[exact-copy]" in result.stdout
    assert "doctor.json is not written: Read-only file system" in result.stderr


def test_options_of_the_photos_are_not_for_a_run(run: Run, invoke: Invoke) -> None:
    result = invoke("doctor", run.folder, "--architecture", "mobilenet_v2")
    assert result.exit_code == 2
    assert "--architecture" in result.stderr


def test_a_run_and_a_folder_of_photos_are_not_named_together(
    run: Run, root: Path, invoke: Invoke
) -> None:
    result = invoke("doctor", run.folder, "--image-dir", root)
    assert result.exit_code == 2
    assert "name one folder" in result.stderr


def test_a_run_whose_photos_moved_says_so(run: Run, root: Path, invoke: Invoke) -> None:
    root.rename(root.with_name("elsewhere"))
    for option in ("--json", "--undo"):
        result = invoke("doctor", run.folder, option)
        assert result.exit_code in (2, 3)
        assert str(root) in result.stderr


def test_without_a_folder_the_run_here_is_taken(
    run: Run, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "name a folder of photos" in result.stderr
    Path("retrained").symlink_to(run.folder)
    assert invoke("doctor", "--kind", "dark").exit_code == 0
