"""States as they are published while documents are worked on, ready-made, tens of thousands a second.

A state is what `shared/lua/record_event.lua` publishes, taken from one real write; only its number and the stamp in its
message change. So Redis does nothing here but pass on, and is the same to all targets.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count

#: In a `template`: where the stamp and the number go. As wide as what comes there, so that lengths stay true.
STAMP_MARK = "11111111111111111111"
SEQ_MARK = "2222222"
#: And the second of the message, big-endian, for whoever has that in binary.
SECOND_MARK = b"\0\xaa\xaa\0"
_STAMP, _SEQ, _SECOND = b"%(stamp)020d", b"%(seq)07d", b"%(second)b"

#: The number of the event before the first that a `Writer` writes. The next ones have as many digits.
LAST_SEQ = 1_000_000

#: How our own connections are called in Redis.
OURS = "bench"

#: A message that `bench.reader` knows when it comes.
MARKED_MESSAGE = f"Page 57, written at {STAMP_MARK} ns"


def template(marked: bytes) -> bytes:
    """What holds marks, as a format for what goes in their place."""
    formats = {STAMP_MARK.encode(): _STAMP, SEQ_MARK.encode(): _SEQ, SECOND_MARK: _SECOND}
    filled = marked.replace(b"%", b"%%")
    for mark, field in formats.items():
        filled = filled.replace(mark, field)
    return filled


def publish_command(channel: bytes, payload: bytes) -> bytes:
    """PUBLISH, as Redis reads it."""
    parts = (b"PUBLISH", channel, payload)
    return b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Writer:
    """Writes to some paths what each one's template says, stamped, and numbered for each path from `LAST_SEQ` on.

    ``write`` takes all of it at once.
    """

    def __init__(self, write: Callable[[bytes], object], marked: Iterable[tuple[str, bytes]]) -> None:
        self._write = write
        self._templates = {path: template(data) for path, data in marked}
        self._numbers = {path: count(LAST_SEQ + 1) for path in self._templates}

    def __call__(self, paths: Sequence[str]) -> None:
        """One write for each path."""
        templates, numbers, clock = self._templates, self._numbers, time.monotonic_ns
        second = struct.pack(">I", int(time.time()))
        self._write(
            b"".join(
                [
                    templates[path] % {b"stamp": clock(), b"seq": next(numbers[path]), b"second": second}
                    for path in paths
                ]
            )
        )


class Publisher:
    """A connection to Redis that asks for no answers."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(f"CLIENT SETNAME {OURS}\r\nCLIENT REPLY OFF\r\n".encode())

    def write(self, commands: bytes) -> None:
        """Returns when the kernel has them; waits while Redis is behind."""
        self._connection.sendall(commands)

    def close(self) -> None:
        """Leave."""
        self._connection.close()
