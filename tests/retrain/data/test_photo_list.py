"""Lists of photos: what a row may hold, and the reason of each row that is not used."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deploy.errors import BadData
from retrain.data.dataset import Dataset
from retrain.data.photo_list import PhotoList
from retrain.data.scan import scan
from tests.helpers.photo_folders import put, reasons
from tests.helpers.photo_sources import rows_of, write_csv, write_parquet


def read(path: Path) -> Dataset:
    return scan(PhotoList(path))


@pytest.fixture
def rows(root: Path) -> list[dict[str, object]]:
    """Return the rows of a list of two photos."""
    return [{"uri": path, "label": label} for path, label in rows_of(root)]


def test_other_columns_in_any_order_are_ignored(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    lines = [f'12,{label},"{place}","a, ""b""\nc"' for place, label in rows_of(root)]
    path.write_text("\ufeffwidth,label,uri,notes\r\n" + "\r\n".join(lines), "utf-8")
    dataset = read(path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.bad == ()


def test_a_relative_place_begins_at_the_list(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    write_csv(
        lists / "list.csv",
        [
            {"uri": "../photos/cat/1.png", "label": "cat"},
            {"uri": f"file://{root}/dog/2.png", "label": "dog"},
        ],
    )
    places = [photo.path for photo in read(lists / "list.csv").photos]
    assert places == [lists / "../photos/cat/1.png", root / "dog/2.png"]
    monkeypatch.chdir(root)
    write_csv(
        root / "list.csv",
        [{"uri": "./cat/1.png", "label": "cat"}, {"uri": "dog/2.png", "label": "dog"}],
    )
    assert [str(p.path) for p in read(Path("list.csv")).photos] == ["cat/1.png", "dog/2.png"]


def test_a_digest_of_the_list_is_taken_as_it_is(tmp_path: Path) -> None:
    digests = [bytes([number]) * 32 for number in (1, 2)]
    values: dict[str, Any] = {
        "csv": None,
        "hex": [digest.hex().upper() for digest in digests],
        "bytes": digests,
        "fixed": pa.array(digests, pa.binary(32)),
        "view": pa.array(digests, pa.binary_view()),
        "large": pa.array([digest.hex() for digest in digests], pa.large_string()),
        "dictionary": pa.array([digest.hex() for digest in digests]).dictionary_encode(),
    }
    rows = [
        {"uri": f"{digest[0]}.jpg", "label": digest[0], "digest": digest.hex()}
        for digest in digests
    ]
    for name, column in values.items():
        path = tmp_path / f"{name}.parquet"
        if column is None:
            path = write_csv(tmp_path / "list.csv", rows)
        else:
            # Labels may be numbers, and repeated values may be a dictionary.
            labels = pa.array([1, 2]) if name == "hex" else pa.array(["1", "2"]).dictionary_encode()
            write_parquet(path, uri=["1.jpg", "2.jpg"], label=labels, digest=column)
        photos = read(path).photos
        assert [photo.digest for photo in photos] == digests, name
        assert [photo.label for photo in photos] == ["1", "2"]


def test_a_row_without_a_digest_is_read(root: Path, tmp_path: Path) -> None:
    uris = [str(path) for path, _ in rows_of(root)]
    digest = hashlib.sha256(Path(uris[1]).read_bytes())
    path = write_parquet(
        tmp_path / "list.parquet",
        uri=uris,
        label=["cat", "dog"],
        digest=[None, digest.hexdigest()],
    )
    first, second = read(path).photos
    assert first.digest == hashlib.sha256(Path(uris[0]).read_bytes()).digest()
    assert second.digest == digest.digest()


def test_a_row_that_cannot_be_used_has_its_reason(
    root: Path, rows: list[dict[str, object]], tmp_path: Path
) -> None:
    (root / "text.jpg").write_text("hello")
    (root / "notes.txt").write_text("hello")
    (root / "empty.jpg").touch()
    (root / "link.jpg").symlink_to(root / "nowhere")
    with (root / "huge.jpg").open("wb") as stream:
        stream.truncate(300 * 1024**2)
    place = str(root / "cat/1.png")
    bad = {
        "link.jpg": "a link to nothing",
        "gone.jpg": "there is no such file",
        "huge.jpg": "larger than 256 MB",
        "empty.jpg": "the file is empty",
        "text.jpg": "not a photo: its content is none of",
        "notes.txt": "not a photo: its content is none of",
        "dog": "not a file",
        "nowhere://a/1.jpg": "cannot be read (Protocol not known: nowhere)",
        "memory://none/3.jpg": "there is no such file",
        "http://127.0.0.1:9/4.jpg": "cannot be read (",
    }
    rows = [
        *(dict[str, object](uri=uri if "://" in uri else root / uri, label="cat") for uri in bad),
        {"uri": "", "label": "cat"},
        {"uri": place, "label": " "},
        {"uri": place, "label": "a\nb"},
        {"uri": place, "label": "caf\udce9"},
        {"uri": place, "label": "x" * 1_001},
        *rows,
    ]
    dataset = read(write_csv(tmp_path / "list.csv", rows))
    assert [photo.path.name for photo in dataset.photos] == ["1.png", "2.png"]
    by_name = reasons(dataset)
    for uri, reason in bad.items():
        assert by_name[uri.rpartition("/")[2]].startswith(reason), uri
    assert by_name["list.csv"] == "line 12 has no uri"
    assert [item.reason for item in dataset.bad if str(item.path) == place] == [
        "its label is empty",
        "label 'a\\nb' holds a control character or an invisible one",
        "its label is not UTF-8",
        f"label '{'x' * 79} has more than 1,000 characters",
    ]
    assert {item.label for item in dataset.bad} == {"cat", ""}


def test_a_line_of_too_few_columns_is_a_row_with_its_number(
    rows: list[dict[str, object]], tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "list.csv", rows)
    with path.open("a") as stream:
        stream.write("one\n1,2,3\n,cat\n")
    dataset = read(path)
    assert {item.reason for item in dataset.bad} == {
        "line 4 has 1 column, not 2",
        "line 5 has 3 columns, not 2",
        "line 6 has no uri",
    }


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_null_byte_is_no_part_of_a_uri(
    rows: list[dict[str, object]], tmp_path: Path, digest: str
) -> None:
    rows = [{**row, "digest": ""} for row in rows]
    rows.append({"uri": "a\0.jpg", "label": "cat", "digest": digest})
    dataset = read(write_csv(tmp_path / "list.csv", rows))
    assert reasons(dataset) == {"list.csv": "line 4 has a null byte in its uri"}


def test_a_row_whose_url_is_none_is_named(rows: list[dict[str, object]], tmp_path: Path) -> None:
    rows.append({"uri": "http://[bad/1.jpg", "label": "cow"})
    with pytest.raises(BadData, match=r"no usable photo of cow \(1\.jpg: "):
        read(write_csv(tmp_path / "list.csv", rows))


def test_a_pipe_is_no_photo_however_it_is_written(root: Path, tmp_path: Path) -> None:
    rows = [{"uri": path, "label": label} for path, label in rows_of(root)]
    os.mkfifo(root / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.csv")
    for uri in (root / "pipe.jpg", f"file://{root}/pipe.jpg"):
        dataset = read(write_csv(tmp_path / "list.csv", [*rows, {"uri": uri, "label": "cat"}]))
        assert reasons(dataset) == {"pipe.jpg": "not a file"}
    with pytest.raises(BadData, match="not a file"):
        read(tmp_path / "pipe.csv")


@pytest.mark.parametrize("digest", ["0" * 63, "x" * 64, "0" * 32])
def test_a_digest_that_is_none_is_not_trusted(root: Path, tmp_path: Path, digest: str) -> None:
    rows = [{"uri": path, "label": label, "digest": ""} for path, label in rows_of(root)]
    rows.append({"uri": put(root / "cat/3.png", 3), "label": "cat", "digest": digest})
    dataset = read(write_csv(tmp_path / "list.csv", rows))
    assert reasons(dataset) == {"3.png": "its digest is not 64 hexadecimal digits, a SHA-256"}


def test_names_that_are_not_utf8_are_read(root: Path, tmp_path: Path) -> None:
    path = put(root / "cat" / "caf\udce9.png", 3)
    dataset = read(
        write_csv(
            tmp_path / "list.csv",
            [{"uri": place, "label": label} for place, label in rows_of(root)],
        )
    )
    assert path in [photo.path for photo in dataset.photos]
    assert dataset.bad == ()


def test_the_split_of_a_list_is_used(root: Path, tmp_path: Path) -> None:
    names = ["Train", "val", "testing", "", "tset"]
    rows = [
        {
            "uri": put(root / label / f"{number}.png", 10 * len(label) + number),
            "label": label,
            "split": split,
        }
        for label in ("cat", "lion")
        for number, split in enumerate(names, 10)
    ]
    dataset = read(write_csv(tmp_path / "list.csv", rows))
    assert [photo.split for photo in dataset.photos] == ["training", "validation", "testing"] * 2
    assert [item.reason for item in dataset.bad if item.label == "cat"] == [
        "its split 'tset' is none of train, validation and test",
        "its `split` is empty, and other rows have one",
    ]


def test_half_a_split_is_refused(root: Path, tmp_path: Path) -> None:
    rows = [{"uri": path, "label": label, "split": "train"} for path, label in rows_of(root)]
    with pytest.raises(BadData, match="no photo is of validation, testing: add some, or leave"):
        read(write_csv(tmp_path / "list.csv", rows))


def test_more_labels_than_a_contract_holds_are_refused(
    rows: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.contract.MAX_LABELS", 1)
    path = write_csv(tmp_path / "list.csv", rows)
    with pytest.raises(BadData, match=r"list\.csv: 2 labels, more than 1: check what names"):
        read(path)


def test_labels_of_more_text_than_a_contract_holds_are_refused(
    rows: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.contract.MAX_JSON_BYTES", 64 * 1024)
    path = write_csv(tmp_path / "list.csv", rows)
    with pytest.raises(BadData, match=r"list\.csv: 2 labels take .*: shorten the names"):
        read(path)


def test_lookalike_labels_are_a_warning(root: Path, tmp_path: Path) -> None:
    rows = [{"uri": path, "label": label} for path, label in rows_of(root)]
    rows.append({"uri": put(root / "cat/3.png", 3), "label": "Cat"})
    dataset = read(write_csv(tmp_path / "list.csv", rows))
    assert any("look alike are 2 classes: 'Cat' and 'cat'" in line for line in dataset.warnings())


CUT_OFF = b"PAR1" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.csv", b"path,label\n1.jpg,a\n", "it has no column uri: its columns are 'path', 'la"),
        ("list.csv", b"uri;label\n1.jpg;a\n", "separated by commas"),
        ("list.csv", b"uri,class\n1.jpg,a\n", "it has no column label"),
        ("list.csv", b"", "it has no column uri: its columns are none"),
        ("list.csv", b"uri,label\n", "it has no row"),
        ("list.csv", b"\xff\xfe\0\1" * 100, "it has no column uri"),
        ("list.csv", b"uri,label\n" + b"x" * 10_000_000, "cannot be read as a list in CSV"),
        ("list.csv", b"x" * 10_000_000, "cannot be read as a list in CSV (field larger"),
        ("list.csv", b"uri,label\n1.jpg,\n2.jpg,\n", "no row has a label (1.jpg: its label is"),
        ("list.csv", b"uri,label\n1.jpg,a\n2.jpg,a\n", "one label (a): expected at least two"),
        ("list.csv", b"uri,label\n1.jpg,a\n2.jpg,b\n", "no usable photo of a (1.jpg: there is no"),
        ("list.parquet", CUT_OFF, "cannot be read as a list in Parquet"),
        ("list.parquet", b"", "cannot be read as a list in Parquet"),
        ("list.parquet", b"uri,label\n1.jpg,a\n", "cannot be read as a list in Parquet"),
    ],
)
def test_what_is_no_list_is_named_with_a_remedy(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadData) as error:
        read(path)
    message = str(error.value)
    assert words in message
    assert str(path) in message
    assert len(message) < 700


def test_a_parquet_list_that_is_cut_off_or_of_other_types_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "list.parquet", uri=["1.jpg"], label=[[1, 2]])
    with pytest.raises(BadData, match="cannot be read as a list in Parquet"):
        read(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadData, match="cannot be read as a list in Parquet"):
        read(path)
    write_parquet(path, uri=pa.array([], pa.string()), label=pa.array([], pa.string()))
    with pytest.raises(BadData, match="it has no row"):
        read(path)
