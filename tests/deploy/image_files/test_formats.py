"""What a file is, by content and by name: read, or named with the remedy."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle_texts import REQUIREMENTS
from deploy.errors import BadData
from deploy.image import open_image
from deploy.image_files import formats
from deploy.image_files.formats import HEAD, claims_photo, sniff, why_not_photo
from tests.helpers.deploy_fixtures import encoded
from tests.helpers.image_fixtures import smooth

CONVERT = "convert it to JPEG or PNG"
DEVELOP = "develop it to JPEG, PNG or TIFF"
EXPORT = "export it as JPEG or PNG"


def box(brand: bytes, *compatible: bytes) -> bytes:
    """Return the first box of an AVIF, HEIC, raw or video file."""
    body = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(40)


@pytest.mark.parametrize(
    ("content", "name", "remedy"),
    [
        (box(b"crx ", b"crx "), "camera raw", DEVELOP),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "camera raw", DEVELOP),
        (b"IIRO\x08\0\0\0", "camera raw", DEVELOP),
        (b"IIU\0\x18\0\0\0", "camera raw", DEVELOP),
        (b"FUJIFILMCCD-RAW 0201", "camera raw", DEVELOP),
        (b"FOVb\0\0\x03\0", "camera raw", DEVELOP),
        (b"II+\0\x08\0\0\0" + bytes(8), "BigTIFF", "convert it to TIFF or PNG"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL", CONVERT),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL", CONVERT),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000", CONVERT),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000", CONVERT),
        (b"DDS |\0\0\0\x07\x10\x08", "DDS", CONVERT),
        (b"8BPS\0\x01" + bytes(20), "Photoshop", CONVERT),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0", "icon", CONVERT),
        (b"P6\n640 480\n255\n" + bytes(20), "PPM, PGM or PBM", CONVERT),
        (b"P5 # a comment\n64 48\n255\n", "PPM, PGM or PBM", CONVERT),
        (b"\x0a\x05\x01\x08" + bytes(20), "PCX", CONVERT),
        (b"qoif\0\0\0\x10", "QOI", CONVERT),
        (b"v/1\x01\x02\0\0\0", "OpenEXR", CONVERT),
        (b"%PDF-1.7\n", "PDF", EXPORT),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS", EXPORT),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG", EXPORT),
        (b"<?xml version='1.0'?>\n<!-- a drawing -->\n<svg width='1'>", "SVG", EXPORT),
    ],
)
def test_an_image_by_content_is_named_whatever_its_name(
    content: bytes, name: str, remedy: str
) -> None:
    assert sniff(content) == name
    assert claims_photo(Path("no-suffix"), content)
    with pytest.raises(BadData, match=f"^{name} file: .*{remedy}$"):
        open_image(content)


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        *((raw, "camera raw") for raw in ("NEF", "cr3", "ARW", "dng", "PEF", "srw", "RAF", "rw2")),
        *(("tga", "TGA"), ("jxl", "JPEG XL"), ("svgz", "SVG"), ("j2k", "JPEG 2000")),
        *(("psb", "Photoshop"), ("fit", None), ("txt", None), ("mov", None), ("mp4", None)),
    ],
)
def test_an_image_by_name_is_named_where_its_content_says_nothing(
    suffix: str, name: str | None
) -> None:
    path, content = Path(f"a.b/photo.{suffix}"), b"\x12\x34" * 20
    assert claims_photo(path, content) == bool(name)
    expected = f"{name} file: " if name else "not a photo: its content is none of "
    assert (why_not_photo(content, path) or "").startswith(expected)


@pytest.mark.parametrize("brand", [b"qt  ", b"mp42", b"isom", b"M4V ", b"3gp4"])
def test_a_video_beside_photos_is_no_image(brand: bytes) -> None:
    assert not claims_photo(Path("live.mov"), box(brand))


@pytest.mark.parametrize(
    "content", [b"P6 is what the printer calls it", b"\0\0\x02\0" + bytes(12), b"<html><svg>"]
)
def test_what_only_looks_like_an_image_is_none(content: bytes) -> None:
    assert sniff(content) is None


@pytest.mark.parametrize(
    ("content", "name"),
    [
        *((box(brand), "HEIC") for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim")),
        *((box(brand, b"mif1", b"heic"), "HEIC") for brand in (b"mif1", b"msf1", b"heis")),
        *((box(brand, b"mif1", b"avif"), "AVIF") for brand in (b"mif1", b"avif", b"avis")),
        (box(b"mif1", b"heic")[:16], "HEIC"),
    ],
)
def test_the_brands_of_a_phone_name_the_coding(content: bytes, name: str) -> None:
    assert sniff(content[:HEAD]) == name


def test_formats_that_need_a_package_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "can_load", lambda module: not module)
    with pytest.raises(BadData) as raised:
        open_image(box(b"hevc", b"mif1", b"heic"))
    assert str(raised.value).startswith(
        "HEIC file: pip install 'retrain-tflite[heic]' (on a device"
    )
    assert "pip install pillow-heif" in str(raised.value)
    assert "pillow-heif" in REQUIREMENTS
    with pytest.raises(BadData, match=r"^AVIF file: .* pip install 'pillow>=11.3', or convert"):
        open_image(box(b"avif", b"mif1"))


def test_a_phones_photo_of_several_pictures_gives_the_first() -> None:
    frames = [smooth(64, 48), Image.new("RGB", (64, 48))]
    photo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    alone = encoded(frames[0], "JPEG", quality=95)
    assert sniff(photo) == "JPEG"
    assert np.array_equal(np.asarray(open_image(photo)), np.asarray(open_image(alone)))


# TIFF


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "CMYK"])
def test_the_colours_of_a_tiff_are_those_of_the_picture(mode: str, compression: str | None) -> None:
    picture = smooth(40, 30).convert(mode)
    expected = open_image(encoded(picture.convert("RGB"), "PNG"))
    opened = open_image(encoded(picture, "TIFF", compression=compression))
    assert np.array_equal(np.asarray(opened), np.asarray(expected))


def test_a_tiff_gives_its_first_page_turned_as_it_says() -> None:
    first, second = smooth(40, 30), Image.new("RGB", (9, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(first, "TIFF", exif=exif, save_all=True, append_images=[second])
    expected = first.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(open_image(photo)), np.asarray(expected))


def test_16_bit_grey_of_a_tiff_is_rescaled_in_either_byte_order() -> None:
    levels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    big = Image.frombytes("I;16B", (32, 32), levels.astype(">u2").tobytes())
    for image in (Image.fromarray(levels), big):
        opened = np.asarray(open_image(encoded(image, "TIFF")))
        assert np.array_equal(opened[..., 0], np.rint(levels / 257))


def test_grey_has_one_plane_whatever_a_tiff_says_of_planes() -> None:
    grey = Image.fromarray(np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10))
    opened = open_image(tagged({284: 2}, grey))
    assert np.array_equal(np.asarray(opened), np.asarray(open_image(encoded(grey, "TIFF"))))


def tagged(tags: dict[int, int], picture: Image.Image | None = None) -> bytes:
    """Return a TIFF file of which some tags, of one whole number, are changed or added."""
    photo = encoded(picture or smooth(40, 30), "TIFF")
    start = struct.unpack("<I", photo[4:8])[0]
    end = start + 2 + 12 * struct.unpack_from("<H", photo, start)[0]
    entries = [photo[at : at + 12] for at in range(start + 2, end, 12)]
    by_tag = {struct.unpack("<H", entry[:2])[0]: entry for entry in entries}
    by_tag |= {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    directory = struct.pack("<H", len(by_tag)) + b"".join(by_tag[tag] for tag in sorted(by_tag))
    return photo[:4] + struct.pack("<I", len(photo)) + photo[8:] + directory + bytes(4)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tagged({254: 1}), f"camera raw file: {DEVELOP} .*thumbnail"),
        (tagged({50706: 0x104}), f"camera raw file: {DEVELOP} .*thumbnail"),
        (tagged({262: 32803}), f"camera raw file: {DEVELOP} .*thumbnail"),
        (tagged({262: 8}), f"unsupported: a TIFF of photometric interpretation 8: {CONVERT}"),
        (tagged({259: 34712}), f"unsupported: a TIFF of compression 34712: {CONVERT}"),
        (tagged({262: 6}), f"unsupported: a TIFF of YCbCr that is not JPEG inside: {CONVERT}"),
        (
            tagged({258: 16, 284: 2}),
            "unsupported: a TIFF of 16 bits with a plane for each channel: ",
        ),
        (
            tagged({284: 2}, smooth(9, 9).convert("LA")),
            "unsupported: a TIFF of a rare kind",
        ),
        (tagged({277: 60000}), f"unsupported: a TIFF of 60000 channels: {CONVERT}"),
        (
            tagged({322: 65536, 323: 65536}),
            "unsupported: a TIFF with tiles of more than 16,000,000",
        ),
        (tagged({258: 12}, smooth(9, 9).convert("L")), "unsupported: a TIFF of 12 bits: "),
        (encoded(smooth(9, 9).convert("F"), "TIFF"), "unsupported: a TIFF of signed or floating"),
        (encoded(smooth(9, 9).convert("I"), "TIFF"), "unsupported: a TIFF of signed or floating"),
        (tagged({256: 0}), "the file is damaged: it has no width or height"),
        (tagged({256: 12000, 257: 10000}), "12000x10000 pixels: more than 110,000,000"),
        (b"II*\0" + bytes(60), "the file is damaged: "),
        (b"MM\0*\xff\xff\xff\xff", "the file is damaged: "),
    ],
)
def test_a_tiff_that_would_give_other_colours_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadData, match=f"^{reason}"):
        open_image(content)


def test_the_thumbnail_of_a_raw_file_is_no_photo_by_its_name_either(tmp_path: Path) -> None:
    path = tmp_path / "DSC_0001.NEF"
    path.write_bytes(encoded(smooth(16, 12), "TIFF"))
    with path.open("rb") as stream, pytest.raises(BadData, match=f"^camera raw file: {DEVELOP}$"):
        open_image(stream)
    assert why_not_photo(path.read_bytes()[:HEAD], path.with_suffix(".tif")) is None


# Kinds of read formats that are not read


def bitmap(compression: int, bits: int, header: int = 40) -> bytes:
    about = struct.pack("<IiiHHIIiiII", header, 8, 8, 1, bits, compression, 256, 0, 0, 0, 0)
    about += bytes(header - 40) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(about) + 256, 0, 0, 14 + len(about)) + about


@pytest.mark.parametrize(
    "content",
    [
        *(bitmap(compression, 8) for compression in (1, 2, 4, 5, 6, 11)),
        *(bitmap(0, bits) for bits in (0, 2, 64)),
        bitmap(0, 24, 48),
    ],
)
def test_a_bitmap_of_a_rare_kind_is_not_called_damaged(content: bytes) -> None:
    with pytest.raises(BadData, match=f"^unsupported: a BMP of .*: {CONVERT}$"):
        open_image(content + bytes(256))


@pytest.mark.parametrize(
    ("marker", "bits", "kind"),
    [
        (0xC3, 8, "a lossless JPEG"),
        (0xC5, 8, "a hierarchical JPEG"),
        (0xF7, 8, "JPEG-LS"),
        (0xC1, 12, "a JPEG of 12 bits"),
    ],
)
def test_a_jpeg_of_a_rare_kind_is_not_called_damaged(marker: int, bits: int, kind: str) -> None:
    photo = bytearray(encoded(smooth(16, 16), "JPEG"))
    at = photo.index(b"\xff\xc0")
    photo[at + 1], photo[at + 4] = marker, bits
    with pytest.raises(BadData, match=f"^unsupported: {kind}: {CONVERT}$"):
        open_image(bytes(photo))


# HEIC, where its package is installed


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"mif1"])
def test_a_heic_photo_is_read_and_upright(brand: bytes) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    heif.from_pillow(smooth(64, 48)).save(stream, quality=95, chroma=444, exif=exif.tobytes())
    photo = stream.getvalue().replace(b"ftypheic", b"ftyp" + brand, 1)
    opened = open_image(photo)
    expected = smooth(64, 48).transpose(Image.Transpose.ROTATE_270)
    assert opened.size == expected.size
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(expected)).mean() < 4
    with pytest.raises(BadData, match="the file is damaged: "):
        open_image(photo[: len(photo) // 2])
