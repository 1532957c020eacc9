"""The model card: its header as Hugging Face reads it, its figures, and what a person wrote."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from bench.record import to_text
from deploy import model_file
from deploy.contract import write_labels
from deploy.errors import BadData, GateFailed
from retrain.cli.options import refresh_card
from retrain.progress import Progress
from retrain.report.model_card import BLANK, make_card, write_card
from retrain.run_folder import RunFolder
from tests.helpers.deploy_fixtures import write_run
from tests.helpers.record_fixtures import draw, record, runner
from tests.helpers.runs import Invoke

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b \\| `c` ``d``",
    '---\\nlicense: "mit" # {x: [1]} <!-- retrain: end figures -->',
    "\u202egnp.exe",
)
"""As many labels as the photos have."""


@pytest.fixture
def run(converted: Path, tmp_path: Path) -> RunFolder:
    """Return a copy of a run that was trained and converted."""
    return RunFolder(shutil.copytree(converted, tmp_path / "run"))


def header(card: str) -> Any:
    """Return the values of the YAML header."""
    _, text, _ = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(text)


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def html(card: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(body(card)))


def test_the_card_does_not_contradict_itself_about_copies(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text("utf-8"))
    run.metrics.write_text(json.dumps({**metrics, "copies_across_splits": []}), "utf-8")
    assert "\nNo test photo was used in training.\n" in make_card(run)
    pairs = [
        {"paths": ["/a/1.jpg", "/a/2.jpg"], "labels": ["a", "a"], "splits": splits}
        for splits in (["testing", "training"], ["training", "testing"], ["validation", "training"])
    ]
    for count, text in (
        (1, "1 looks the same as a training photo.\n"),
        (3, "2 look the same as a training photo.\n"),
    ):
        changed = {**metrics, "copies_across_splits": pairs[:count], "split_by": "folders"}
        run.metrics.write_text(json.dumps(changed), "utf-8")
        card = make_card(run)
        assert f"No test photo was used in training, though {text}" in card
        assert f"| {count} pair{'s' * (count > 1)} |" in card
        # A list with a column of splits makes the split too.
        assert "split by the folders or the list" in card


def rename_labels(run: RunFolder, labels: tuple[str, ...]) -> None:
    """Give the classes of a run other labels, in every file of it that the card reads."""
    model = model_file.read(run.model)
    new = dict(zip(model.contract.labels, labels, strict=True))
    contract = replace(model.contract, labels=labels)
    content = model_file.pack(model.flatbuffer, contract)
    run.model.write_bytes(content)
    run.contract.write_text(replace(contract, recipe=None).to_json(), "utf-8")
    run.graph_labels.write_text(write_labels(labels), "utf-8")
    metrics = json.loads(run.metrics.read_text("utf-8"))
    metrics["labels"] = labels
    metrics["photos"] = {new[label]: photos for label, photos in metrics["photos"].items()}
    scores = metrics["test"]["per_class"]
    metrics["test"]["per_class"] = {new[label]: score for label, score in scores.items()}
    run.metrics.write_text(json.dumps(metrics), "utf-8")
    conversion = json.loads(run.conversion.read_text("utf-8"))
    conversion["model_sha256"] = hashlib.sha256(content).hexdigest()
    run.conversion.write_text(json.dumps(conversion), "utf-8")


def write_bench(run: RunFolder, *digests: str) -> None:
    runners = (runner("model.tflite", draw(2.5), sha256=digest) for digest in digests)
    run.bench.write_text(to_text(record(*runners, cpu="Cortex-A76 | 4").to_json()), "utf-8")


# What convert writes


def test_convert_writes_a_card_with_the_measured_accuracy(run: RunFolder) -> None:
    card = run.card.read_text("utf-8")
    conversion = json.loads(run.conversion.read_text("utf-8"))
    values = header(card)
    assert values["library_name"] == "litert"
    assert values["pipeline_tag"] == "image-classification"
    assert "tflite" in values["tags"]
    (model,) = values["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert {"type", "name"} <= set(result["dataset"])
    (metric,) = result["metrics"]
    assert metric["type"] == "accuracy"
    assert metric["value"] == pytest.approx(conversion["model"]["accuracy"], abs=1e-4)
    right, total = conversion["model"]["right"], conversion["model"]["total"]
    assert f"right on {right} of {total} test photos" in card
    assert conversion["model_sha256"] in card


def test_no_licence_is_claimed_and_three_blanks_are_left(run: RunFolder) -> None:
    card = run.card.read_text("utf-8")
    assert not {"license", "datasets", "language"} & set(header(card))
    parts = {part.splitlines()[0]: part for part in card.split("\n## ")[1:]}
    assert {title for title, part in parts.items() if BLANK in part} == {
        "Purpose",
        "Data",
        "Licence",
    }


def test_the_lines_to_uncomment_are_valid(run: RunFolder) -> None:
    card = re.sub(r"^# (license|language|datasets):", r"\1:", run.card.read_text("utf-8"), flags=8)
    values = header(card)
    assert values["license"] == "apache-2.0"
    assert values["datasets"] == ["owner/name"]


def test_each_class_has_its_figures(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text("utf-8"))
    cells = re.findall(
        r"<tr>\n<td><code>(.*?)</code></td>\n((?:<td>.*?</td>\n)+)", html(make_card(run))
    )
    rows = {name: re.findall("<td>(.*?)</td>", rest) for name, rest in cells}
    for label in metrics["labels"]:
        score = metrics["test"]["per_class"][label]
        assert rows[label][:2] == [str(metrics["photos"][label]), str(score["support"])]
        assert rows[label][3] == f"{score['recall']:.1%}"


def test_a_refused_conversion_leaves_the_card(run: RunFolder) -> None:
    run.card.write_text("as it was", "utf-8")
    run.rejected.write_bytes(run.model.read_bytes())
    record = json.loads(run.conversion.read_text("utf-8"))
    run.conversion.write_text(json.dumps({**record, "passed": False}), "utf-8")
    with pytest.raises(GateFailed):
        write_card(run)
    assert run.card.read_text("utf-8") == "as it was"


# What a person wrote


def test_what_a_person_wrote_stays_and_the_figures_are_new(run: RunFolder) -> None:
    card = run.card.read_text("utf-8")
    card = card.replace("# license: apache-2.0", "license: mit")
    card = re.sub(rf"> {re.escape(BLANK)} what the model.*", "Sorts cells by eye of a robot.", card)
    card = card.replace("\n# ", "\n# The cell sorter: ", 1) + "\n## Thanks\n\nTo all.\n"
    run.card.write_text(card, "utf-8")
    write_bench(run, hashlib.sha256(run.model.read_bytes()).hexdigest())
    write_card(run)
    after = run.card.read_text("utf-8")
    assert header(after)["license"] == "mit"
    assert "Sorts cells by eye of a robot." in after
    assert after.endswith("\n## Thanks\n\nTo all.\n")
    assert "### Latency" in after
    assert "### Latency" not in card
    begun = after.index("### Latency")
    end = after.index("### ", begun + 1)
    assert after[:begun].rstrip() + "\n\n" + after[end:] == card


def test_a_refreshed_card_has_the_figures_of_bench(run: RunFolder) -> None:
    write_bench(run, hashlib.sha256(run.model.read_bytes()).hexdigest())
    refresh_card(run.folder, Progress())
    assert "### Latency" in run.card.read_text("utf-8")


def test_figures_of_another_model_are_replaced(run: RunFolder) -> None:
    """No number of an earlier model may stay in the card."""
    old = make_card(run)
    conversion = json.loads(run.conversion.read_text("utf-8"))
    conversion["model"] |= {"right": 1, "accuracy": 1 / conversion["model"]["total"]}
    run.conversion.write_text(json.dumps(conversion), "utf-8")
    new = make_card(run)
    value = header(old)["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert header(new)["model-index"][0]["results"][0]["metrics"][0]["value"] < value
    assert f"{value:.1%}" not in new.split("output_graph.pb")[0]


def test_a_readme_that_is_no_card_is_never_changed(run: RunFolder) -> None:
    run.card.write_bytes(b"Notes of mine.\r\n# retrain: begin\r\n")
    write_card(run)
    assert run.card.read_bytes() == b"Notes of mine.\r\n# retrain: begin\r\n"


def test_a_block_that_a_person_deleted_stays_away(run: RunFolder) -> None:
    card = run.card.read_text("utf-8")
    cut = re.sub(
        r"<!-- retrain: begin figures.*retrain: end figures -->\n", "", card, flags=re.DOTALL
    )
    run.card.write_text(cut, "utf-8")
    assert make_card(run) == cut


def test_a_card_that_is_not_utf8_is_an_error_with_a_remedy(run: RunFolder) -> None:
    run.card.write_bytes("Für Zellen".encode("latin-1"))
    with pytest.raises(BadData, match=r"README.md: cannot be read .*: save it as UTF-8"):
        make_card(run)


# Text of others


@pytest.mark.parametrize("rounds", [1, 2])
def test_labels_are_shown_as_text(run: RunFolder, rounds: int) -> None:
    count = len(model_file.read(run.model).contract.labels)
    labels = HOSTILE[-count:] if count < len(HOSTILE) else HOSTILE
    rename_labels(run, labels)
    run.card.unlink()
    for _ in range(rounds):
        write_card(run)
    card = run.card.read_text("utf-8")
    assert header(card)["model-index"]
    shown = html(card)
    assert "<script" not in shown
    text = re.sub(r"<[^>]*>", "", shown)
    assert "gnp.exe" in text
    assert "\u202e" not in card
    assert len(re.findall("<tr>", shown.split("Each class")[1].split("</table>")[0])) == count + 1
    assert text.count("retrain: begin") == 0


@pytest.mark.parametrize("label", HOSTILE)
def test_each_hostile_label_is_whole_in_its_cell(run: RunFolder, label: str) -> None:
    from html import unescape

    from deploy.system.terminal import printable

    count = len(model_file.read(run.model).contract.labels)
    rename_labels(run, (label, *(f"class {i}" for i in range(1, count))))
    cells = re.findall("<td><code>(.*?)</code></td>", html(make_card(run)))
    assert printable(label) in map(unescape, cells)


def test_a_name_of_the_user_is_one_string_of_yaml(run: RunFolder, monkeypatch: Any) -> None:
    name = 'a: "b" #c\x7f\ud83d'.encode("utf-8", "replace").decode() + " 🌻 {x}\n---\nlicense: mit"
    monkeypatch.setattr("retrain.tflite.metadata.extract", lambda _: {"name": name})
    run.card.unlink()
    card = make_card(run)
    assert "license" not in header(card)
    assert header(card)["model-index"][0]["name"].startswith('a: "b" #c')
    assert "<h1>a: &quot;b&quot; #c" in html(card)


# Files that are there or not


def test_latency_is_only_of_this_very_model(run: RunFolder) -> None:
    write_bench(run, "0" * 64)
    assert "### Latency" not in make_card(run)
    write_bench(run, "0" * 64, hashlib.sha256(run.model.read_bytes()).hexdigest())
    shown = html(make_card(run).split("### Latency")[0] + "\n---\n" + make_card(run))
    assert "<code>Cortex-A76 &#124; 4</code>" in shown or "<code>Cortex-A76 | 4</code>" in shown


def test_a_model_alone_has_a_card_without_figures(tmp_path: Path) -> None:
    card = make_card(RunFolder(write_run(tmp_path)))
    assert "model-index" not in header(card)
    assert "tiny" in card
    assert "%" not in card.split("## Figures")[0]


def test_an_adopted_graph_claims_nothing_of_its_training(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text("utf-8"))
    run.metrics.write_text(json.dumps({**metrics, "command": "adopt"}), "utf-8")
    card = make_card(run)
    assert "It is not known which photos it was trained on" in card
    assert "No test photo was used" not in card


def test_no_reason_is_made_up_for_files_left_out(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text("utf-8"))
    assert "Files left out" not in make_card(run)
    twins = [{"path": f"/{label}/1.jpg", "reason": "in two classes"} for label in "ab"]
    changed = {**metrics, "bad": twins, "bad_count": 1002}
    run.metrics.write_text(json.dumps(changed), "utf-8")
    line = "| Files left out | 1,002, for the reasons in failed.csv of the run |\n"
    assert line in make_card(run)


# The bundle


def test_the_bundle_has_the_card_and_says_how_to_install(run: RunFolder, invoke: Invoke) -> None:
    run.card.write_text(run.card.read_text("utf-8").replace("> **To fill in:**", "Mine:"), "utf-8")
    before = run.card.read_bytes()
    result = invoke("bundle", "--output-dir", run.folder)
    assert result.exit_code == 0, result.output
    text = (run.folder / "bundle" / "README.md").read_text("utf-8")
    assert text.startswith(before.decode())
    assert "\n## Install it on a device\n" in text
    assert html(text).count("<h1>") == 1
    assert "blank" not in result.stderr
    assert run.card.read_bytes() == before


def test_bundle_reminds_of_blanks(run: RunFolder, invoke: Invoke) -> None:
    result = invoke("bundle", "--output-dir", run.folder)
    assert result.exit_code == 0
    assert f"{run.card}: purpose, data or licence is blank" in result.stderr
