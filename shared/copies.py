"""Copies in this machine's temporary folder, none of which outlives its process for long.

A process that is killed removes nothing. So each copy is locked (flock(2)) while it is in use, which ends with the
process, whatever ends it; and whoever makes the next copy removes those of ours that nobody has locked.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_NAME = "ingest-copy-"


@contextmanager
def new() -> Iterator[tuple[Path, IO[bytes]]]:
    """An empty file to be filled, and its path; it is gone when the block ends."""
    for path in Path(tempfile.gettempdir()).glob(f"{_NAME}*"):
        with suppress(FileNotFoundError):  # somebody else was faster
            _remove_abandoned(path)
    handle, unlocked = tempfile.mkstemp(prefix=f".{_NAME}")  # by this name nobody takes it for abandoned yet
    with os.fdopen(handle, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path = Path(unlocked).rename(Path(unlocked).with_name(Path(unlocked).name[1:]))
        try:
            yield path, file
        finally:
            path.unlink()


def _remove_abandoned(path: Path) -> None:
    known = path.lstat()
    if known.st_uid != os.getuid() or not stat.S_ISREG(known.st_mode):
        return
    with path.open("rb") as file, suppress(BlockingIOError):  # it is in use
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
