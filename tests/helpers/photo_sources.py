"""The same photos as a folder, lists and tar files, here and in stores."""

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

Rows = Iterable[tuple[Path, str]]
"""Photos with their labels."""


def rows_of(folder: Path) -> list[tuple[Path, str]]:
    """Return the photos of a folder of classes, with their labels."""
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*"))]


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a list in CSV, whose columns are those of the first row."""
    rows = list(rows)
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def write_parquet(path: Path, **columns: object) -> Path:
    """Write a list in Parquet."""
    pq.write_table(pa.table(columns), path)
    return path


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a tar file of members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def web_dataset(rows: Rows) -> bytes:
    """Return a tar file of photos, labelled by turns with .cls and with .json."""
    members = []
    for number, (path, label) in enumerate(rows):
        key = f"some/{number:06d}"
        sidecar = (
            (f"{key}.cls", f"{label}\n".encode())
            if number % 2
            else (f"{key}.json", json.dumps({"label": label}).encode())
        )
        members += [(f"{key}{path.suffix}", path.read_bytes()), sidecar]
    return tar_of(members)


def write_everywhere(folder: Path, place: Path, urls: Iterable[str] = ()) -> dict[str, str]:
    """Write the photos of `folder` as sources into `place` and below `urls`; return addresses."""
    rows = rows_of(folder)
    place.mkdir(parents=True, exist_ok=True)
    relative = [{"uri": os.path.relpath(path, place), "label": label} for path, label in rows]
    tars = {f"x-{number:02d}.tar": web_dataset(rows[number::3]) for number in range(3)}
    (place / "tars").mkdir()
    for name, content in tars.items():
        (place / "tars" / name).write_bytes(content)
    addresses = {
        "folder": str(folder),
        "csv": str(write_csv(place / "photos.csv", relative)),
        "parquet": str(
            write_parquet(
                place / "photos.parquet",
                label=[label for _, label in rows],
                uri=[str(path.absolute()) for path, _ in rows],
            )
        ),
        "tars": str(place / "tars"),
        "tars by braces": str(place / "tars" / "x-{00..02}.tar"),
        "tars by star": str(place / "tars" / "x-*.tar"),
    }
    for url in urls:
        scheme = url.partition(":")[0]
        for path, label in rows:
            _put(f"{url}/photos/{label}/{path.name}", path.read_bytes())
        for name, content in tars.items():
            _put(f"{url}/tars/{name}", content)
        below = [{"uri": f"photos/{label}/{path.name}", "label": label} for path, label in rows]
        _put(f"{url}/photos.csv", write_csv(place / "below.csv", below).read_bytes())
        addresses |= {
            f"{scheme} folder": f"{url}/photos",
            f"{scheme} csv": f"{url}/photos.csv",
            f"{scheme} tars": f"{url}/tars",
            f"{scheme} tars by braces": f"{url}/tars/x-{{00..02}}.tar",
            f"{scheme} tars by star": f"{url}/tars/x-*.tar",
        }
    return addresses


def _put(url: str, content: bytes) -> None:
    with fsspec.open(url, "wb") as stream:
        stream.write(content)
