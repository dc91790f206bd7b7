"""The user's cache folder, and files in it that only this user can read and that may be lost at any time."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

MOST_BYTES = 1 << 20
"""A larger file was not written here and is not read."""


def cache_directory() -> Path:
    """$NPUSIM_CACHE, or else npusim in the user's cache directory."""
    if chosen := os.environ.get("NPUSIM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npusim"


def read_kept(path: Path) -> bytes | None:
    """What `keep` wrote to `path`; None where there is nothing, where it is damaged, or where others may have written
    it."""
    try:
        if not _is_ours_alone(path.parent) or not _is_ours_alone(path):
            return None
        with open(path, "rb") as file:
            digest, _, data = file.read(MOST_BYTES).partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data) else None


def keep(path: Path, data: bytes) -> None:
    """Writes `data` to `path` with its digest, whole or not at all; processes that write at once do not mix. Does
    nothing where it cannot be written, or where others could write."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not _is_private(path.parent):
            return
        partial.unlink(missing_ok=True)  # left by a killed process that had the same number
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_digest(data) + b"\n" + data)
        os.replace(partial, path)
    except OSError:
        return


def _is_private(folder: Path) -> bool:
    """Whether this user alone may write to `folder`, which is made if it is not there. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _is_ours_alone(folder)


def _is_ours_alone(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def private_folder(name: str) -> Path | None:
    """The folder `name` in the cache folder, where this user alone may write; None where there can be none."""
    folder = cache_directory() / name
    try:
        return folder if _is_private(folder) else None
    except OSError:
        return None
