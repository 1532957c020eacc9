"""Create the sample data sets: folders of freely usable photos, one sub-folder per class."""

import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from gzip import BadGzipFile
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from deploy.errors import BadData, MissingPackage, WrongUse
from deploy.files import write, write_json
from deploy.system.error_messages import doing
from deploy.system.temporary_files import scratch
from deploy.untrusted_files import read_json
from retrain.data.download import Remote, fetch
from retrain.progress import Progress
from retrain.settings.cache import default_cache_dir

_MARKER = ".retrain-sample.json"
_BLOCK_BYTES = 1 << 20
_ARCHIVE_ERRORS = (tarfile.TarError, BadGzipFile, EOFError, zlib.error)


@dataclass(frozen=True)
class Sample:
    """A sample: its source, its license, and `fill`, which writes it into an empty folder."""

    name: str
    source: str
    terms: str
    fill: Callable[[Path, Progress], None]


def put(sample: Sample, folder: Path, progress: Progress) -> tuple[dict[str, int], bool]:
    """Write the sample to `folder`; return photos per class, and whether it was there already.

    The folder appears whole or not at all. Raises WrongUse if it holds anything else, and the
    errors of `fill`.
    """
    if folder.exists() and any(folder.iterdir()):
        if _read_marker(folder) != _marker(sample, folder):
            raise WrongUse(
                f"{folder}: not empty, and not the whole {sample.name} sample: "
                "name another folder, or remove this one first"
            )
        return _count(folder), True
    place = folder.resolve()
    if place == Path.cwd():
        raise WrongUse(f"{folder}: it would be replaced while you are in it: name one in it")
    place.parent.mkdir(parents=True, exist_ok=True)
    with scratch(place.parent) as temporary:
        unfinished = temporary / place.name
        unfinished.mkdir()
        sample.fill(unfinished, progress)
        write_json(unfinished / _MARKER, _marker(sample, unfinished))
        if place.exists():
            place.rmdir()  # empty; Windows renames onto nothing else
        unfinished.rename(place)
    return _count(folder), False


def _count(folder: Path) -> dict[str, int]:
    # File managers leave hidden files in any folder.
    photos = sorted(photo for photo in folder.glob("[!.]*/[!.]*") if photo.is_file())
    return dict(Counter(photo.parent.name for photo in photos))


def _marker(sample: Sample, folder: Path) -> dict[str, Any]:
    return {"schema": 1, "sample": sample.name, "photos": _count(folder)}


def _read_marker(folder: Path) -> Any:
    try:
        return read_json(folder / _MARKER)
    except BadData:
        return None


def unpack(archive: Path, folder: Path, members: int = 20_000, size: int = 1 << 30) -> None:
    """Unpack the single top folder of a .tgz file into `folder`, which is empty.

    Takes regular files and folders only, with this user's umask; at most `members` of them and
    `size` bytes in all, counted as they are written. Raises BadData that names the member.
    """
    name, left = "", size
    top: tuple[str, ...] = ()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for number, member in enumerate(tar, 1):
                name = member.name
                parts = PurePosixPath(name).parts
                top = top or parts[:1]
                if number > members:
                    raise tarfile.ExtractError(f"more than {members:,} members")
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise tarfile.ExtractError("neither a file nor a folder")
                # A backslash or colon may lead elsewhere on Windows.
                if name.startswith("/") or ".." in parts or set(name) & set("\\:\0"):
                    raise tarfile.ExtractError("may lead out of the folder")
                if parts[:1] != top:
                    raise tarfile.ExtractError("not inside the one top folder")
                target = folder.joinpath(*parts[1:])
                (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
                if member.isreg():
                    left = _copy(cast(IO[bytes], tar.extractfile(member)), target, left)
                if left < 0:
                    raise tarfile.ExtractError(f"more than {size:,} bytes in all")
    except (*_ARCHIVE_ERRORS, FileExistsError, NotADirectoryError) as error:
        raise BadData(
            f"{archive}: member {name!r}: {error}: delete this archive, then run this again"
        ) from error


def _copy(source: IO[bytes], target: Path, left: int) -> int:
    """Write at most `left` bytes to `target`; return how many remain, below 0 if too few."""
    with doing("write", target), target.open("xb") as stream:
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                break
            stream.write(block)
    return left


def download(remote: Remote, folder: Path, progress: Progress) -> None:
    """Unpack a .tgz file from the network into `folder`; it stays in the user's cache folder.

    Raises the errors of `fetch` and `unpack`.
    """
    unpack(fetch(remote, default_cache_dir() / "downloads", progress), folder)


def _solar_cells(folder: Path, _progress: Progress) -> None:
    """Copy the photos whose label is certain: defect probability 0 or 1."""
    try:
        data = resources.files("elpv_dataset") / "data"
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "the solar-cells sample needs elpv-dataset: pip install 'retrain-tflite[samples]'"
        ) from error
    classes = {0.0: "functional", 1.0: "defective"}
    for line in (data / "labels.csv").read_text("utf-8").splitlines():
        path, probability, _ = line.split()
        if label := classes.get(float(probability)):
            target = folder / label / PurePosixPath(path).name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((data / path).read_bytes())
    write(folder / "LICENSE.txt", _SOLAR_CELLS_LICENSE)


_SOLAR_CELLS_LICENSE = """\
Photos of solar cells, by C. Buerhop-Lutz, S. Deitsch, A. Maier, F. Gallwitz, S. Berger, B. Doll,
J. Hauch, C. Camus and C. J. Brabec, from https://github.com/zae-bayern/elpv-dataset
"A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery",
EU PVSEC 2018, https://doi.org/10.4229/35thEUPVSEC20182018-5CV.3.15

License: Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0)
https://creativecommons.org/licenses/by-nc-sa/4.0/

The photos are unchanged. Those of defect probability 0 are in functional/, those of
probability 1 are in defective/, and all others are left out.
"""

FLOWERS = Remote(
    url="http://download.tensorflow.org/example_images/flower_photos.tgz",
    size=228_813_984,
    # The digest that TensorFlow Datasets has for tf_flowers 3.0.1.
    sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
)
SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            name="solar-cells",
            source="https://github.com/zae-bayern/elpv-dataset",
            terms="CC BY-NC-SA 4.0 (not for commercial use)",
            fill=_solar_cells,
        ),
        Sample(
            name="flowers",
            source=FLOWERS.url,
            terms="CC BY 2.0",
            fill=partial(download, FLOWERS),
        ),
    )
}
