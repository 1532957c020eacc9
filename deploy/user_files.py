"""Know the files and folders that systems and photo programs put among a user's photos."""

import re

_EXACT = {
    "a Synology NAS": (
        "@eaDir",
        "#recycle",
        "#snapshot",
        "@SynoEAStream",
        "@SynoResource",
        "@tmp",
        "@sharesnap",
    ),
    "a QNAP NAS": (".@__thumb", "@__thumb", "@Recycle", "@Recently-Snapshot", ".@upload_cache"),
    "a NAS": ("~snapshot", ".snapshot", ".recycle", ".zfs", ".wdmc"),
    "Nextcloud": ("files_trashbin", "files_versions"),
    "Windows": (
        "$RECYCLE.BIN",
        "RECYCLER",
        "System Volume Information",
        "$WinREAgent",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    ),
    "macOS": (
        "__MACOSX",
        ".AppleDouble",
        ".DocumentRevisions-V100",
        ".Spotlight-V100",
        ".TemporaryItems",
        ".Trashes",
        ".fseventsd",
        "Network Trash Folder",
        "Temporary Items",
        "TheVolumeSettingsFolder",
        "Photo Booth Library",
        "iPhoto Library",
        "iPod Photo Cache",
    ),
    "Linux": ("lost+found",),
    "Android": (".thumbnails", "LOST.DIR"),
    "a camera": ("AVF_INFO", "CANONMSC", "EOSMISC", "NKSC_PARAM", "THMBNL"),
    "Picasa": (".picasaoriginals",),
    "digiKam": (".dtrash", ".digikam"),
    "darktable": ("darktable_exported",),
    "Capture One": ("CaptureOne",),
    "ACDSee": ("[Originals]",),
    "Adobe Bridge": (".BridgeCache", ".BridgeCacheT"),
    "Piwigo": ("pwg_high", "pwg_representative"),
}
_PATTERNS = {
    "a Synology NAS": r"SYNO(?:PHOTO|FILE|VIDEO)_\w+\.\w+|.*@Syno(?:EAStream|Resource)",
    "Windows": r"found\.\d{3}",
    "macOS": r"\._.*",
    "Linux": r"\.Trash(?:-\d+)?",
    "Android": r"\.trashed-.*",
    "a camera": r".*\.thm",
    "Lightroom": r".*\.(?:lrdata|lrcat-data|lrlibrary)",
    "Apple Photos": r".*\.(?:photoslibrary|photolibrary|migratedphotolibrary|aplibrary)",
    "Capture One": r".*\.(?:cocatalog|cosessiondb)",
}
# All are names that no user gives to a class: "Originals", "Trash", "Recycled" and "thumbnails",
# which programs use as well, are not among them.
_BY_NAME = {name.casefold(): owner for owner, names in _EXACT.items() for name in names}
_OWNERS = tuple(_PATTERNS)
_PATTERN = re.compile("|".join(f"({text})" for text in _PATTERNS.values()), re.IGNORECASE)


def owner_of(name: str) -> str | None:
    """Return what puts files or folders of this name among photos, such as "Windows", or None."""
    if owner := _BY_NAME.get(name.casefold()):
        return owner
    match = _PATTERN.fullmatch(name)
    return _OWNERS[match.lastindex - 1] if match and match.lastindex else None
