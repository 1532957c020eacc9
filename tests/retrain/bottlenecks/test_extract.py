"""Bottlenecks: each photo is analysed once, whatever happens to folders, photos and shards."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import deploy.image
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import normalise, open_image, to_tensor, upright
from deploy.runtime import Model
from retrain.backbones import Backbone
from retrain.bottlenecks import engine, extract_shard
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, DistortedViews, extract
from retrain.data.distort import distort
from retrain.data.photo_folder import scan
from retrain.data.remote_path import PhotoPath, read_photo
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import Distortion
from retrain.training.load_examples import analyse


@pytest.fixture
def root(photos: Path, tmp_path: Path) -> Path:
    """Return a folder of two classes with four photos each, which a test may change."""
    for label in ("circles", "stripes"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:4]:
            shutil.copy(path, tmp_path / "photos" / label)
    return tmp_path / "photos"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bottlenecks"


TFLITE = EngineChoice("tflite", Path("no probe"))


def run(root: Path, backbone: Backbone, cache: Path) -> Bottlenecks:
    return extract(scan(root).photos, backbone, TFLITE, cache, Progress())


def values(result: Bottlenecks) -> npt.NDArray[np.float32]:
    return result.store.take(result.rows[:, 0])


def another(root: Path, name: str) -> Path:
    path = root / "circles" / name
    Image.new("RGB", (40, 30), (len(name), 100, 0)).save(path)
    return path


def truncated(root: Path) -> Path:
    path = another(root, "truncated.jpg")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_values_are_those_of_the_network_in_the_order_of_the_photos(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    result = run(root, backbone, cache)
    assert result.analysed == len(result.photos) == 8
    model = Model(backbone.flatbuffer)
    for photo, bottleneck in zip(result.photos, values(result), strict=True):
        expected = model(to_tensor(open_image(photo.path.read_bytes()), backbone.spec))
        np.testing.assert_array_equal(bottleneck, expected.astype(np.float16))


def test_nothing_is_analysed_twice(root: Path, backbone: Backbone, cache: Path) -> None:
    first = run(root, backbone, cache)
    second = run(root, backbone, cache)
    assert second.analysed == 0
    np.testing.assert_array_equal(values(second), values(first))


def test_a_new_photo_costs_one(root: Path, backbone: Backbone, cache: Path) -> None:
    run(root, backbone, cache)
    another(root, "new.png")
    result = run(root, backbone, cache)
    assert (result.analysed, len(result.rows)) == (1, 9)


def test_new_names_and_folders_cost_nothing(root: Path, backbone: Backbone, cache: Path) -> None:
    run(root, backbone, cache)
    for i, path in enumerate(sorted((root / "circles").iterdir())):
        path.rename(path.with_name(f"renamed {i}"))
    (root / "circles").rename(root / "discs")
    result = run(root.rename(root.with_name("moved")), backbone, cache)
    assert (result.analysed, len(result.rows)) == (0, 8)


def test_only_the_photos_of_a_damaged_shard_are_analysed_again(
    root: Path, backbone: Backbone, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(root, backbone, cache)
    there = set(cache.glob("*/shard-*"))
    another(root, "new.png")
    more = run(root, backbone, cache)
    (shard,) = set(cache.glob("*/shard-*")) - there
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    capsys.readouterr()
    again = run(root, backbone, cache)
    assert (first.analysed, more.analysed, again.analysed) == (8, 1, 1)
    np.testing.assert_array_equal(values(again), values(more))
    assert f"Warning: {shard.parent}: damaged, set aside: {shard.name}" in capsys.readouterr().err


def test_a_photo_that_cannot_be_decoded_is_listed_and_not_tried_again(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    path = truncated(root)
    for analysed in (9, 0):
        result = run(root, backbone, cache)
        assert result.analysed == analysed
        assert len(result.rows) == len(result.photos) == 8
        ((bad, reason),) = [(bad.path, bad.reason) for bad in result.bad]
        assert bad == path
        assert reason.startswith("the file is damaged: ")


def test_a_class_without_a_usable_photo_is_refused(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    (root / "owls").mkdir()
    path = truncated(root).rename(root / "owls" / "truncated.jpg")
    bad = run(root, backbone, cache).bad
    with pytest.raises(BadData, match=rf"no usable photos under {path.parent} \(truncated"):
        scan(root).without(bad)


def test_a_photo_that_goes_or_changes_during_the_run_is_listed(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    gone, changed = another(root, "gone.png"), another(root, "changed.png")
    scanned = scan(root).photos
    gone.unlink()
    shutil.copy(another(root, "something else.png"), changed)
    result = extract(scanned, backbone, TFLITE, cache, Progress())
    reasons = {bad.path: bad.reason for bad in result.bad}
    assert reasons.keys() == {gone, changed}
    assert reasons[gone] == "cannot be read (No such file or directory)"
    assert reasons[changed].startswith("its bytes are not those of its digest: ")
    assert (result.analysed, result.cached, len(result.rows)) == (8, 0, 8)
    again = extract(scanned, backbone, TFLITE, cache, Progress())
    assert (again.analysed, again.cached, len(again.bad)) == (0, 8, 2)


def test_what_is_lost_is_not_counted_as_cached(
    root: Path, backbone: Backbone, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = another(root, "gone.png")
    dataset = scan(root)
    lost.unlink()
    source = Source(root, cache_dir=cache)
    usable, _ = analyse(source, dataset, backbone, Progress("plain"))
    assert len(usable.photos) == 8
    line = "8 photos analysed now, 0 taken from the cache, 1 could not be analysed"
    assert line in capsys.readouterr().err


def test_values_that_are_not_finite_are_listed(
    root: Path, backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = another(root, "odd.png")
    with Image.open(path) as image:
        colour = image.getpixel((0, 0))

    def odd(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
        tensor = normalise(pixels, spec)
        return tensor * np.float32(np.nan) if (pixels == colour).all() else tensor

    monkeypatch.setattr(engine, "normalise", odd)
    result = run(root, backbone, cache)
    assert {bad.path: bad.reason for bad in result.bad} == {
        path: "its bottleneck is not finite in float16"
    }


def test_what_memory_was_too_little_for_is_tried_again(
    root: Path, backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = another(root, "large.png")
    with Image.open(path) as image:
        size = image.size

    def full(image: Image.Image) -> Image.Image:
        if image.size == size:
            raise MemoryError
        return upright(image)

    with monkeypatch.context() as patch:
        patch.setattr(deploy.image, "upright", full)
        (bad,) = run(root, backbone, cache).bad
        assert bad.path == path
        assert "memory was too little" in bad.reason
    result = run(root, backbone, cache)
    assert (result.analysed, result.bad) == (1, ())


STRONG = Distortion(True, 30, 30, 20)


def views(
    root: Path, backbone: Backbone, cache: Path, count: int, distortion: Distortion = STRONG
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the bottlenecks of `count` views of the photos below `root`, and how many are new."""
    photos, distorted = scan(root).photos, DistortedViews(count, distortion)
    result = extract(photos, backbone, TFLITE, cache, Progress(), distorted=distorted)
    assert result.photos == photos
    assert result.rows.shape == (len(photos), count)
    bottlenecks = result.store.take(result.rows.ravel())
    return bottlenecks.reshape(*result.rows.shape, -1), result.analysed


def test_views_are_analysed_once(root: Path, backbone: Backbone, cache: Path) -> None:
    first, analysed = views(root, backbone, cache, 2)
    assert analysed == 16
    model = Model(backbone.flatbuffer)
    for photo, bottlenecks in zip(scan(root).photos, first, strict=True):
        image = open_image(photo.path.read_bytes())
        for view in (1, 2):
            pixels = distort(image, backbone.spec, STRONG, photo.digest, view)
            expected = model(normalise(pixels, backbone.spec)).astype(np.float16)
            np.testing.assert_array_equal(bottlenecks[view - 1], expected)
    again, analysed = views(root, backbone, cache, 2)
    assert analysed == 0
    np.testing.assert_array_equal(again, first)


def test_more_views_cost_only_the_new_ones(root: Path, backbone: Backbone, cache: Path) -> None:
    two, _ = views(root, backbone, cache, 2)
    three, analysed = views(root, backbone, cache, 3)
    assert analysed == 8
    np.testing.assert_array_equal(three[:, :2], two)
    first, analysed = views(root, backbone, cache, 1)
    assert analysed == 0
    np.testing.assert_array_equal(first, two[:, :1])


def test_views_of_another_distortion_are_others(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    plain = run(root, backbone, cache)
    assert views(root, backbone, cache, 1)[1] == 8
    weak, analysed = views(root, backbone, cache, 1, Distortion(random_brightness=20))
    assert analysed == 8
    assert not np.array_equal(weak[:, 0], values(plain))
    assert run(root, backbone, cache).analysed == 0
    assert len(list(cache.iterdir())) == 3


def test_a_photo_that_goes_before_its_views_are_made_is_listed(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    scanned = scan(root).photos
    Path(scanned[0].path).unlink()
    two = DistortedViews(2, STRONG)
    result = extract(scanned, backbone, TFLITE, cache, Progress(), distorted=two)
    assert [(bad.path, "No such file" in bad.reason) for bad in result.bad] == [
        (scanned[0].path, True)
    ]
    assert result.photos == scanned[1:]
    assert (result.analysed, result.rows.shape) == (14, (7, 2))


def test_a_photo_whose_views_cannot_be_decoded_is_listed_with_the_reason(
    root: Path, backbone: Backbone, cache: Path
) -> None:
    path = truncated(root)
    for analysed in (18, 0):
        scanned, two = scan(root).photos, DistortedViews(2, STRONG)
        result = extract(scanned, backbone, TFLITE, cache, Progress(), distorted=two)
        ((bad, reason),) = [(bad.path, bad.reason) for bad in result.bad]
        assert bad == path
        assert reason.startswith("the file is damaged: ")
        assert (result.analysed, result.rows.shape) == (analysed, (8, 2))


def test_a_photo_without_one_of_its_views_is_listed(
    root: Path, backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned, two = scan(root).photos, DistortedViews(2, STRONG)
    make_row = extract_shard._row

    def odd(digest: bytes, view: int, bottleneck: npt.NDArray[np.float32]) -> Row:
        is_odd = (digest, view) == (scanned[5].digest, 2)
        return make_row(digest, view, bottleneck * np.float32(np.nan if is_odd else 1))

    monkeypatch.setattr(extract_shard, "_row", odd)
    result = extract(scanned, backbone, TFLITE, cache, Progress(), distorted=two)
    assert {bad.path: bad.reason for bad in result.bad} == {
        scanned[5].path: "its bottleneck is not finite in float16"
    }
    assert result.photos == (*scanned[:5], *scanned[6:])
    assert (result.rows >= 0).all()


def test_views_are_appended_to_a_store(root: Path, backbone: Backbone, cache: Path) -> None:
    plain = run(root, backbone, cache)
    before = values(plain)
    both = extract(
        plain.photos,
        backbone,
        TFLITE,
        cache,
        Progress(),
        distorted=DistortedViews(1, STRONG),
        store=plain.store,
    )
    assert both.store is plain.store
    assert set(both.rows.ravel()).isdisjoint(plain.rows.ravel())
    np.testing.assert_array_equal(values(plain), before)


def test_a_shard_is_read_once_a_run_and_a_new_one_too(
    root: Path, backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read_bytes = Path.read_bytes

    def count(path: Path) -> bytes:
        reads[path.suffix] += 1
        return read_bytes(path)

    def count_photo(place: PhotoPath) -> bytes:
        reads[place.suffix] += 1
        return read_photo(place)

    monkeypatch.setattr(Path, "read_bytes", count)
    monkeypatch.setattr(extract_shard, "read_photo", count_photo)
    for photo_reads, shard_reads in ((16, 1), (8, 1)):
        reads.clear()
        run(root, backbone, cache)
        # The scan reads each photo for its digest; a photo that is new is read once more.
        assert reads[".jpg"] + reads[".png"] == photo_reads
        assert reads[".parquet"] == shard_reads


def test_a_view_of_a_large_photo_is_as_sharp_as_the_photo(
    tmp_path: Path, backbone: Backbone, cache: Path
) -> None:
    """A JPEG is decoded at reduced scale: for a view of a part of it, at a larger one."""
    pixels = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.fromarray(pixels).rotate(90 * (label == "b")).save(
            tmp_path / "photos" / label / "1.jpg"
        )
    widths: list[int] = []

    def record(image: Image.Image, *arguments: Any) -> npt.NDArray[np.uint8]:
        widths.append(image.width)
        return distort(image, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_shard, "distort", record)
        views(tmp_path / "photos", backbone, cache, 1, Distortion(random_brightness=20))
        views(
            tmp_path / "photos", backbone, cache, 1, Distortion(random_crop=100, random_scale=100)
        )
    assert widths == [600, 600, 1200, 1200]
