"""The bench of the device's half: what it prints is what it measured, and it measures all."""

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.experiments.device import SETTLED, bare, grow, main
from deploy import Classifier
from tests.helpers.deploy_fixtures import draw_photos


def test_figures_are_printed_and_saved(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "drawn").mkdir()
    photo = draw_photos(tmp_path / "photos" / "drawn")["red"]
    few = ["--rounds", "10", "--starts", "1", "--classifications", "1000"]
    saved = ["--enlarge", str(tmp_path / "photos"), "--json", str(tmp_path / "device.json")]
    result = CliRunner().invoke(main, [str(model), str(photo), *few, *saved])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "device.json").read_text("utf-8"))
    assert figures["machine"]["cpu"]
    assert {len(taken) for taken in figures["samples_ns"].values()} == {10}
    assert set(figures["ms"]) == set(figures["samples_ns"])
    ratio = np.median(np.divide(figures["samples_ns"]["classify"], figures["samples_ns"]["bare"]))
    assert figures["ratios"]["classify / bare"] == pytest.approx(ratio)
    assert figures["ratios"]["12 MP / small"] > figures["ratios"]["its decoding / small"] > 1
    assert figures["bytes"]["12 MP"] > figures["bytes"]["small"] > 0
    assert len(figures["first_label_s"]) == 1
    assert figures["peak_mb"] > 20
    assert figures["enlarged"] == {"same": 4, "in_full": 4, "total": 4}
    assert "same best label at 12 MP 4 of 4 photos, in full 4" in result.output
    assert f"over 1000 classifications, after {SETTLED}" in result.output


@pytest.mark.parametrize("name", ["model.tflite", "float.tflite"])
def test_the_bare_calls_give_what_classify_gives(model: Path, tmp_path: Path, name: str) -> None:
    """Else the two could not be compared."""
    classifier = Classifier.open(model.with_name(name))
    photo = draw_photos(tmp_path)["red"]
    (scores,) = bare(classifier, photo)()
    found = {each.label: each.score for each in classifier.classify(photo)}
    assert [found[label] for label in classifier.contract.labels] == pytest.approx(
        scores.tolist(), abs=1e-6
    )


def test_growth_is_seen(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    classify = Classifier.classify

    def leaking(self: Classifier, photo: Path) -> object:
        kept.append(mmap.mmap(-1, 2_000_000))  # pages of its own, not what malloc has to spare
        kept[-1].write(bytes(2_000_000))
        return classify(self, photo)

    photo = draw_photos(tmp_path)["red"]
    assert grow(model, photo, SETTLED + 20) < 5
    monkeypatch.setattr(Classifier, "classify", leaking)
    assert grow(model, photo, SETTLED + 20) > 15
