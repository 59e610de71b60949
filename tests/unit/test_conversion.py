"""What a file without pages is converted to, as it is stored."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ingest_worker import conversion
from ingest_worker.conversion import Converted
from ingest_worker.sandbox import Sandbox, Walls
from ingest_worker.stages import parse
from ingest_worker.stages.reading import Limits, Reading
from ingest_worker.stages.sections import Sections
from shared.config import Engine
from shared.errors import TooMuchText, Unreadable
from shared.media import MediaType
from tests import texts

WALLS = Walls(page_seconds=20, address_space_bytes=1 << 30)
LIMITS = conversion.limits(1000)


@pytest.fixture
def path(tmp_path) -> Path:
    """A file of some sections, with a table in the last."""
    path = tmp_path / "file.md"
    path.write_bytes(texts.markdown(12))
    return path


def stored(path: Path, most_characters: int = 1_000_000) -> io.BytesIO:
    file = io.BytesIO()
    opening = partial(parse.opened, path, MediaType.MARKDOWN, Engine.AUTO, LIMITS)
    with Sandbox(opening, walls=WALLS, tick=lambda: None) as document:
        conversion.store(document, file, most_characters=most_characters)
    file.seek(0)
    return file


def direct(path: Path, limits: Limits = LIMITS) -> list[Reading]:
    with parse.opened(path, MediaType.MARKDOWN, Engine.AUTO, limits) as document:
        return [document.reading(number) for number in range(1, document.page_count + 1)]


@pytest.mark.parametrize("page_characters", [20_000, 6_000])
def test_what_is_stored_reads_as_the_file_does(path, page_characters):
    """In any order, tables and all; what is too large for the reader is left out."""
    converted = Converted(stored(path), page_characters)
    readings = [converted.reading(number) for number in range(converted.page_count, 0, -1)]
    assert readings[::-1] == direct(path, Limits(1000, page_characters))
    assert len(readings) > 3


def test_more_text_than_is_taken_is_not_stored(path):
    """A small file may become a text without end."""
    with pytest.raises(TooMuchText, match="more than 9000 characters"):
        stored(path, most_characters=9000)


@pytest.mark.parametrize("crashes", [1, 10])
def test_a_section_that_is_lost_by_chance_is_converted_again(path, monkeypatch, tmp_path, crashes):
    """One that is lost again is no text with a hole in it, which would be there for good."""
    expected, tries = direct(path), tmp_path / "tries"
    tries.touch()
    monkeypatch.setattr(Sections, "reading", _crashing(tries, crashes))
    if crashes == 1:
        converted = Converted(stored(path), 20_000)
        assert [converted.reading(reading.page.number) for reading in expected] == expected
    else:
        with pytest.raises(Unreadable):
            stored(path)


def _crashing(tries: Path, crashes: int) -> Callable[[Sections, int], Reading]:
    reading = Sections.reading

    def crash(document: Sections, number: int) -> Reading:
        if number == 2 and len(tries.read_text()) < crashes:
            with tries.open("a") as file:
                file.write("x")
            ctypes.string_at(0)
        return reading(document, number)

    return crash
