"""Which folders are classes, and which are splits that the user made."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from deploy.errors import BadData, WrongUse
from retrain.data.dataset import Dataset
from retrain.data.photo import Photo
from retrain.data.photo_folder import scan
from retrain.data.split import SPLITS, assign
from retrain.settings.training import SplitSettings
from tests.helpers.photo_folders import put
from tests.helpers.photos import LABELS, PER_LABEL
from tests.helpers.runs import Invoke, Train

WHOLE = ("train/cat", "train/dog", "valid/cat", "valid/dog", "test/cat", "test/dog")


def folders(root: Path, *names: str) -> Path:
    """Write a photo of its own into each folder; an equal name before "=" is an equal photo."""
    for number, name in enumerate(names):
        put(root / name / "photo.png", 10 + number)
    return root


def by_label(dataset: Dataset) -> dict[str, list[str]]:
    return {
        label: [
            str(p.path.parent.relative_to(dataset.root)) for p in dataset.photos if p.label == label
        ]
        for label in dataset.labels
    }


def test_whole_splits_are_the_split_of_the_run(photos: Path, tmp_path: Path, train: Train) -> None:
    source = tmp_path / "split"
    for label in LABELS:
        for i, path in enumerate(sorted((photos / label).iterdir())):
            target = (
                source / ("train", "Val", "TEST")[max(0, i - PER_LABEL + 3)] / label / path.name
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (source / "README.roboflow.txt").touch()
    run = train(source=source)
    expected = {"train": "training", "Val": "validation", "TEST": "testing"}
    assert all(expected[photo.path.parent.parent.name] == name for photo, name in run.manifest)
    assert run.metrics["labels"] == list(LABELS)
    assert run.metrics["split"] == {"training": 66, "validation": 3, "testing": 3}
    assert run.metrics["split_by"] == "folders"
    assert "the folders: 66 training, 3 validation, 3 testing photos" in run.result.stderr


@pytest.mark.parametrize(
    "names",
    [
        ("training", "validation", "testing"),
        ("TRAIN", "Dev", "Test"),
        ("train ", "val", "test"),
    ],
)
def test_the_usual_names_of_splits_are_known(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = folders(tmp_path, *(f"{name}/{label}" for name in names for label in ("cat", "dog")))
    put(root / "unlabeled" / "x.png", 1)
    dataset = scan(root)
    assert dataset.labels == ("cat", "dog")
    assert Counter(photo.split for photo in dataset.photos) == dict.fromkeys(
        ("training", "validation", "testing"), 2
    )
    assert any(f"{root / 'unlabeled'} is left out" in line for line in dataset.warnings())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (WHOLE[:2], "no validation folder, such as {root}/valid; no testing folder"),
        (WHOLE[:4], "no testing folder, such as {root}/test"),
        ((*WHOLE[:4], "test"), "test holds no class folders"),
        (WHOLE[:5], "no photos of dog in test"),
        ((*WHOLE, "test/owl"), "no photos of owl in train; no photos of owl in valid"),
        ((*WHOLE[1:], "train/Cat"), "'Cat' and 'cat' look alike: if they mean the same, rename"),
        (("train", "valid", "test"), "hold no class folders"),
        (("data/cat", "data/dog"), "name {root}/data"),
    ],
)
def test_a_root_that_is_no_whole_split_is_an_error_with_a_remedy(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadData) as error:
        scan(folders(tmp_path, *names))
    assert words.format(root=tmp_path) in str(error.value)
    assert "`labels_from`" in str(error.value) or "data" in words


def test_a_folder_of_a_split_without_photos_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path, *WHOLE)
    (root / "valid" / "owl").mkdir()
    (line,) = scan(root).remarks
    assert line == f"{root / 'valid' / 'owl'} is left out: it holds no photos"


def test_photos_of_splits_are_put_together_where_the_user_says_so(tmp_path: Path) -> None:
    root = folders(tmp_path, *WHOLE[:4])
    assert by_label(scan(root, 2)) == {
        "cat": ["train/cat", "valid/cat"],
        "dog": ["train/dog", "valid/dog"],
    }
    assert scan(root, 1).labels == ("train", "valid")
    assert {photo.split for photo in scan(root, 2).photos} == {""}
    with pytest.raises(BadData, match="no folders 3 levels below"):
        scan(root, 3)


def test_copies_across_splits_of_the_user_stay_in_training(tmp_path: Path) -> None:
    root = folders(tmp_path, *WHOLE)
    shutil.copy(root / "train/cat/photo.png", root / "test/cat/again.png")
    shutil.copy(root / "valid/dog/photo.png", root / "test/dog/again.png")
    shutil.copy(root / "train/cat/photo.png", root / "train/cat/again.png")
    dataset = scan(root)
    paths = {str(photo.path.relative_to(root)) for photo in dataset.photos}
    assert len(paths) == 6
    assert not {"test/cat/again.png", "test/dog/again.png"} & paths
    lines = dataset.warnings()
    assert any(line.startswith("2 photos are exact copies of one in another") for line in lines)
    assert "1 exact copy of another photo is passed over" in lines


def test_a_split_of_copies_alone_is_an_error(tmp_path: Path) -> None:
    root = folders(tmp_path, *WHOLE[:4])
    shutil.copytree(root / "train", root / "test")
    with pytest.raises(BadData, match=r"no photo is left for testing: .*`labels_from` 2"):
        scan(root)


@pytest.mark.parametrize(
    "settings", [SplitSettings(testing_percentage=20), SplitSettings(salt="x")]
)
def test_an_option_for_another_split_is_refused(settings: SplitSettings) -> None:
    photos = [
        Photo(Path(name), "cat", name.ljust(32).encode(), name) for name in ("training", "testing")
    ]
    with pytest.raises(WrongUse, match=r"`testing_percentage`, .*`split_salt` .*`labels_from` 2"):
        assign(photos, settings)
    assert assign(photos, SplitSettings()) == ["training", "testing"]


def test_repeated_names_are_a_warning_with_both_readings(tmp_path: Path) -> None:
    root = folders(tmp_path, "cam1/daisy", "cam1/roses", "cam2/tulips", "cam2/daisy")
    dataset = scan(root)
    assert dataset.labels == ("cam1", "cam2")
    (line,) = [line for line in dataset.warnings() if "two ways" in line]
    assert "2 folders are the classes: cam1, cam2." in line
    assert "3 classes: daisy, roses, tulips." in line
    assert "`labels_from` 2" in line
    assert scan(root, 2).labels == ("daisy", "roses", "tulips")
    assert not [line for line in scan(root, 1).warnings() if "two ways" in line]


@pytest.mark.parametrize(
    ("names", "level"),
    [
        (("seg_train/seg_train/", "seg_test/seg_test/"), 3),
        (("cam1/2022/", "cam2/2023/"), 3),
        (("a/x/y/", "b/x/z/"), 4),
    ],
)
def test_repeated_names_further_down_are_a_warning_too(
    tmp_path: Path, names: tuple[str, ...], level: int
) -> None:
    root = folders(tmp_path, *(name + label for name in names for label in ("cat", "dog")))
    (line,) = [line for line in scan(root).warnings() if "two ways" in line]
    assert f"2 classes: cat, dog. To train on these, use `labels_from` {level};" in line
    assert scan(root, level).labels == ("cat", "dog")


def test_a_split_in_a_folder_of_its_own_name_is_a_split(tmp_path: Path) -> None:
    root = folders(tmp_path, *(f"{name.split('/')[0]}/{name}" for name in WHOLE))
    dataset = scan(root)
    assert dataset.labels == ("cat", "dog")
    assert Counter(photo.split for photo in dataset.photos) == dict.fromkeys(SPLITS, 2)
    shutil.rmtree(root / "valid")
    with pytest.raises(
        BadData, match=r"no validation .* train on \S+/train/train .*`labels_from` 3 to put"
    ):
        scan(root)


def test_the_hint_for_one_class_names_the_level_of_folders_with_several_parents(
    tmp_path: Path,
) -> None:
    root = folders(tmp_path, *(name.replace("/", "/images/") for name in WHOLE))
    with pytest.raises(BadData, match=r"one class \(images\).* use `labels_from` 3$"):
        scan(root)


def test_splits_below_the_classes_are_a_warning(tmp_path: Path) -> None:
    dataset = scan(folders(tmp_path, "cat/train", "cat/test", "dog/train", "dog/test"))
    assert dataset.labels == ("cat", "dog")
    assert any(
        "test, train below the classes are not taken as a split" in w for w in dataset.remarks
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("roses/red", "roses/white", "daisy"), ("daisy", "roses")),
        (("healthy", "sick", "test"), ("healthy", "sick", "test")),
        (("test", "val", "healthy"), ("healthy", "test", "val")),
        (("daisy/daisy", "roses/roses"), ("daisy", "roses")),
        (("daisy/images", "roses/images"), ("daisy", "roses")),
        (("train/steam", "train", "bus/red", "car"), ("bus", "car", "train")),
        (("none", "unknown", "hidden", "training"), ("hidden", "none", "training", "unknown")),
    ],
)
def test_other_nested_folders_belong_to_their_class_without_a_word(
    tmp_path: Path, names: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    dataset = scan(folders(tmp_path, *names))
    assert (dataset.labels, dataset.remarks) == (labels, ())


def test_the_level_is_an_option_of_both_commands_and_kept(
    photos: Path, tmp_path: Path, train: Train, invoke: Invoke, cache_dir: Path
) -> None:
    for i, label in enumerate(LABELS):
        (tmp_path / f"cam{i % 2}").mkdir(exist_ok=True)
        (tmp_path / f"cam{i % 2}" / label).symlink_to(photos / label)
    run = train("--labels-from", 2, source=tmp_path)
    assert run.metrics["labels"] == list(LABELS)
    assert run.metrics["settings"]["source"]["labels_from"] == 2
    where = ("--cache-dir", cache_dir, "--labels-from", 2)
    result = invoke("bottlenecks", tmp_path, *where)
    assert f"{len(LABELS) * PER_LABEL} photos in {len(LABELS)} classes" in result.stderr


def test_two_classes_that_are_one_folder_are_an_error(tmp_path: Path) -> None:
    root = folders(tmp_path, "cat", "dog")
    (root / "lion").symlink_to(root / "cat")
    with pytest.raises(BadData, match=r"lion and .*cat are the same folder"):
        scan(root)
