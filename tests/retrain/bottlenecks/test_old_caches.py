"""Caches of earlier versions are found, for ever."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from deploy.contract import InputSpec
from retrain.backbones import Backbone
from retrain.bottlenecks import thumbnails
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, DistortedViews, extract
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.photo import Photo
from retrain.data.photo_folder import scan
from retrain.progress import Progress
from retrain.settings.training import Distortion

BEFORE_ISSUE_16 = Path(__file__).parents[2] / "formats/cache/before_issue_16"
"""Caches of `photos`, of EfficientNet-Lite0, and of two views with `DISTORTED`."""
LITE0 = Backbone(
    "efficientnet_lite0",
    InputSpec(224, 224, 0.875, 127.0, 128.0),
    1280,
    "54cad3919367348245e11294e4a0fbd77619c3dab3e47064c0646d1f938f9b2a",
    Path("none"),
    b"",
)
"""As it names its caches; it cannot run."""
DISTORTED = DistortedViews(2, Distortion(True, 10, 20, 30))


@pytest.fixture(autouse=True)
def _same_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "retrain.backbones.backbone.decoder", lambda: "pillow-13.0.0/heif-1.8.1/rules-4"
    )


@pytest.mark.parametrize(
    ("distortion", "folder"),
    [
        (DISTORTED.distortion, "4bd5bc89f63840f159849656f8e6fe7fa4180b8bf8aa499cfa0cdcede4c5f769"),
        (
            Distortion(random_brightness=20),
            "ceac5d2a8a4e587938709deff9f49c0ddb70ac0aec27ca9282524e193de04036",
        ),
    ],
)
def test_only_settings_that_came_later_rename_a_cache(
    distortion: Distortion, folder: str, tmp_path: Path
) -> None:
    """The folders' names are those of before there were these settings."""
    tflite = EngineChoice("tflite", Path("no probe"))
    later = replace(distortion, random_contrast=1), replace(distortion, blank_centre=1)
    for setting in (distortion, *later):
        distorted = DistortedViews(1, setting)
        extract((), LITE0, tflite, tmp_path, Progress(), distorted=distorted)
    caches = {path.name for path in tmp_path.iterdir()}
    assert folder in caches
    assert len(caches) == 3


def load(photos: Sequence[Photo], distorted: DistortedViews | None) -> Bottlenecks:
    tflite = EngineChoice("tflite", Path("no probe"))
    folder = BEFORE_ISSUE_16 / "bottlenecks"
    result = extract(photos, LITE0, tflite, folder, Progress(), distorted=distorted)
    assert result.analysed == 0
    return result


def sha256(result: Bottlenecks) -> str:
    return hashlib.sha256(result.store.take(result.rows.ravel()).tobytes()).hexdigest()


def test_a_cache_of_before_issue_16_is_found() -> None:
    photos = scan(BEFORE_ISSUE_16 / "photos").photos
    plain = load(photos, None)
    assert sha256(plain) == "e1b5866ad2d724de81fa5d602e2a5dc452f3aa9c96307bae31ee0eee156f1583"
    (bad,) = plain.bad
    assert bad.path.name == "truncated.jpg"
    assert bad.reason.startswith("the file is damaged")
    views = load(plain.photos, DISTORTED)
    assert views.rows.shape == (4, 2)
    assert sha256(views) == "d5a4606913a315af1507c6b5518ec4a131547a628d2e682ea8b26dbfaf1cccac"


def test_thumbnails_of_before_issue_16_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = scan(BEFORE_ISSUE_16 / "photos").photos

    def refuse(photo: Photo) -> NoReturn:
        raise AssertionError(f"{photo} is decoded again")

    usable = [photo for photo in photos if photo.path.name != "truncated.jpg"]
    monkeypatch.setattr(thumbnails, "decode", refuse)
    cache = ThumbnailCache(BEFORE_ISSUE_16 / "pictures")
    store, rows, readable = cache.load(usable, Progress())
    assert readable == usable
    levels = store.take(rows)
    assert levels.shape == (4, thumbnails.WIDTH)
    assert np.all((levels >= 0) & (levels <= 255) & (levels.std(axis=1, keepdims=True) > 1))
