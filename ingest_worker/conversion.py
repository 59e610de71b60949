"""What a file without pages was converted to: its sections, stored once for all who read some of them.

To open such a file is to convert all of it, which may take longer than to work on any of its parts.
"""

from __future__ import annotations

import sys
from array import array
from itertools import accumulate
from typing import IO

from ingest_worker.sandbox import Sandbox
from ingest_worker.stages.reading import Limits, Problem, Reader, Reading
from shared.documents import pages_from, to_json_lines
from shared.errors import TooMuchText, Unreadable


class Converted:
    """A document that ``file`` holds as `store` has written it. It is what a `Sandbox` is, with nothing to wait for.

    ``repaired`` says that the file which was converted was damaged.
    """

    unit = "sections"

    def __init__(self, file: IO[bytes], page_characters: int, *, repaired: bool = False) -> None:
        self.repaired = repaired
        self._file = file
        self._page_characters = page_characters
        self._starts = array("Q", accumulate(map(len, file), initial=0))

    @property
    def page_count(self) -> int:
        """How many sections there are."""
        return len(self._starts) - 1

    def reading(self, number: int, _ahead: int = 0) -> Reading:
        """The section ``number``, from 1. A `Sandbox` is told what comes after it; here there is nothing to prepare."""
        self._file.seek(self._starts[number - 1])
        (page,) = pages_from([self._file.readline()])
        if len(page.text) > self._page_characters:
            return Reading.left_out(number, Problem.TOO_LARGE)
        return Reading(page, Reader.ONLY)

    def look_ahead(self, number: int) -> None:
        """Nothing: whatever is asked for first is there."""


def limits(most_sections: int) -> Limits:
    """Those to convert a file with: no section is left out. Whoever reads it may take in less, or more, than others."""
    return Limits(most_sections, sys.maxsize)


def store(document: Sandbox, file: IO[bytes], *, most_characters: int) -> None:
    """Write the sections of a document that was opened with `limits`. Raises `TooMuchText`, `Unreadable`."""
    characters = 0
    for number in range(1, document.page_count + 1):
        reading = document.reading(number, number + 1 if number < document.page_count else 0)
        if reading.problem:  # the process was lost, and what it had converted with it, more than once
            raise Unreadable("The file could not be converted: that took too much time or memory.")
        characters += len(reading.page.text)
        if characters > most_characters:
            raise TooMuchText(f"The document holds more than {most_characters} characters.")
        file.writelines(to_json_lines([reading.page]))
