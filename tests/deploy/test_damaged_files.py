"""Damaged model files: refused by digest, or what they hold is what they held; never a crash."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from tests.helpers.deploy_fixtures import CONTRACT, golden_of, networks

TRIALS = 500
# In a process of its own: a native crash is then seen as what it is, and not as the tests' end.
CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from deploy import model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from deploy.errors import BadData

path, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
content, whole = path.read_bytes(), model_file.read(path)
random = np.random.default_rng(count + len(kind))
damaged = path.with_name("damaged.tflite")

def place(size):
    # Half in the last 2,000 bytes: there the zip says where everything is.
    return int(random.integers(max(0, size - 2000) if random.random() < 0.5 else 0, size))

def flip(data):
    for _ in range(random.integers(1, 5)):
        data[place(len(data))] ^= 1 << int(random.integers(8))

def truncate(data):
    del data[place(len(data)):]

def splice(data):
    start = place(len(data))
    piece = data[start : start + int(random.integers(1, 300))]
    where = place(len(data))
    data[where : where + int(random.integers(0, 300))] = piece

def cut(data):
    start = place(len(data))
    del data[start : start + int(random.integers(1, 300))]

counts = {"refused": 0, "loaded": 0, "same": 0}
for _ in range(count):
    data = bytearray(content)
    locals()[kind](data)
    if data == content:
        counts["same"] += 1
        continue
    damaged.write_bytes(data)
    try:
        file = model_file.read(damaged)
        classifier = Classifier(file)
    except BadData:
        counts["refused"] += 1
        continue
    assert file == whole, "damage went unseen"
    assert check_goldens(classifier) == []
    counts["loaded"] += 1
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny network's model file, with a golden of each label."""
    path = tmp_path_factory.mktemp("intact") / "model.tflite"
    path.write_bytes(model_file.pack(networks().uint8, CONTRACT))
    classifier = Classifier.open(path)
    colours = ((200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128))
    goldens = [golden_of(classifier, colour) for colour in colours]
    path.write_bytes(model_file.pack(networks().uint8, CONTRACT, goldens, 0.001))
    assert check_goldens(Classifier.open(path)) == []
    return path


@pytest.mark.parametrize("kind", ["flip", "truncate", "splice", "cut"])
def test_no_damage_goes_unseen_and_none_crashes(intact: Path, kind: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", CHILD, intact, kind, str(TRIALS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    counts = json.loads(process.stdout)
    assert sum(counts.values()) == TRIALS
    assert counts["refused"] > 0.7 * TRIALS
    # Some bytes say nothing: a date, a permission.
    assert counts["loaded"] > 0 or kind != "flip"
