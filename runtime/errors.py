"""What can go wrong before a service serves: one type, whose text is for a person.

SetupError     keys, settings, locks, endpoints: what happened, and what to do about it
"""

from __future__ import annotations

import errno
from pathlib import Path

_ADVICE = {
    errno.ENOTDIR: "Give the path of a directory, or of one that can be made.",
    errno.EEXIST: "Give the path of a directory, or of one that can be made.",
    errno.ENOENT: "Make the directory that it is to stand in, or give another.",
    errno.EACCES: "Let this user write there, or give another directory.",
    errno.EPERM: "Let this user write there, or give another directory.",
    errno.EROFS: "Give a directory on a file system that can be written.",
    errno.ENOSPC: "Free space there, or give a directory on another disk.",
    errno.EDQUOT: "Free space there, or give a directory on another disk.",
    errno.ENAMETOOLONG: "Give a shorter path.",
}


class SetupError(Exception):
    """A service can't start. ``str()`` is one sentence on what happened and one on what to do."""


def cant_use(directory: Path, error: OSError) -> SetupError:
    """Say that ``directory`` can't be used, why, and what helps against that."""
    advice = _ADVICE.get(error.errno or 0, "Give another directory.")
    reason = "Not a directory" if error.errno == errno.EEXIST else error.strerror
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(directory) else ""
    return SetupError(f"Can't use {directory}: {reason}{where}. {advice}")
