"""Run cleanlab and CleanVision: `python doctor_peers.py INPUT.npz PHOTOS OUTPUT.json`.

It runs in an environment of its own, which has `cleanlab`, `cleanvision` and `scikit-learn`, and
imports nothing of `retrain`. INPUT holds `probabilities` (N, C), out of fold, `labels` (N,) and
`bottlenecks` (N, D). cleanlab ranks the labels by the same probabilities that the doctor ranks
them by, and by those of scikit-learn's logistic regression, as its tutorial does.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main(arrays_path: str, photos: str, output: str) -> None:
    """Write what both find in `photos`, with their seconds and versions."""
    figures = {
        "cleanlab": rank_labels(arrays_path),
        "cleanvision": check_photos(photos),
        "versions": {name: version(name) for name in ("cleanlab", "cleanvision")},
    }
    Path(output).write_text(json.dumps(figures))


def rank_labels(arrays_path: str) -> dict[str, Any]:
    """Return cleanlab's order of all photos, worst first, and those that it calls wrong."""
    import numpy as np
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    arrays = np.load(arrays_path)
    labels = arrays["labels"]
    figures = {}
    for name in ("the same probabilities", "logistic regression"):
        start = time.perf_counter()
        if name == "logistic regression":
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
            probabilities = cross_val_predict(
                model, arrays["bottlenecks"], labels, cv=5, method="predict_proba"
            )
        else:
            probabilities = arrays["probabilities"].astype(np.float64)
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        scores = get_label_quality_scores(labels, probabilities)
        wrong = find_label_issues(
            labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        figures[name] = {
            "order": np.argsort(scores, kind="stable").tolist(),
            "wrong": [int(number) for number in wrong],
            "seconds": time.perf_counter() - start,
        }
    return figures


def check_photos(photos: str) -> dict[str, Any]:
    """Return CleanVision's sets of exact and near copies, and its error with all files, if any.

    After an error the files that Pillow reads in full are checked alone.
    """
    from cleanvision import Imagelab

    paths = [str(path) for path in sorted(Path(photos).glob("*/*"))]
    error = None
    start = time.perf_counter()
    lab = Imagelab(filepaths=paths)
    try:
        lab.find_issues(verbose=False)
    except Exception as stopped:  # whatever it raises is a result
        error = f"{type(stopped).__name__}: {stopped}"
        start = time.perf_counter()
        lab = Imagelab(filepaths=[path for path in paths if is_readable(path)])
        lab.find_issues(verbose=False)
    return {
        "error": error,
        "exact": lab.info["exact_duplicates"]["sets"],
        "near": lab.info["near_duplicates"]["sets"],
        "seconds": time.perf_counter() - start,
    }


def is_readable(path: str) -> bool:
    """Return whether Pillow decodes the file in full."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
