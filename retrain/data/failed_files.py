"""Write the table of all files that a data set leaves out."""

import csv
import io
from pathlib import Path

from deploy import files
from retrain.data.dataset import Dataset

_COLUMNS = ("path", "label", "reason")


def write_failed_files(path: Path, dataset: Dataset) -> None:
    """Write the CSV file `path`, one line for each bad file; remove it if there is none."""
    if not dataset.bad:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    # As in the manifest, all are quoted.
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(_COLUMNS)
    for photo in dataset.bad:
        table.writerow((photo.path.absolute(), dataset.label_of(photo), photo.reason))
    files.write(path, text.getvalue().encode("utf-8", "surrogateescape"))
