"""Test the page of a run: its figures, the photos behind them, and when it is written."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deploy.cli.selftest import run as run_selftest
from retrain import predictions
from retrain.cli import commands
from retrain.data import split
from retrain.predictions import Predictions, read_predictions
from retrain.report import findings, learning_curve
from retrain.report.columns import columns
from retrain.report.learning_curve import LearningPoint
from retrain.report.photo_book import MAX_IN_GALLERY, PhotoBook
from retrain.report.run_inputs import read_inputs
from retrain.report.write_report import write_report
from retrain.run_folder import RunFolder
from tests.helpers.photos import LABELS, draw
from tests.helpers.predictions import prediction_rows
from tests.helpers.report_pages import Page
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, STEPS, Run, Train

HOSTILE = (
    "<script>alert(1)<script>",
    "\"quotes\" & 'more' {{ 7 * 7 }}",
    "عربى עברית",
    "long " + 39 * "word ",
)


def lead(page: Page) -> str:
    """Return the sentences below the verdict."""
    (paragraph,) = (p for p in page.named("p") if p.attributes.get("class") == "lead")
    return paragraph.text


def test_the_page_loads_nothing(page: Page) -> None:
    (policy,) = (
        element.attributes["content"]
        for element in page.named("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    sources = [element.attributes["src"] for element in page.with_attribute("src")]
    assert sources
    assert all((source or "").startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"(?<!xmlns=.)(?<!xmlns:xlink=.)https?://", page.html)
    assert not page.named("link")


def test_the_verdict_and_both_files_are_on_the_first_screen(folder: Path, page: Page) -> None:
    conversion = json.loads((folder / "conversion.json").read_text())
    (title,) = page.named("h1")
    graph, model = conversion["graph"], conversion["model"]
    if graph["right"] == graph["total"]:
        assert title.text == f"All {graph['total']} test photos right"
    else:
        assert title.text == f"About {100 * graph['accuracy']:.0f} in 100 photos right"
    low, high = graph["interval95"]
    assert lead(page).startswith(f"{100 * low:.0f} to {100 * high:.0f} by the {graph['total']} ")
    big = [p.text for p in page.named("p") if p.attributes.get("class") == "big"]
    assert big == [f"{100 * figures['accuracy']:.1f}% right" for figures in (graph, model)]


def test_numbers_open_the_photos_behind_them(folder: Path, page: Page) -> None:
    rows = [
        row
        for row in read_predictions(folder / "predictions.parquet", "").rows
        if row.split == split.TESTING
    ]
    for label in LABELS:
        for other in LABELS:
            cell = [row for row in rows if (row.label, row.predicted) == (label, other)]
            name = f"{label}, recognised" if label == other else f"{label}, taken for {other}"
            if cell:
                shown = page.gallery(name)
                assert {photo["link"] for photo in shown} == {
                    Path(row.path).as_uri() for row in cell
                }
                assert all(photo["picture"].startswith("data:image/jpeg") for photo in shown)
    numbers = page.with_attribute("data-gallery")
    galleries = page.data["galleries"]
    for button in numbers:
        gallery = galleries[int(button.attributes["data-gallery"] or "")]
        count = re.fullmatch(r"(?:Show all )?(\d+)(?: photos)?", button.text)
        assert count is None or int(count[1]) == gallery["total"] == len(gallery["photos"])
    assert sum(button.attributes.get("class") == "number" for button in numbers) > 20


def test_plots_have_titles_and_identifiers_of_their_own(page: Page) -> None:
    identifiers = [element.attributes["id"] for element in page.with_attribute("id")]
    assert len(identifiers) == len(set(identifiers))
    plots = page.named("svg")
    assert len(plots) == 5
    for plot in plots:
        assert plot.attributes["role"] == "img"
        for identifier in (plot.attributes["aria-labelledby"] or "").split():
            assert next(e for e in page.elements if e.attributes.get("id") == identifier).text
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page.html))
    assert referred <= set(identifiers)


def test_every_picture_is_described_and_every_map_drawn(page: Page) -> None:
    images = page.named("img")
    assert images
    assert all(image.attributes.get("alt") for image in images)
    maps = [i for i in images if (i.attributes["alt"] or "").startswith("What speaks for ")]
    assert len(maps) >= 6


def test_what_is_of_this_graph_is_not_measured_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "learning_curve.json").read_bytes(), (folder / "doctor.json").read_bytes()
    monkeypatch.setattr(learning_curve, "measure", None)
    monkeypatch.setattr("retrain.report.findings.examine_photos", None)
    write_report(RunFolder(folder))
    after = (folder / "learning_curve.json").read_bytes(), (folder / "doctor.json").read_bytes()
    assert before == after


def test_the_gain_of_more_photos_is_from_the_end_of_the_curve(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.folder)
    curve = learning_curve.read(run.learning_curve, run.read_contract().graph_sha256)
    assert curve
    # Half of the held-out photos are wrong at the end, and a third less with twice as many: the
    # test photos of two classes are all right.
    points = tuple(
        LearningPoint(n, tuple(0.5 * held_out * (n / 100) ** -0.58 for held_out in curve.held_out))
        for n in (10, 40, 100)
    )
    learning_curve.write(run.learning_curve, replace(curve, points=points))
    rows = read_predictions(run.predictions, "").rows
    right = prediction_rows(
        row._replace(predicted=row.label if row.label != LABELS[0] else LABELS[1]) for row in rows
    )
    predictions.write(run.predictions, Predictions(curve.graph_sha256, right))
    write_report(run)
    html = Page.read(run.folder).html
    section = html[html.index("Would more photos help?") : html.index('id="photos"')]
    gains = re.findall(r"<td>\+(\d+) points</td>", section)
    assert gains == ["16", "0", "0"]
    assert f"Take twice as many photos of {LABELS[0]}<" in html


def test_the_curve_of_linear_heads_promises_nothing_of_a_fine_tuned_network(
    folder: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.folder)
    curve = learning_curve.read(run.learning_curve, run.read_contract().graph_sha256)
    assert curve
    points = tuple(LearningPoint(n, (5 / n,) * len(LABELS)) for n in (1, 4, 10))
    learning_curve.write(run.learning_curve, replace(curve, points=points))
    metrics = json.loads(run.metrics.read_text("utf-8"))
    run.metrics.write_text(json.dumps({**metrics, "fine_tuning": {"kept": "fine-tuned"}}))
    write_report(run)
    html = Page.read(run.folder).html
    assert "does not say what more photos bring to the fine-tuned one" in html
    assert "with twice the photos" not in html
    assert "twice as many photos of" not in html


def test_findings_of_another_network_or_of_files_that_are_gone_are_made_again(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.folder)
    assert findings.read(read_inputs(run)) is not None
    record = json.loads(run.doctor.read_text("utf-8"))
    for name, value in (("weights_sha256", "0" * 64), ("trunk_sha256", "0" * 64), ("input", {})):
        other = {**record, "network": {**record["network"], name: value}}
        run.doctor.write_text(json.dumps(other))
        assert findings.read(read_inputs(run)) is None
    run.doctor.write_text(json.dumps({name: record[name] for name in record if name != "network"}))
    assert findings.read(read_inputs(run)) is not None  # of an earlier version
    copy = {"path": str(photos / LABELS[0] / "set aside.jpg"), "label": LABELS[0], "reason": "copy"}
    words = {"kind": "exact-copy", "title": "1 copy", "reason": "why", "remedy": "what"}
    run.doctor.write_text(json.dumps({**record, "findings": [{**words, "photos": [copy]}]}))
    assert findings.read(read_inputs(run)) is None


def test_the_verdict_says_by_how_much_copies_make_it_too_good(
    folder: Path, tmp_path: Path, page: Page
) -> None:
    assert "too good" not in lead(page)
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    record = json.loads((run / "doctor.json").read_text())
    copies = {"kind": "copy-across-splits", "title": "", "reason": "", "remedy": "", "photos": []}
    moment = {**copies, "kind": "one-moment"}
    record["findings"] = [{**moment, "inflation": 1.0}, {**copies, "inflation": 2.34}]
    (run / "doctor.json").write_text(json.dumps(record))
    write_report(RunFolder(run))
    inflated = Page.read(run)
    assert lead(inflated).endswith("2.3 points too good: test photos are like training photos.")
    assert any(a.attributes["href"] == "#finding-1" for a in inflated.named("a"))


def test_suggested_photos_are_apart_from_less_sure_ones(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    record = json.loads((run / "doctor.json").read_text())
    paths = sorted((photos / LABELS[0]).iterdir())
    listed = [{"path": str(path), "label": LABELS[0], "reason": path.name} for path in paths]
    many = dict.fromkeys(("title", "reason", "remedy"), "text") | {"kind": "wrong-label"}
    few = {**many, "photos": listed[:5], "suggested": 2}
    record["findings"] = [few, {**many, "photos": listed[:1] * 90, "suggested": 80}]
    (run / "doctor.json").write_text(json.dumps(record))
    write_report(RunFolder(run))
    html = (run / "report.html").read_text("utf-8")
    (section,) = re.findall(r'<section id="findings".*?</section>', html, re.DOTALL)
    first, second = section.split("</details>")[:2]
    suggested, less_sure = first.split("Less sure, and not suggested")
    assert (suggested.count("<label>"), less_sure.count("<label>")) == (2, 3)
    assert "Tick the 2 suggested" in first
    assert "Tick the first 60 of 80 suggested" in second
    assert "Less sure" not in second


def test_photos_that_were_named_from_another_folder_are_shown(
    train: Train, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    with Image.open(folder / LABELS[0] / "00.jpg") as image:
        for size in range(48, 96, 6):
            image.resize((size, size)).save(folder / LABELS[0] / f"{size}.png")
    (folder / LABELS[0] / "empty.png").touch()
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        run = train(source=Path("photos"), folder=Path("run"))
        metrics = run.metrics
    source = metrics["settings"]["source"]
    assert (source["image_dir"], metrics["settings"]["output_dir"]) == (
        str(folder),
        str(tmp_path / "run"),
    )
    (bad,) = metrics["bad"]
    assert bad["path"] == str(folder / LABELS[0] / "empty.png")
    paths = [photo["path"] for photo in metrics["test"]["misclassified"]]
    assert all(path.startswith(f"{folder}/") for path in paths)
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_report(RunFolder(tmp_path / "run"))
    page = Page.read(tmp_path / "run")
    pairs = metrics["copies_across_splits"]
    assert pairs
    shown = page.gallery("Photos that look the same in two splits, in pairs")
    assert len(shown) == 2 * len(pairs)
    assert f"{LABELS[0]}/empty.png" in [element.text for element in page.named("td")]


def test_a_training_writes_the_page_unless_told_not_to(
    photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    where = ("train", photos, "--cache-dir", cache_dir, "--output-dir", tmp_path / "run")
    steps = ("--how-many-training-steps", STEPS)

    def run(*words: object) -> Result:
        return CliRunner().invoke(commands, [str(word) for word in words])

    assert run(*where, *steps, "--no-report").exit_code == 0
    page = tmp_path / "run" / "report.html"
    assert not page.exists()
    result = run(*where, *steps)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("metrics.json, report.html\n")
    # The page's own progress is not shown: the line before the last is of the training.
    assert result.stderr.splitlines()[-1].startswith("seconds: ")
    first = page.read_text("utf-8")
    options = ("--output-dir", tmp_path / "run", *FEW_CALIBRATION_IMAGES)
    assert run("convert", *options, "--no-report").exit_code == 0
    assert page.read_text("utf-8") == first
    (tmp_path / "run" / "predictions.parquet").unlink()
    result = run("convert", *options)
    assert result.exit_code == 0
    assert "Warning: report.html is not written: " in result.stderr
    assert page.read_text("utf-8") == first
    assert run(*where, *steps).exit_code == 0
    assert "model.tflite, int8" in page.read_text("utf-8")


def test_bench_refreshes_the_page(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    words = ("bench", "--output-dir", run, "--rounds", 2, "--runs", 3, "--threads", 1)
    result = CliRunner().invoke(commands, [str(word) for word in (*words, "--runtime", "LiteRT")])
    assert result.exit_code == 0, result.output
    rows = [element.text for element in Page.read(run).named("tr")]
    assert [row for row in rows if row.startswith("model.tflite") and "1 thread" in row]


def test_a_device_is_shown_beside_the_model(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.folder)
    test = replace(run_selftest(run.model), ms={"decode": 2.0, "invoke": 30.5})
    record = {"schema": 1, "host": "pi.local", "selftest": test.to_json()}
    run.push.write_text(json.dumps(record))
    write_report(run)
    html = Page.read(run.folder).html
    assert "pi.local: " in html
    # As of graph and model, the time of the network alone.
    assert "<dt>time of a call</dt><dd>30.5 ms</dd>" in html
    (row,) = (e.text for e in Page.read(run.folder).named("tr") if "pi.local" in e.text)
    assert "30.50" in row
    record["selftest"] = replace(test, sha256="0" * 64).to_json()
    run.push.write_text(json.dumps(record))
    write_report(run)
    assert "pi.local" not in Page.read(run.folder).html  # of another model


def test_before_and_after_are_compared_by_class(converted: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(converted, run.folder)
    present = read_predictions(run.predictions, "")
    label = LABELS[0]
    before = prediction_rows(
        row._replace(predicted=LABELS[1]) if row.label == label else row for row in present.rows
    )
    predictions.write(run.previous_predictions, Predictions("0" * 64, before))
    write_report(run)
    page = Page.read(run.folder)
    mended = {photo["link"] for photo in page.gallery(f"{label}: right now, wrong before")}
    assert mended == {
        Path(row.path).as_uri()
        for row in present.rows
        if row.split == split.TESTING and row.label == label and row.is_right
    }
    assert not [g for g in page.data["galleries"] if g["title"].endswith("right before")]


def test_a_retraining_keeps_the_predictions_of_the_graph_before(
    train: Train, tmp_path: Path
) -> None:
    run = RunFolder(train(folder=tmp_path / "run").folder)
    first = read_predictions(run.predictions, "")
    train(folder=run.folder)
    assert not run.previous_predictions.exists()  # the same graph
    train("--seed", 1, folder=run.folder)
    assert read_predictions(run.previous_predictions, "") == first
    assert read_predictions(run.predictions, "").sha256 != first.sha256


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, train: Train) -> Run:
    """Return a run whose labels and file names try to be more than text."""
    root = tmp_path_factory.mktemp("hostile")
    random = np.random.default_rng(0)
    for number, label in enumerate(HOSTILE):
        (root / label).mkdir()
        for i in range(10):
            name = f"{i} <img src=x onerror=alert(2)> \x1b[31m\u202e '\" {label[:40]}.png"
            image = draw(LABELS[number % 3], random)
            image.rotate(90 * (number == 3)).save(root / label / name)
    (root / HOSTILE[0] / "<i>empty<i>\x1b[2J.jpg").touch()
    return train("--testing-percentage", 30, source=root)


def test_hostile_names_are_shown_as_text(hostile: Run) -> None:
    write_report(RunFolder(hostile.folder))
    page = Page.read(hostile.folder)
    scripts = page.named("script")
    assert [script.attributes.get("type") for script in scripts] == ["application/json", None]
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]
    assert not [image for image in page.named("img") if image.attributes.get("src") == "x"]
    assert not page.named("b")
    assert "alert(1)<script>" not in page.html
    for label in HOSTILE:
        assert label.strip() in {element.text.strip() for element in page.named("bdi")}
    assert "49" not in {element.text for element in page.named("bdi")}
    # Nothing that a terminal or a browser obeys is left, in the data either.
    assert "\x1b" not in page.html
    assert "\u202e" not in page.html
    names = [photo["name"] for photo in page.data["photos"]]
    assert all("\\x1b[31m\\u202e" in name or "empty" in name for name in names)
    assert [photo["label"] for photo in page.data["photos"] if photo["label"] == HOSTILE[0]]
    assert any("<i>empty<i>\\x1b[2J.jpg" in element.text for element in page.named("td"))


def test_many_photos_stay_on_a_small_page(tmp_path: Path) -> None:
    from retrain.data.photo import Photo

    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (160, 160, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    photos = []
    for i in range(900):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "noise.png")
        photos.append(Photo(tmp_path / f"{i}.png", "a", bytes(32)))
    book = PhotoBook(tmp_path)
    for start in range(0, 900, 300):
        book.gallery(f"from {start}", photos[start : start + 300])
    content = book.to_json()
    assert [gallery["total"] for gallery in content["galleries"]] == [300] * 3
    assert {len(gallery["photos"]) for gallery in content["galleries"]} == {MAX_IN_GALLERY}
    assert len(json.dumps(content)) < 4_000_000
    # The first photos of each gallery have pictures.
    for gallery in content["galleries"]:
        assert all("picture" in content["photos"][i] for i in gallery["photos"][:50])


def test_graph_and_model_stand_side_by_side_on_the_same_photos(folder: Path) -> None:
    inputs = read_inputs(RunFolder(folder))
    fewer = replace(inputs, rows=inputs.test_rows[:1])
    graph, model, _ = columns(fewer)
    assert graph.accuracy
    assert model.accuracy
    assert graph.accuracy.total == model.accuracy.total == len(inputs.test_rows) > 1
