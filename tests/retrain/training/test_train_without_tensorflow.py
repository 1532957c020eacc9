"""Train the final layer from the cache in a process of its own: TensorFlow is not loaded."""

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.runs import STEPS, Run

_TRAIN = """
import json, sys
from retrain.cli import commands
try:
    commands(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_training_from_the_cache_loads_neither_tensorflow_nor_keras(
    base: Run, photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    arguments = ["train", photos, "--cache-dir", cache_dir, "--output-dir", tmp_path]
    options = ["--how-many-training-steps", STEPS, "--intermediate-store-frequency", STEPS // 2]
    completed = subprocess.run(
        [sys.executable, "-c", _TRAIN, *map(str, arguments + options)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(completed.stdout.splitlines()[-1]))
    assert {"retrain", "tensorboard", "pyarrow", "jinja2", "matplotlib"} <= loaded
    # scipy and h5py would cost time too.
    assert loaded.isdisjoint({"tensorflow", "keras", "scipy", "h5py"})
    assert (tmp_path / "report.html").exists()
    graph = base.folder / "output_graph.pb"
    assert (tmp_path / "output_graph.pb").read_bytes() == graph.read_bytes()
