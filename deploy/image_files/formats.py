"""Recognise image files by content and name; give a remedy for formats that are not read."""

import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.errors import BadData

HEAD = 1024
"""Bytes at the start of a file that show its format; fewer may not."""
_CONVERT = "convert it to JPEG or PNG"


@dataclass(frozen=True)
class Format:
    """A format of image files; `remedy` is for a format that is not read, or not on this machine.

    `signature` is a pattern of the file's first bytes. `module` is the module that must load to
    read the format.
    """

    name: str
    signature: bytes | None
    suffixes: str = ""
    is_read: bool = False
    module: str = ""
    remedy: str = _CONVERT


_HEIC_REMEDY = (
    f"pip install 'retrain-tflite[heic]' (on a device: pip install pillow-heif), or {_CONVERT}"
)
_AVIF_REMEDY = f"this Pillow cannot read it: pip install 'pillow>=11.3', or {_CONVERT}"
_RAW = "camera raw"
_RAW_SUFFIXES = (
    "3fr arw bay cap cr2 cr3 crw dcr dcs dng eip erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw "
    "orf pef ptx pxn r3d raf rw2 rwl sr2 srf srw x3f"
)
_RAW_REMEDY = "develop it to JPEG, PNG or TIFF"
_DRAWING_REMEDY = "a drawing or document: export it as JPEG or PNG"

_FORMATS = (
    Format("JPEG", rb"\xff\xd8\xff", "jpg jpeg jpe jfif jif mpo", is_read=True),
    Format("PNG", rb"\x89PNG\r\n\x1a\n", "png apng", is_read=True),
    Format("WEBP", rb"RIFF.{4}WEBP", "webp", is_read=True),
    Format("GIF", rb"GIF8[79]a", "gif", is_read=True),
    # A text may begin with "BM" too; bytes 6 to 10 of a bitmap are zero.
    Format("BMP", rb"BM.{4}\0{4}", "bmp dib", is_read=True),
    # A camera raw file may be a TIFF too, so this comes before TIFF.
    Format(
        _RAW,
        rb"II\*\0.{4}(?:CR\x02|IIII)|II(?:U\0|RO|RS)|MMOR|\0MRM|FOVb|FUJIFILM|II\x1a\0\0\0HEAP"
        rb"|.{4}ftypcrx ",
        _RAW_SUFFIXES,
        remedy=_RAW_REMEDY,
    ),
    Format("TIFF", rb"II\*\0|MM\0\*", "tif tiff", is_read=True),
    Format("BigTIFF", rb"II\+\0\x08|MM\0\+\0\x08", "tf8 btf", remedy="convert it to TIFF or PNG"),
    # The brand of the coding may follow a brand of the container.
    Format(
        "AVIF",
        rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{4}(?:.{4}){0,16}avi[fs])",
        "avif avifs",
        is_read=True,
        module="PIL._avif",
        remedy=_AVIF_REMEDY,
    ),
    Format(
        "HEIC",
        rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif[12]|msf1|miaf|avci|avcs|jpeg|jpgs|vvic|vvis|j2ki)",
        "heic heics heif heifs hif avci",
        is_read=True,
        module="pillow_heif",
        remedy=_HEIC_REMEDY,
    ),
    Format("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    Format(
        "JPEG 2000",
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        "jp2 j2k j2c jpc jpf jpx jpm jph jhc",
    ),
    Format("JPEG XR", rb"II\xbc[\0\x01]", "jxr wdp hdp"),
    Format("JPEG-LS", None, "jls"),
    Format("TGA", None, "tga icb vda vst"),
    Format("DDS", rb"DDS \x7c", "dds"),
    Format("Photoshop", rb"8BPS\0[\x01\x02]", "psd psb"),
    Format("GIMP", rb"gimp xcf ", "xcf"),
    Format("Krita or OpenRaster", None, "kra ora"),
    Format("icon", rb"\0\0[\x01\x02]\0[\x01-\xff]\0.{3}\0|icns", "ico cur icns"),
    Format(
        "PPM, PGM or PBM",
        rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s|P7\n(?:#|WIDTH)|P[Ff]\n\d+ \d+\n",
        "ppm pgm pbm pnm pam pfm",
    ),
    Format("PCX", rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08].{8}|\xb1\x68\xde\x3a", "pcx dcx"),
    Format("OpenEXR", rb"v/1\x01", "exr"),
    Format("Radiance HDR", rb"#\?(?:RADIANCE|RGBE)\n", "hdr"),
    Format("DPX or Cineon", rb"SDPX|XPDS|\x80\x2a\x5f\xd7", "dpx cin"),
    Format("QOI", rb"qoif", "qoi"),
    Format("FITS", rb"SIMPLE  =", "fits fts"),
    Format("DICOM", rb".{128}DICM", "dcm dicom"),
    Format("SGI", rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]", "sgi rgba"),
    Format("Sun raster", rb"\x59\xa6\x6a\x95", "ras"),
    Format("X bitmap or pixmap", rb"/\* XPM \*/|#define \w+_width \d", "xbm xpm xwd"),
    Format("MNG or JNG", rb"\x8aMNG\r\n|\x8bJNG\r\n", "mng jng"),
    Format("BPG or FLIF", rb"BPG\xfb|FLIF", "bpg flif"),
    Format(
        "rare image",
        None,
        "blp fli flc fpx ftc gbr iff jb2 jbig2 ktx ktx2 lbm miff msp pcd pct pic pict psp wal wbmp",
    ),
    Format("DjVu", rb"AT&TFORM", "djvu djv", remedy=_DRAWING_REMEDY),
    Format("PDF", rb"%PDF-", "pdf", remedy=_DRAWING_REMEDY),
    Format(
        "EPS",
        rb"%!PS|\xc5\xd0\xd3\xc6",
        "eps epsf epsi ps ai",
        remedy=_DRAWING_REMEDY,
    ),
    Format(
        "SVG",
        rb"(?:\xef\xbb\xbf)?\s*<(?:svg|(?:\?xml|!--|!DOCTYPE svg).*<(?:svg:)?svg)[\s>]",
        "svg svgz",
        remedy=_DRAWING_REMEDY,
    ),
    Format(
        "Windows metafile",
        rb"\xd7\xcd\xc6\x9a\0\0|\x01\0\0\0.{36} EMF",
        "wmf emf",
        remedy=_DRAWING_REMEDY,
    ),
)
CAMERA_RAW = f"{_RAW} file: {_RAW_REMEDY}"
_BY_NAME = {form.name: form for form in _FORMATS}
_BY_SUFFIX = {f".{suffix}": form for form in _FORMATS for suffix in form.suffixes.split()}
_SIGNATURES = [(re.compile(form.signature, re.DOTALL), form) for form in _FORMATS if form.signature]
FORMATS = tuple(form.name for form in _FORMATS if form.is_read)
"""The formats that are read; AVIF and HEIC need an installed decoder."""


def sniff(head: bytes) -> str | None:
    """Return the name of the format that the first bytes of a file show, or None.

    Formats that are not read are named too, for messages. Videos are not images.
    """
    return next((form.name for pattern, form in _SIGNATURES if pattern.match(head)), None)


def why_not_photo(head: bytes, path: Path | None = None) -> str | None:
    """Return why a file that starts with these bytes is not read as a photo, or None if it is.

    The name of `path` decides if the content does not: most camera raw files are also TIFF files
    of a thumbnail, and some formats have no signature.
    """
    if not head:
        return "the file is empty"
    by_content = _BY_NAME.get(sniff(head) or "")
    by_name = _BY_SUFFIX.get(path.suffix.lower()) if path else None
    form = by_content or by_name
    if by_content and by_name and (by_content.name, by_name.name) == ("TIFF", _RAW):
        form = by_name
    if form is None or (form.is_read and not by_content):
        return "not a photo: its content is none of " + ", ".join(FORMATS)
    if form.is_read and can_load(form.module):
        return None
    return f"{form.name} file: {form.remedy}"


def claims_photo(path: Path, head: bytes) -> bool:
    """Return whether a file has the first bytes or the name of an image."""
    return bool(sniff(head)) or path.suffix.lower() in _BY_SUFFIX


def unsupported(kind: str) -> BadData:
    """Return the error for a photo of a rare kind of a format that is read."""
    return BadData(f"unsupported: {kind}: {_CONVERT}")


@cache
def can_load(module: str) -> bool:
    """Return whether a module can be imported; True for the empty name."""
    try:
        return not module or bool(importlib.import_module(module))
    except ImportError:
        return False
