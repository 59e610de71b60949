"""What the benchmark of parsing says of a file: words and cells compared, goals met and not met."""

from __future__ import annotations

import dataclasses

import pytest

from bench import parse_files, parse_quality
from bench.parse_figures import Figures, Ingested, verdicts
from bench.parse_quality import Quality, alike
from shared.config import Engine
from shared.documents import Page
from shared.errors import Encrypted
from tests import pdfs


def test_words_that_differ_in_spaces_are_told_from_others():
    """A loop that joins two words is no reader of other letters."""
    assert alike(["a", "b,c", "d"], ["a", "b,", "c", "d"]) == (4 / 7, 1.0)
    assert alike(["a", "b", "c"], ["a", "x", "c"]) == (4 / 6, 4 / 6)
    assert alike(["a", "b"], ["a", "b"]) == (1.0, 1.0)


def test_a_document_with_tables_is_compared_page_by_page(tmp_path):
    """All tables of all pages, and the words of those that have none."""
    (tmp_path / "mixed.pdf").write_bytes(pdfs.prose(20))
    quality = parse_quality.measure(tmp_path / "mixed.pdf")
    assert (quality.tables, quality.tables_equal, quality.pages_with_tables) == (2, 2, 2)
    assert (quality.pages_unequal, quality.is_prose) == ([], False)
    assert quality.alike > 0.98


def test_a_table_with_another_cell_is_named_by_its_page(tmp_path, monkeypatch):
    """So that it can be looked at."""
    (tmp_path / "mixed.pdf").write_bytes(pdfs.prose(20))
    monkeypatch.setattr(parse_quality.pdf.Pdf, "reading", lambda _pdf, number: _Reading(Page(number, "")))
    quality = parse_quality.measure(tmp_path / "mixed.pdf")
    assert (quality.tables, quality.tables_equal, quality.pages_unequal) == (2, 0, [10, 20])


@dataclasses.dataclass
class _Reading:
    page: Page


def test_a_file_that_does_not_open_is_refused(tmp_path):
    """Whoever gives several sees which."""
    (tmp_path / "encrypted.pdf").write_bytes(pdfs.encrypted("secret"))
    with pytest.raises(Encrypted):
        parse_quality.measure(tmp_path / "encrypted.pdf")


@pytest.mark.parametrize(("made", "is_prose"), [(parse_files.prose, True), (parse_files.tables, False)])
def test_the_files_that_are_made_are_what_they_are_called(tmp_path, made, is_prose):
    """Prose has no table, and of the tables every page has one."""
    (tmp_path / "made.pdf").write_bytes(made(5))
    quality = parse_quality.measure(tmp_path / "made.pdf")
    assert (quality.is_prose, quality.pages_with_tables) == (is_prose, 0 if is_prose else 5)
    assert quality.tables_equal == quality.tables


PROSE = Quality(100, alike=0.99, alike_but_for_spaces=1.0, alike_with_narrow_spaces=0.99)
TABLES = Quality(100, pages_with_tables=100, tables=100, tables_equal=100)


def figures(quality: Quality, engine: float = 1.8, auto: float = 25, beyond: float = 0.04) -> Figures:
    """Of a file that the loop reads in 100 s; on two processes so many times as fast."""
    seconds = {
        (Engine.PDFPLUMBER, 1): [10 * (1 + beyond)],
        (Engine.PDFPLUMBER, 2): [100 / engine],
        (Engine.AUTO, 1): [100 / auto],
        (Engine.AUTO, 2): [100 / auto],
    }
    on_one = Ingested(10 * (1 + beyond), reading_cpu_seconds=10.0, other_cpu_seconds=1.0)
    return Figures("a.pdf", quality, [100.0, 100.0], [on_one], seconds)


@pytest.mark.parametrize(
    ("measured", "not_met"),
    [
        (figures(PROSE), []),
        (figures(PROSE, engine=1.7), ["pdfplumber on 2 processes at least 1.8 x the loop"]),
        (figures(PROSE, auto=24.9), ["auto on 2 processes at least 25 x the loop"]),
        (figures(PROSE, beyond=0.05), ["cost beyond reading under 5%"]),
        (figures(dataclasses.replace(PROSE, alike=0.97)), ["words at least 0.98 like the loop's as it comes"]),
        (figures(TABLES, auto=1), []),
        (figures(TABLES, auto=0.9), ["auto on 1 process at least 1 x the loop"]),
        (figures(dataclasses.replace(TABLES, tables_equal=99), auto=1), ["all tables equal"]),
    ],
)
def test_each_goal_is_told_met_or_not(measured, not_met):
    """Prose and tables are held to different ones."""
    assert [verdict.goal for verdict in verdicts(measured) if not verdict.met] == not_met
