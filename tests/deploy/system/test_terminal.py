"""Text of others on a screen: nothing moves the cursor, hides, or forges a line."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.report import lines, render
from deploy import model_file
from deploy.cli import commands as device
from deploy.contract import check_label
from deploy.errors import BadData, WrongUse
from deploy.system.terminal import printable, say
from retrain.cli import commands as laptop
from retrain.progress import Progress
from tests.helpers.deploy_fixtures import CONTRACT, networks

FORGED = "x.jpg\n   99.9%  tulips.jpg"
HOSTILE = {
    FORGED: r"x.jpg\n   99.9%  tulips.jpg",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "clear\x1b[2J": r"clear\x1b[2J",
    "c1\x9b2J\x85": r"c1\x9b2J\x85",
    "nul\0del\x7f": r"nul\x00del\x7f",
    "back\rspace\b\ttab": r"back\rspace\x08\ttab",
    "exe\u202egpj": r"exe\u202egpj",
    "mark\u200e\u200f\u061c\u2066": r"mark\u200e\u200f\u061c\u2066",
    "line\u2028\u2029": r"line\u2028\u2029",
    "zero\u200b\ufeff\u00ad\u2060": r"zero\u200b\ufeff\xad\u2060",
    "joined\u200dhere": r"joined\u200dhere",
    "é\u200d\u200dé": r"é\u200d\u200dé",
    "tag\U000e0061": r"tag\U000e0061",
    "caf\udce9": r"caf\xe9",
    "half\ud800": r"half\ud800",
}
PLAIN = [
    "café",
    "中文 タンポポ",
    "ромашка",
    "👨\u200d👩\u200d👧 ☀️",
    "می\u200cخواهم",  # noqa: RUF001
    "C:\\new\\x1b",
    "a\u00a0b",
    "",
]
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_moves_the_cursor_or_hides_is_an_escape(text: str) -> None:
    assert printable(text) == HOSTILE[text]
    assert printable(printable(text)) == HOSTILE[text]


@pytest.mark.parametrize("text", PLAIN)
def test_letters_and_emoji_stay(text: str) -> None:
    assert printable(text) == text
    check_label(text)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "caf\udce9"])
def test_a_new_label_holds_no_control_character(text: str) -> None:
    with pytest.raises(BadData, match="holds a control character or an invisible one"):
        check_label(text)


def test_a_letter_of_a_later_unicode_may_be_in_a_label() -> None:
    check_label("new \U0001faff, private \ue000")


def test_each_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(FORGED, "next")
    say("Error: \x1b[2J", err=True)
    shown = capsys.readouterr()
    assert shown.out == HOSTILE[FORGED] + "\nnext\n"
    assert shown.err == "Error: \\x1b[2J\n"


def test_without_streams_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("lost")
    progress = Progress()
    progress.warn("lost")
    with progress.bar("work", 1, "steps") as advance:
        advance(1)


def test_progress_shows_escapes_and_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().warn(FORGED)
    Progress("json").warn("é\x7f" + FORGED)
    text, line = capsys.readouterr().err.splitlines()
    assert text == f"Warning: {HOSTILE[FORGED]}"
    assert line.isascii()
    assert json.loads(line)["text"] == "é\x7f" + FORGED


@pytest.mark.parametrize("markdown", [False, True])
def test_a_table_keeps_its_rows(markdown: bool) -> None:
    rows = [("model", "ms"), (FORGED, "1.00"), ("\x1b[2J", "2.00")]
    assert len(render(rows, markdown).split("\n")) == 3 + markdown
    for text in (render(rows, markdown), lines([FORGED, "\u202e"], markdown)):
        assert not CONTROLS.search(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["label", FORGED, "--model", "none"],
        ["label", "--threads", "2\x1b\n"],
        ["label", "--no\x1b\n"],
        ["no\x1b\n"],
        ["inspect", FORGED],
        ["train", "--graph", FORGED],
        ["train", "photos", "--architecture", FORGED],
        ["train", "photos", "--split-salt", "x\udcff"],
        ["convert", "--quantize", FORGED],
        ["convert", "--output-dir", FORGED],
        ["bench", FORGED],
        ["bench", "show", FORGED],
        ["push", FORGED],
        ["summary", "--output-dir", FORGED],
        ["bundle", "--output-dir", "\u202e" + FORGED],
        ["sample", FORGED, "x"],
        ["watch", "--source", FORGED, "--model", FORGED],
    ],
)
def test_no_argument_breaks_a_line_of_an_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(laptop, arguments)
    assert result.exit_code in (2, 3), result.output
    assert not CONTROLS.search(result.output)
    assert [line for line in result.output.split("\n") if line.startswith("   99.9%")] == []
    assert result.stderr.split("\n")[-2].startswith("Error: ")
    assert not list(tmp_path.iterdir())


def test_text_options_take_utf_8_only() -> None:
    result = CliRunner().invoke(laptop, ["train", "photos", "--split-salt", "x\udcff"])
    assert result.exit_code == 2
    assert "Error: Invalid value for '--split-salt': 'x\\xff' is not UTF-8 text" in result.stderr


def test_an_error_of_several_lines_is_shown_as_such() -> None:
    error = WrongUse("first", "  second")
    assert (str(error), error.args) == ("first\n  second", ("first", "  second"))


def test_a_model_of_before_opens_and_shows_escapes(tmp_path: Path, drawn: dict[str, Path]) -> None:
    labels = ("\x1b[2Jred", "gr\u202eün", "blue\x07", "grey\u200b")
    path, photo = tmp_path / "model.tflite", tmp_path / FORGED
    path.write_bytes(model_file.pack(networks().uint8, replace(CONTRACT, labels=labels)))
    photo.write_bytes(drawn["red"].read_bytes())
    for group, arguments in (
        (device, ["label", photo, "--model", path]),
        (laptop, ["label", photo, "--model", path, "--json"]),
        (laptop, ["inspect", path]),
        (device, ["selftest", path]),
        (device, ["watch", "--source", photo, "--model", path]),
    ):
        result = CliRunner().invoke(group, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        assert not CONTROLS.search(result.output)
        assert not re.search("^   99.9%", result.output, re.M)
    shown = CliRunner().invoke(device, ["label", str(photo), "--model", str(path), "--top", "1"])
    assert shown.stdout.splitlines()[0] == str(tmp_path / HOSTILE[FORGED])
    assert shown.stdout.splitlines()[1].endswith(r"\x1b[2Jred")


def test_ruff_keeps_other_ways_to_print_out(tmp_path: Path) -> None:
    file = Path(__file__).resolve().parents[3] / "deploy" / "printing.py"
    process = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", file, "-"],
        input='"""Print."""\n\nimport click\n\nclick.echo("x")\nprint("x")\n',
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"TID251", "T201"} <= set(re.findall(r"^\w+", process.stdout, re.M)), process.stdout
