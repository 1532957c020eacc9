"""Photos are set aside and moved back; nothing is lost, overwritten or moved from elsewhere."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import BadData, WrongUse
from retrain.doctor import quarantine
from retrain.doctor.examine import with_command
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.doctor.quarantine import read_list, set_aside, undo
from retrain.progress import Progress
from retrain.settings.doctor import quarantine_of

FIRST = Path(__file__).parents[2] / "formats/quarantine/first/undo.json"
"""Of a quarantine of the first version, with `red/copy.png` in it."""
QUIET = Progress(verbosity="ERROR")
NAMES = ("rose/a.jpg", "rose/b.jpg", "tulip/a.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of three small files in two classes."""
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "photos"


def test_the_default_quarantine_is_beside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "rose").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos" / "rose")
    assert quarantine_of(Path("..")) == tmp_path / "photos-quarantine"
    assert quarantine_of(Path()) == tmp_path / "photos" / "rose-quarantine"
    with pytest.raises(WrongUse, match="root of the file system"):
        quarantine_of(Path("/"))


def test_photos_that_are_not_below_the_folder_of_their_list_have_no_command(tmp_path: Path) -> None:
    below = FindingPhoto(tmp_path / "lists" / "a.jpg", "cat", "a copy")
    elsewhere = FindingPhoto(tmp_path / "photos" / "b.jpg", "cat", "a copy")
    for photos, place in (
        ((below, elsewhere), tmp_path / "lists" / "l.csv"),
        ((below,), Path("/l.csv")),
    ):
        finding = Finding("exact-copy", "title", "why", "what", photos, suggested=len(photos))
        assert with_command(finding, place, ("l.csv",)).command is None
        first = replace(finding, suggested=1)
        command = with_command(first, tmp_path / "lists" / "l.csv", ("l.csv",)).command
        assert command == (
            f"retrain doctor l.csv --kind exact-copy --quarantine {tmp_path}/lists-quarantine"
        )


def tree(folder: Path) -> dict[str, str]:
    """Return the texts of the files below `folder`, by path, without those of the quarantine."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "undo.json")
    }


@pytest.fixture(params=["same disk", "no links", "another disk"])
def aside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a quarantine: on a disk with hard links, without them, or on another disk."""

    def refuse(code: int) -> Callable[..., Any]:
        def link(*_: Any, **__: Any) -> None:
            raise OSError(code, os.strerror(code))

        return link

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    if request.param == "another disk":
        monkeypatch.setattr(os, "link", refuse(errno.EXDEV))
    return tmp_path / "aside"


def test_photos_are_set_aside_and_moved_back(root: Path, aside: Path) -> None:
    before = tree(root)
    moves = set_aside([root / NAMES[0], root / NAMES[2]], root, aside, QUIET)
    assert moves.moved == (root / NAMES[0], root / NAMES[2])
    assert tree(root) == {NAMES[1]: NAMES[1]}
    assert tree(aside) == {name: name for name in (NAMES[0], NAMES[2])}
    undo(root, aside, QUIET)
    assert tree(root) == before
    assert tree(aside) == {}
    assert not (aside / "rose").exists()


def test_a_name_that_is_taken_gets_a_number(root: Path, aside: Path) -> None:
    for text in ("first", "second"):
        (root / NAMES[0]).write_text(text)
        set_aside([root / NAMES[0]], root, aside, QUIET)
    assert tree(aside) == {"rose/a.jpg": "first", "rose/a-2.jpg": "second"}
    undo(root, aside, QUIET)
    assert (root / NAMES[0]).read_text() == "second"
    moves = undo(root, aside, QUIET)
    assert "is there already" in moves.left[0][1]
    assert (root / NAMES[0]).read_text() == "second"
    (root / NAMES[0]).unlink()
    undo(root, aside, QUIET)
    assert (root / NAMES[0]).read_text() == "first"


def test_undo_goes_back_one_call_at_a_time_and_then_says_so(root: Path, aside: Path) -> None:
    before = tree(root)
    for name in NAMES[:2]:
        set_aside([root / name], root, aside, QUIET)
    undo(root, aside, QUIET)
    assert set(tree(root)) == set(NAMES[1:])
    undo(root, aside, QUIET)
    assert tree(root) == before
    with pytest.raises(WrongUse, match="nothing to move back"):
        undo(root, aside, QUIET)
    with pytest.raises(WrongUse, match="nothing to move back"):
        undo(root, aside / "none", QUIET)


@pytest.mark.parametrize("step", range(1, 9))
def test_an_interrupted_move_loses_nothing(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Ctrl-C comes before or after a file has its new name, or before it loses the old one."""
    before, calls = tree(root), 0

    def interrupting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_move", interrupting(quarantine._move))
        patch.setattr(quarantine, "_copy", interrupting(quarantine._copy))
        patch.setattr(Path, "unlink", interrupting(Path.unlink))
        try:
            set_aside([root / name for name in NAMES], root, aside, QUIET)
        except KeyboardInterrupt:
            assert set(tree(root).values()) | set(tree(aside).values()) == set(NAMES)
    if (aside / "undo.json").exists():
        undo(root, aside, QUIET)
    assert tree(root) == before
    assert tree(aside) == {}


def test_a_file_that_cannot_be_moved_is_named_and_the_others_move(root: Path, aside: Path) -> None:
    (root / NAMES[0]).unlink()
    moves = set_aside([root / name for name in NAMES], root, aside, QUIET)
    assert moves.left == ((root / NAMES[0], "no such file"),)
    assert len(moves.moved) == 2
    assert moves.to_json()["left"] == [{"path": str(root / NAMES[0]), "reason": "no such file"}]


def test_a_file_that_vanished_from_the_quarantine_does_not_block_undo(
    root: Path, aside: Path
) -> None:
    for name in NAMES[:2]:
        set_aside([root / name], root, aside, QUIET)
    (aside / NAMES[1]).unlink()
    assert undo(root, aside, QUIET).left == ((root / NAMES[1], "no such file"),)
    assert undo(root, aside, QUIET).moved == (root / NAMES[0],)


def test_a_link_is_moved_as_a_link(root: Path, aside: Path) -> None:
    (root / "rose" / "link.jpg").symlink_to("a.jpg")
    set_aside([root / "rose" / "link.jpg"], root, aside, QUIET)
    assert (aside / "rose" / "link.jpg").readlink() == Path("a.jpg")
    assert (root / NAMES[0]).exists()
    undo(root, aside, QUIET)
    assert (root / "rose" / "link.jpg").read_text() == NAMES[0]


@pytest.mark.parametrize("place", ["photos/aside", "photos", "."])
def test_a_quarantine_among_the_photos_or_above_them_is_refused(root: Path, place: str) -> None:
    with pytest.raises(WrongUse, match="quarantine"):
        set_aside([root / NAMES[0]], root, root.parent / place, QUIET)
    assert set(tree(root)) == set(NAMES)


@pytest.mark.parametrize("place", ["../other.jpg", "/etc/hostname", ".", "rose/../../other.jpg"])
def test_files_elsewhere_are_refused(root: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "other.jpg").write_text("mine")
    with pytest.raises(WrongUse, match="not in the folder of photos"):
        set_aside([root / NAMES[0], root / place], root, tmp_path / "aside", QUIET)
    assert set(tree(root)) == set(NAMES)
    assert (tmp_path / "other.jpg").exists()


def test_photos_of_another_folder_are_not_moved_into_this_one(root: Path, tmp_path: Path) -> None:
    set_aside([root / NAMES[0]], root, tmp_path / "aside", QUIET)
    (tmp_path / "others").mkdir()
    with pytest.raises(WrongUse, match=str(root)):
        undo(tmp_path / "others", tmp_path / "aside", QUIET)
    root.rename(tmp_path / "renamed")
    undo(tmp_path / "renamed", tmp_path / "aside", QUIET)
    assert set(tree(tmp_path / "renamed")) == set(NAMES)


@pytest.mark.parametrize("name", ["/etc/x", "../x"])
def test_a_forged_list_moves_nothing(root: Path, tmp_path: Path, name: str) -> None:
    set_aside([root / NAMES[0]], root, tmp_path / "aside", QUIET)
    path = tmp_path / "aside" / "undo.json"
    record = json.loads(path.read_text())
    record["batches"][0]["moved"][0]["from"] = name
    path.write_text(json.dumps(record))
    with pytest.raises(BadData, match="not in its folder"):
        undo(root, tmp_path / "aside", QUIET)
    path.write_text("{")
    with pytest.raises(BadData, match="cannot be read"):
        set_aside([root / NAMES[1]], root, tmp_path / "aside", QUIET)
    assert set(tree(root)) == set(NAMES[1:])


def test_odd_names_are_set_aside_listed_and_moved_back(root: Path, tmp_path: Path) -> None:
    names = ["new\nline.jpg", '"quote" \'.jpg', "\udce9.jpg", "\x1b[31m.jpg", "-x.jpg"]
    for name in names:
        (root / "rose" / name).write_text("odd")
    before = set((root / "rose").iterdir())
    lines = [
        r"rose/new\nline.jpg",
        f'{root}/rose/"quote" \'.jpg',
        r"rose/\xe9.jpg",
        r"rose/\x1b[31m.jpg",
        "rose/-x.jpg",
    ]
    (tmp_path / "list").write_text("\r\n".join(lines))
    paths, missing = read_list(tmp_path / "list", root)
    assert (len(paths), missing) == (5, [])
    set_aside(paths, root, tmp_path / "aside", QUIET)
    assert {path.name for path in (root / "rose").iterdir()} == {"a.jpg", "b.jpg"}
    undo(root, tmp_path / "aside", QUIET)
    assert set((root / "rose").iterdir()) == before


def test_a_list_has_paths_with_any_line_ends(root: Path, tmp_path: Path) -> None:
    text = f"\ufeffrose/a.jpg\r\n\r\n{root / NAMES[1]}\nrose/gone.jpg\n"
    (tmp_path / "list").write_text(text, "utf-8")
    paths, missing = read_list(tmp_path / "list", root)
    assert paths == [root / NAMES[0], root / NAMES[1]]
    assert missing == ["rose/gone.jpg"]


def test_a_list_may_name_the_folder_by_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "list").write_text(f"{tmp_path}/link/rose/a.jpg")
    assert read_list(tmp_path / "list", root)[0] == [root / NAMES[0]]
    (tmp_path / "list").write_text(f"{root}/rose/a.jpg")
    assert read_list(tmp_path / "list", tmp_path / "link")[0] == [tmp_path / "link" / NAMES[0]]


@pytest.mark.parametrize("line", ["/etc/passwd", "../list", "rose/../../list", "."])
def test_a_list_of_files_elsewhere_is_refused_with_its_line(
    root: Path, tmp_path: Path, line: str
) -> None:
    (tmp_path / "list").write_text(f"rose/a.jpg\n{line}\n")
    with pytest.raises(BadData, match="list, line 2"):
        read_list(tmp_path / "list", root)


def test_a_line_that_two_files_have_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "rose" / "x\n.jpg").write_text("a")
    (root / "rose" / "x\\n.jpg").write_text("b")
    (tmp_path / "list").write_text("rose/x\\n.jpg\n")
    with pytest.raises(BadData, match="two files"):
        read_list(tmp_path / "list", root)


@pytest.mark.parametrize("added", [{}, {"schema": 7, "min_reader": 1, "later": [1]}])
def test_a_list_of_an_earlier_or_a_later_version_opens(
    added: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    (aside / "red").mkdir(parents=True)
    (aside / "red" / "copy.png").write_text("a copy")
    record = json.loads(FIRST.read_text("utf-8"))
    record["batches"][0].update(added)
    (aside / "undo.json").write_text(json.dumps({**record, **added}), "utf-8")
    assert undo(root, aside, QUIET).moved == (root / "red" / "copy.png",)
    assert tree(root)["red/copy.png"] == "a copy"


def test_a_list_that_needs_a_newer_reader_is_refused(root: Path, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    (aside / "red").mkdir(parents=True)
    (aside / "red" / "copy.png").write_text("a copy")
    record = {**json.loads(FIRST.read_text("utf-8")), "min_reader": 2}
    (aside / "undo.json").write_text(json.dumps(record), "utf-8")
    refusal = r"undo\.json: it needs a reader of version 2, .*: install a newer version"
    with pytest.raises(BadData, match=refusal):
        undo(root, aside, QUIET)
    with pytest.raises(BadData, match=refusal):
        set_aside([root / NAMES[0]], root, aside, QUIET)
    assert len(tree(root)) == 3
    assert json.loads((aside / "undo.json").read_text("utf-8")) == record
