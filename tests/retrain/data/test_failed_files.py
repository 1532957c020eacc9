"""Test the table of the files that a data set leaves out."""

from dataclasses import replace
from pathlib import Path

from retrain.data.failed_files import write_failed_files
from retrain.data.photo_folder import scan


def test_the_table_has_every_file_and_goes_when_none_is_left_out(
    tiny: Path, tmp_path: Path
) -> None:
    dataset = scan(tiny)
    table = tmp_path / "failed.csv"
    write_failed_files(table, dataset)
    (empty,) = dataset.bad
    line = f'"{empty.path.absolute()}","{empty.path.parent.name}","{empty.reason}"'
    assert table.read_text("utf-8").splitlines() == ['"path","label","reason"', line]
    write_failed_files(table, replace(dataset, bad=()))
    assert not table.exists()
