"""Show the facts of the photo files, and the photos behind each."""

from collections.abc import Sequence

from deploy.system.counts import with_noun
from retrain.data.photo import Photo, shown
from retrain.report import photo_facts
from retrain.report.page_values import Count
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_facts import PhotoFacts
from retrain.report.run_inputs import RunInputs


def fact_rows(inputs: RunInputs, book: PhotoBook) -> tuple[tuple[str, str, Count | None], ...]:
    """Return the facts of the files in words, and of copies, each with the photos behind it."""
    measured = photo_facts.measure([photo for photo, _ in inputs.manifest])
    return (*_files(measured, book), *_copies(inputs, book))


def _files(measured: PhotoFacts, book: PhotoBook) -> tuple[tuple[str, str, Count | None], ...]:
    files = measured.files
    if not files:
        return (("files", "no photo can be opened any more", None),)

    def row(name: str, text: str, photos: Sequence[Photo]) -> tuple[str, str, Count]:
        return name, text, Count(len(photos), book.gallery(f"Photos: {name}, {text}", photos))

    opened = f"{len(files):,} of {measured.total:,} photos, whose formats and sizes these are"
    few = max(1, min(12, len(files) // 10))
    by_bytes = sorted(files, key=lambda file: file.bytes)
    photos, sizes = [file.photo for file in files], [file.photo for file in by_bytes]
    middle, heavy = files[len(files) // 2], by_bytes[len(files) // 2]
    return (
        *([("opened", opened, None)] if len(files) < measured.total else []),
        *(row("format", name, members) for name, members in measured.formats.items()),
        row("smallest", f"{files[0].width} x {files[0].height} pixels", photos[:few]),
        ("median", f"{middle.width} x {middle.height} pixels", None),
        row("largest", f"{files[-1].width} x {files[-1].height} pixels", photos[::-1][:few]),
        row("smallest file", _kilobytes(by_bytes[0].bytes), sizes[:few]),
        ("median file", _kilobytes(heavy.bytes), None),
        row("largest file", _kilobytes(by_bytes[-1].bytes), sizes[::-1][:few]),
    )


def _copies(inputs: RunInputs, book: PhotoBook) -> tuple[tuple[str, str, Count | None], ...]:
    """Return the fact of copies across splits, if they were looked for."""
    if "copies_across_splits" not in inputs.metrics.values:
        return ()
    by_path = {shown(photo.path): photo for photo, _ in inputs.manifest}
    pairs = [pair.texts("paths") for pair in inputs.metrics.objects("copies_across_splits")]
    photos = [by_path[path] for pair in pairs for path in pair if path in by_path]
    text = f"{with_noun(len(pairs), 'pair', 'looks/look') if pairs else 'no pairs look'} the same"
    gallery = book.gallery("Photos that look the same in two splits, in pairs", photos)
    return (("copies across splits", text, Count(len(photos), gallery) if photos else None),)


def _kilobytes(count: int) -> str:
    return f"{count / 1000:,.0f} kB"
