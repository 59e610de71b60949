"""A file on its way to the server: read piece by piece, counted, and stopped when the server has heard enough.

A server that refuses an upload (too large, wrong type) says so while the body is still being sent. httpx sends the
whole body before it looks at the answer; so each piece is read only while the connection is silent. This works for
plain connections; under TLS the socket also speaks for itself, and the answer is found after the next failed write.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import httpcore


class Upload:
    """A binary file as httpx reads it for a multipart body: ``read``, and ``tell`` and ``seek`` for its length."""

    def __init__(self, file: BinaryIO, sent: Callable[[int], None]) -> None:
        """``sent`` hears how many bytes have been handed over so far."""
        self._file = file
        self._size_bytes = _remaining_bytes(file)
        self._sent = sent
        self._sent_bytes = 0
        self._start = None if self._size_bytes is None else file.tell()
        self._connection: Any = None
        self._has_connected = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's ``trace`` extension: it tells which connection the request travels on."""
        if event == "connection.connect_tcp.complete":
            self._connection = info["return_value"]
            self._has_connected = True
        elif event.startswith(("connection.start_tls", "proxy_stream", "http2.")):
            self._connection = None

    def read(self, size: int) -> bytes:
        """The next piece.

        Raises `httpcore.WriteError`, on which httpcore turns to the answer, when there is one; `OSError` when the file
        has become shorter than it was.
        """
        if self._connection is not None and self._connection.get_extra_info("is_readable"):
            raise httpcore.WriteError("the server has answered already")
        piece = self._file.read(size if self._size_bytes is None else min(size, self._size_bytes - self._sent_bytes))
        if not piece and self._size_bytes is not None and self._sent_bytes < self._size_bytes:
            raise OSError("the file became shorter while it was being sent")
        self._sent_bytes += len(piece)
        self._sent(self._sent_bytes)
        return piece

    def rewind(self) -> bool:
        """Go back to the beginning, if the server was reached and the file can be read again; whether that is so."""
        if self._start is None or not self._has_connected:
            return False
        self._file.seek(self._start)
        self._sent_bytes = 0
        self._connection, self._has_connected = None, False
        return True

    def tell(self) -> int:
        """Where the next piece starts, from the first byte that is sent."""
        return self._sent_bytes

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The length of the upload, when asked for its end. Nothing moves: an upload is read once."""
        if self._size_bytes is None:
            raise io.UnsupportedOperation("the length of a pipe is not known")
        return self._size_bytes if whence == os.SEEK_END else offset


def _remaining_bytes(file: BinaryIO) -> int | None:
    # Asking a pipe's descriptor for its size gives 0, so a file must be seekable to have one.
    try:
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
    except (AttributeError, OSError):
        return None
    return end - start
