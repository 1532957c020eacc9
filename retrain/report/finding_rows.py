"""Show the photos of each finding, to tick those to set aside."""

from retrain.data.photo import Photo
from retrain.doctor.finding import Finding
from retrain.report.page_values import FindingRow
from retrain.report.photo_book import PhotoBook

_MIN_PHOTOS, _MAX_PHOTOS = 24, 60


def finding_row(finding: Finding, book: PhotoBook) -> FindingRow:
    """Return a finding with its photos; as many are shown as are suggested, within bounds."""
    photos = [Photo(photo.path, photo.label, b"") for photo in finding.photos]
    shown_together: list[Photo] = []
    for member, photo in zip(finding.photos, photos, strict=True):
        shown_together.append(photo)
        if member.other:
            shown_together.append(Photo(member.other, "", b""))
    has_others = len(shown_together) > len(photos)
    title = finding.title + ", each photo before its counterpart" * has_others
    count = min(_MAX_PHOTOS, max(_MIN_PHOTOS, finding.suggested))
    rows = []
    for number, (member, photo) in enumerate(zip(finding.photos, photos, strict=True)):
        if number < count:
            is_suggested = number < finding.suggested
            rows.append((book.show(photo), book.name(member.path), member.reason, is_suggested))
    return FindingRow(
        finding, tuple(rows), book.gallery(title, shown_together), len(photos) - len(rows)
    )
