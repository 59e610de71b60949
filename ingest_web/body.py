"""The body of a request as it comes over a socket: piece by piece, each within a time, so that nobody holds a
connection with a byte a second. It knows gevent and gunicorn; whoever reads it knows neither.
"""

from __future__ import annotations

import io
import sys
from typing import IO, Any

import gevent
from gunicorn.http.errors import ParseException

from shared.errors import MalformedUpload, TooSlow

PIECE_BYTES = 64 * 1024


class PacedBody(io.RawIOBase):
    """Around a body. A piece of at most `PIECE_BYTES` that is not there within ``stall_seconds`` raises `TooSlow`."""

    def __init__(self, body: IO[bytes], stall_seconds: float) -> None:
        self._body = body
        self._stall_seconds = stall_seconds

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """The same as `read`, into a buffer; how many bytes that are."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, or what is left when that is less or ``size`` is negative.

        Raises `TooSlow`, `MalformedUpload` for a broken chunk of a chunked body, `OSError` when the client has gone.
        """
        left = sys.maxsize if size is None or size < 0 else size
        pieces: list[bytes] = []
        while left > 0:
            asked = min(left, PIECE_BYTES)
            pieces.append(self._piece(asked))
            left = left - asked if len(pieces[-1]) == asked else 0
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        late = TooSlow(f"{PIECE_BYTES} bytes of the body must come within {self._stall_seconds:g} s.")
        try:
            with gevent.Timeout(self._stall_seconds, late):
                return self._body.read(size)
        except ParseException as error:
            raise MalformedUpload("The body is not chunked as HTTP wants it.") from error
