"""The lines of several processes on one terminal, each with the name of its process before it."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import IO, TextIO

#: ANSI colours that are readable on black and on white, in the order in which names come.
_COLOURS = (36, 33, 35, 32, 34)

#: A longer line is shown in pieces, rather than kept in memory.
LONGEST_LINE_BYTES = 64 * 1024


class Output:
    """Whole lines to one stream, from any thread. When nobody reads the stream any more, lines are dropped."""

    def __init__(self, stream: TextIO, names: Iterable[str]) -> None:
        self._stream = stream
        self._lock = Lock()
        self._prefixes = _prefixes(list(names), coloured=stream.isatty())

    def write(self, text: str, name: str = "") -> None:
        """One line, with the prefix of ``name``, or with none when it is our own."""
        with self._lock:
            try:
                self._stream.write(f"{self._prefixes.get(name, '')}{text}\n")
                self._stream.flush()
            except OSError:
                # The terminal is gone. The processes must still be stopped in order, so this is not our end.
                return

    def copy(self, pipe: IO[bytes], name: str) -> None:
        """Every line of a process, until it ends."""
        with pipe:
            for line in iter(lambda: pipe.readline(LONGEST_LINE_BYTES), b""):
                self.write(line.decode(errors="replace").rstrip("\r\n"), name)


def _prefixes(names: list[str], *, coloured: bool) -> dict[str, str]:
    width = max(map(len, names), default=0)
    plain = {name: f"{name:<{width}} | " for name in names}
    if not coloured:
        return plain
    return {name: f"\x1b[{_COLOURS[n % len(_COLOURS)]}m{plain[name]}\x1b[0m" for n, name in enumerate(names)}
