"""`python -m bench.experiments.backbones`: what it runs, and the table of what came of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.experiments import backbones
from bench.experiments.extract import Product


def test_each_backbone_on_each_folder_is_a_row_of_the_table(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    trained = []

    def product(folder: Path, place: Path, bottlenecks: str, options: list[str]) -> Product:
        commands.append(("bottlenecks", str(len(list(folder.glob("*/*")))), *options))
        (place / bottlenecks).mkdir()
        return Product({"analysed": 72, "seconds": {"bottlenecks": 0.5}}, 321.0)

    def measure(folder: Path, salt: str, options: list[str], run: Path) -> dict[str, Any]:
        run.mkdir(exist_ok=True)
        (run / "model.tflite").write_text("int8")
        trained.append((folder, salt, options[:2]))
        graph, int8 = (0.8, 0.7) if salt == "1" else (0.9, 0.7)
        return {"salt": salt, "graph": graph, "int8": int8, "agreement": 0.95, "total": 10}

    def retrain(command: str, *arguments: str) -> dict[str, Any]:
        commands.append((command, *arguments))
        if command == "convert":
            Path(arguments[1], "model.tflite").write_text(arguments[4])
            return {}
        p50s = {"output_graph.pb": (12.0, 16.0), "float32.tflite": (8, 15), "int8.tflite": (5, 4)}
        models = [Path(each) for each in arguments[:3]]
        assert [each.read_text() for each in models[1:]] == ["float32", "int8"]
        return {
            "not_run": [],
            "runners": [
                {"model": each.name, "ms": {"p50": p50}, "size_bytes": megabytes * 1_000_000}
                for each, (p50, megabytes) in ((each, p50s[each.name]) for each in models)
            ],
        }

    monkeypatch.setattr(backbones, "product", product)
    monkeypatch.setattr(backbones, "measure", measure)
    monkeypatch.setattr(backbones, "retrain", retrain)
    names = ["--backbone", "efficientnet_lite1", "--backbone", "mobilenet_v2"]
    options = [*names, "--salts", "2", "--rounds", "2", "--json", str(tmp_path / "found.json")]
    result = CliRunner().invoke(backbones.main, [str(photos), *options])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1] == "mobilenet_v2 is left out: no --weights"
    lite1 = ["--architecture", "efficientnet_lite1"]
    assert trained == [(photos, "1", lite1), (photos, "2", lite1)]
    assert [each[0] for each in commands] == [*3 * ["bottlenecks"], "convert", "bench"]
    assert [each[1] for each in commands[:3]] == ["18", "72", "72"]
    # Half a difference of ten points is one standard error of two; 12.71 of them are 95%.
    assert result.stdout.splitlines()[2] == (
        f"| {photos.name} (72) | efficientnet_lite1 | 85.0% ± 63.5 | 70.0% ± 0.0 | 95.0% "
        "| 12.0 / 8.0 / 5.0 | 15.0 / 4.0 | 144 |"
    )
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["p50_ms"] == {"graph": 12, "float32": 8, "int8": 5}
    assert row["photos_per_s"] == [144, 144]
