"""Where bytes are kept: uploads and what the stages hand on, in any file system that fsspec knows.

Everything of a document lies in a folder of its own, named by its id, so that removing a document is one call. Names
given by strangers never become part of a path.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from shared import copies
from shared.config import Settings

#: A file that is fetched comes in pieces of this size.
PIECE_BYTES = 1024 * 1024


class Storage:
    """The files of all documents below one fsspec URL."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = url_to_fs(url)

    @classmethod
    def from_settings(cls, settings: Settings) -> Storage:
        """The storage that ``INGEST_STORAGE_URL`` names."""
        return cls(settings.storage_url)

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        """A new file, seen by others only when the block ends, and whole; gone when the block raises.

        Two that write the same path at the same time don't disturb each other: the last to finish is what stays.
        """
        full = self._full(path)
        self._fs.makedirs(full.rsplit("/", 1)[0], exist_ok=True)
        writing = self._writing_locally if isinstance(self._fs, LocalFileSystem) else self._writing_remotely
        with writing(full) as file:
            yield file

    @contextmanager
    def _writing_locally(self, full: str) -> Iterator[IO[bytes]]:
        part = Path(f"{full}.{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as file:
                yield file
            part.replace(full)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @contextmanager
    def _writing_remotely(self, full: str) -> Iterator[IO[bytes]]:
        # An object store shows a file when it is closed, and not before.
        file: Any = self._fs.open(full, "wb")
        try:
            yield file
        except BaseException:
            if isinstance(file, AbstractBufferedFile):
                file.discard()
                file.closed = True
            else:
                file.close()
                self._fs.rm_file(full)
            raise
        file.close()

    @contextmanager
    def reading(self, path: str) -> Iterator[IO[bytes]]:
        """An existing file. Raises `FileNotFoundError`."""
        with self._fs.open(self._full(path), "rb") as file:
            yield file

    @contextmanager
    def as_local_file(self, path: str, tick: Callable[[], object]) -> Iterator[Path]:
        """A path in this machine's file system with the bytes of ``path``: the file itself, or a copy for the block.

        ``tick`` is called with each piece of a copy, which may take minutes, and ends it if it raises.
        """
        full = self._full(path)
        if isinstance(self._fs, LocalFileSystem):
            yield Path(full)
            return
        with copies.new() as (local, copy):
            with self._fs.open(full, "rb") as remote:
                while piece := remote.read(PIECE_BYTES):
                    copy.write(piece)
                    tick()
            copy.flush()
            yield local

    def names(self, path: str) -> set[str]:
        """The names of what is in a folder; none when it is not there."""
        folder = self._full(path)
        self._fs.invalidate_cache(folder)  # others write, too
        try:
            return {name.rstrip("/").rsplit("/", 1)[-1] for name in self._fs.ls(folder, detail=False)}
        except FileNotFoundError:
            return set()

    def remove(self, path: str) -> None:
        """Remove a folder with everything in it, such as that of a document, named like it; nothing there is fine."""
        folder = self._full(path)
        if self._fs.exists(folder):
            self._fs.rm(folder, recursive=True)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"


def source_path(document_id: str) -> str:
    """The uploaded bytes."""
    return f"{document_id}/source"


def pages_path(document_id: str, first: int, token: str) -> str:
    """What parsing a range from page ``first`` hands on: JSON Lines, one `shared.documents.Page` a line.

    The fencing token is in the name, so two who parse the same range never write the same file.
    """
    return f"{pages_folder(document_id)}/{first:06d}.{token}.jsonl"


def provisional_path(document_id: str, first: int, token: str) -> str:
    """The chunks of such a range by itself: JSON Lines, offsets and indexes counted from the start of the range."""
    return f"{pages_folder(document_id)}/{first:06d}.{token}.chunks.jsonl"


def sections_path(document_id: str, token: str) -> str:
    """What a file without pages was converted to: JSON Lines, one `shared.documents.Page` a line.

    Whoever converts it has a token, as for a range.
    """
    return f"{pages_folder(document_id)}/sections.{token}.jsonl"


def pages_folder(document_id: str) -> str:
    """Where the ranges, and what they are read from, are until they are chunked and loaded."""
    return f"{document_id}/pages"


def text_path(document_id: str) -> str:
    """The text of the whole document in UTF-8, into which the offsets of chunks point (in characters)."""
    return f"{document_id}/text.txt"


def chunks_path(document_id: str) -> str:
    """What chunking hands on: JSON Lines, one `shared.documents.Chunk` a line."""
    return f"{document_id}/chunks.jsonl"
