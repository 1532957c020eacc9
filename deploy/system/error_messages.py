"""Explain an OSError: what could not be done, to which path, and the remedy."""

import errno
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SPACE = "free some space there, or name a place on another disk"
_PERMISSION = "change its permissions or its owner, or name another place"
_TEMPORARY = "free some space there, or set TMPDIR to a folder that can be written"
_REMEDIES = {
    "ENOSPC": _SPACE,
    "EDQUOT": _SPACE,
    "EFBIG": "name a place that takes larger files, or raise the limit (ulimit -f)",
    "EROFS": "this disk can only be read: name a place on another one",
    "EACCES": _PERMISSION,
    "EPERM": _PERMISSION,
    "ETXTBSY": "it is a running program: end it, or name another place",
    "EBUSY": "another program uses it: end that, then run this again",
    "ENOLCK": "this file system gives no locks: name a folder on a local disk",
    "EMFILE": "allow more open files (ulimit -n 4096), then run this again",
    "ENFILE": "the system has too many open files: end other programs",
    "ENOMEM": "end other programs, then run this again",
    "ENAMETOOLONG": "choose a shorter name",
    "EILSEQ": "choose a name that this disk allows",
    "EINVAL": "choose a name that this disk allows, or another place",
    "ENOENT": "check the name",
    "ENOTDIR": "a part of this path is a file where a folder is needed: name another place",
    "EISDIR": "name a file",
    "EEXIST": "move what is there away, or name another place",
    "ENOTEMPTY": "move what is there away, or name another place",
    "ELOOP": "links lead in a circle: remove one of them",
    "EXDEV": "name a place on the same disk",
    "EIO": "the disk or the network failed: check it, then run this again",
    "ENXIO": "name a file, not a device",
    "ENODEV": "name a file, not a device",
    "ESTALE": "the network share has changed: mount it again, then run this again",
    "ETIMEDOUT": "check the network, then run this again",
    "EHOSTDOWN": "check the network, then run this again",
    "ENOTCONN": "mount the network share again, then run this again",
}
_WRITING = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ETXTBSY", "EEXIST", "ENOTEMPTY")
_CALLS = {
    "mkdir": "make the folder",
    "mkdtemp": "make the folder",
    "touch": "write",
    "write_bytes": "write",
    "write_text": "write",
    "_mkstemp_inner": "write",
    "rename": "rename",
    "replace": "replace",
    "rmdir": "remove",
    "unlink": "remove",
}
"""What functions of the standard library do, by their names in a traceback."""


@contextmanager
def doing(action: str, path: Path | str) -> Iterator[None]:
    """Put `path` into an OSError of the block that names no path, and note the failed `action`.

    The action is a verb, such as "write"; it is noted only if the error is about `path`, which may
    be a URL.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        if error.filename == str(path) and not hasattr(error, "__notes__"):
            error.add_note(action)
        raise


def explain(error: OSError) -> str:
    """Return one sentence: what could not be done, to which path, why, and the remedy."""
    name = errno.errorcode.get(error.errno or 0, "")
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(name, "")
    if "No usable temporary directory" in reason:  # of tempfile, with the folders that it tried
        return f"{reason}: {_TEMPORARY}"
    usual = "lock" if name == "ENOLCK" else "write" if name in _WRITING else "read"
    action, path = _call(error)
    if name in _WRITING and _is_temporary(path):
        remedy = _TEMPORARY
    action = next(iter(getattr(error, "__notes__", ())), action) or usual
    subject = f"cannot {action} {path}" if path else "the system refused"
    return ": ".join(filter(None, (subject, reason, remedy)))


def _is_temporary(path: str) -> bool:
    """Return whether a path is the system's folder for temporary files, or in one of ours there."""
    place, system = Path(path), Path(tempfile.gettempdir())
    if not place.is_relative_to(system):
        return False
    names = place.relative_to(system).parts
    return not names or names[0].startswith("retrain-")


def _call(error: OSError) -> tuple[str, str]:
    """Return action and path of the failed call, each empty if unknown."""
    action = path = ""
    if error.filename is not None:
        path = error.filename if isinstance(error.filename, str) else repr(error.filename)
    # An error after a file was opened has no path; the call of pathlib in the traceback has it.
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        action = action or _CALLS.get(frame.f_code.co_name, "")
        if isinstance(place := frame.f_locals.get("self"), Path):
            if frame.f_code.co_name == "open" and not {*"wax+"}.isdisjoint(frame.f_locals["mode"]):
                action = action or "write"
            path = path or str(place)
            break
    return action, path
