"""A PDF becomes pages, whatever state it is in."""

from __future__ import annotations

import difflib
import io

import pdfplumber
import pypdfium2 as pdfium
import pytest

from ingest_worker.stages import pdf as reading_pdf
from ingest_worker.stages.findings import Findings
from ingest_worker.stages.pdf import opened
from ingest_worker.stages.reading import Limits, Reader
from ingest_worker.stages.tables import markdown
from shared.config import Engine
from shared.errors import Encrypted, TooManyPages, Unreadable
from tests import pdfs

LIMITS = Limits(pages=1000, page_characters=200_000)


@pytest.fixture
def parse(tmp_path):
    """Parses bytes; gives the pages and the warnings."""

    def parse(pdf: bytes, engine: Engine = Engine.PDFPLUMBER):
        (tmp_path / "file").write_bytes(pdf)
        findings = Findings()
        with opened(tmp_path / "file", engine, LIMITS) as document:
            readings = [document.reading(number) for number in range(1, document.page_count + 1)]
        for reading in readings:
            findings.note(reading)
        findings.repaired = document.repaired
        assert document.page_count == len(readings)
        return [reading.page for reading in readings], findings.warnings()

    return parse


def test_every_page_comes_in_order_with_its_text(parse):
    """Headings, prose, tables and Chinese, page by page, numbered from 1; a sound file brings no warning."""
    pages, warnings = parse(pdfs.prose(10))
    assert [page.number for page in pages] == list(range(1, 11))
    assert all(page.text.startswith(f"Page {page.number}: ") for page in pages)
    assert pdfs.CHINESE in pages[6].text
    assert "| row 3 | 30 | 3% |" in pages[9].text
    assert warnings == ()


def test_a_file_that_needs_a_password_is_called_encrypted(parse):
    """The error names the cause, and it is the document that is at fault."""
    with pytest.raises(Encrypted, match="password"):
        parse(pdfs.encrypted("secret"))


def test_a_password_of_the_owner_is_no_hindrance(parse):
    """A file that anyone may read but not print opens."""
    pages, warnings = parse(pdfs.encrypted(""))
    assert pages[1].text.startswith("Page 2: ")
    assert warnings == ()


def test_a_damaged_file_is_repaired_and_says_so(parse):
    """Where pdfplumber sees no page but PDFium does, all of them come, with one warning."""
    pages, warnings = parse(pdfs.damaged(3))
    assert [page.text.split(":")[0] for page in pages] == ["Page 1", "Page 2", "Page 3"]
    assert [warning.code for warning in warnings] == ["repaired"]
    assert warnings[0].message == "The file was damaged; 3 pages were recovered"


def test_a_lost_pointer_to_the_table_of_objects_costs_nothing(parse):
    """The pages are found without it."""
    pages, _ = parse(pdfs.clobbered_startxref(3))
    assert [page.text.split(":")[0] for page in pages] == ["Page 1", "Page 2", "Page 3"]


def test_pages_that_are_gone_do_not_take_the_others_with_them(parse):
    """They come empty, are named in a warning, and are not counted as recovered."""
    pages, warnings = parse(pdfs.last_pages_missing(5, 2))
    assert [bool(page.text) for page in pages] == [True, True, True, False, False]
    assert [(warning.code, warning.pages) for warning in warnings] == [("repaired", ()), ("page_unreadable", (4, 5))]
    assert "3 pages were recovered" in warnings[0].message


def test_a_page_that_pdfplumber_gives_up_is_read_by_pdfium(parse):
    """Its text is there, without carriage returns, and a warning names it."""
    pages, warnings = parse(pdfs.one_odd_page(3, odd=2))
    assert [page.text.split(":")[0] for page in pages] == ["Page 1", "Page 2", "Page 3"]
    assert "\r" not in pages[1].text
    assert [(warning.code, warning.pages) for warning in warnings] == [("page_fallback", (2,))]


@pytest.mark.parametrize(
    "pdf",
    [pdfs.noise_after_a_good_header(), pdfs.truncated(3, 0.5), pdfs.truncated(3, 0.9), b"%PDF-1.7\n", b""],
    ids=["noise", "half", "most", "header only", "nothing"],
)
def test_a_file_of_which_nothing_can_be_recovered_is_unreadable(parse, pdf):
    """Whatever the libraries raise, it is one error of ours."""
    with pytest.raises(Unreadable):
        parse(pdf)


def test_a_document_without_any_text_may_be_a_scan(parse):
    """That is a warning about all of it, not a failure."""
    pages, warnings = parse(pdfs.scanned(3))
    assert [page.text for page in pages] == ["", "", ""]
    assert [(warning.code, warning.pages) for warning in warnings] == [("no_text", ())]
    assert "scan" in warnings[0].message


def test_some_pages_without_text_are_named(parse):
    """The others have theirs."""
    pages, warnings = parse(pdfs.partly_scanned(4, text_on=3))
    assert pages[2].text == "The only words."
    assert [(warning.code, warning.pages) for warning in warnings] == [("pages_without_text", (1, 2, 4))]


def test_text_holds_nothing_that_cannot_be_stored(monkeypatch, parse):
    """Broken fonts yield lone surrogates and NUL, which UTF-8 and PostgreSQL refuse; they are replaced."""
    monkeypatch.setattr("pdfplumber.page.Page.extract_text", lambda _page: "a\x00b\ud800c")
    pages, _ = parse(pdfs.prose(1))
    assert pages[0].text == "a\ufffdb\ufffdc"


def _readers(path, engine: Engine) -> list[Reader]:
    with opened(path, engine, LIMITS) as document:
        return [document.reading(number).reader for number in range(1, document.page_count + 1)]


def test_auto_asks_pdfplumber_for_ruled_tables_only(tmp_path):
    """Every tenth page has a table; the others are PDFium's, which is many times as fast."""
    (tmp_path / "file").write_bytes(pdfs.prose(20))
    expected = [Reader.PDFPLUMBER if number % 10 == 0 else Reader.PDFIUM for number in range(1, 21)]
    assert _readers(tmp_path / "file", Engine.AUTO) == expected


@pytest.mark.parametrize("engine", [Engine.PDFIUM, Engine.PDFPLUMBER])
def test_the_other_engines_read_every_page_themselves(tmp_path, engine):
    """Tables or not."""
    (tmp_path / "file").write_bytes(pdfs.prose(10))
    assert set(_readers(tmp_path / "file", engine)) == {Reader(engine.value)}


def test_pdfplumber_is_not_even_opened_for_prose(tmp_path, monkeypatch):
    """To load the file takes it longer than PDFium takes to read a page."""
    opens = []
    monkeypatch.setattr("pdfplumber.open", opens.append)
    (tmp_path / "file").write_bytes(pdfs.prose(9))
    assert set(_readers(tmp_path / "file", Engine.AUTO)) == {Reader.PDFIUM}
    assert opens == []


def test_auto_keeps_the_words_of_prose(parse):
    """As good as pdfplumber: at least 98 in 100 words are alike, in the same order."""
    fast, _ = parse(pdfs.prose(9), Engine.AUTO)
    slow, _ = parse(pdfs.prose(9), Engine.PDFPLUMBER)
    words = [[word for page in pages for word in page.text.split()] for pages in (fast, slow)]
    assert difflib.SequenceMatcher(None, *words, autojunk=False).ratio() >= 0.98


def test_printers_marks_are_no_table(parse, tmp_path):
    """They lie outside the crop box: whole books are printed with them."""
    pdf = pdfs.with_printers_marks(2)
    pages, _ = parse(pdf, Engine.AUTO)
    assert [page.text for page in pages] == ["Page 1: between the marks", "Page 2: between the marks"]
    assert _readers(tmp_path / "file", Engine.AUTO) == [Reader.PDFIUM, Reader.PDFIUM]


@pytest.mark.parametrize("engine", list(Engine))
def test_no_engine_loses_a_page_of_a_damaged_file(parse, engine):
    """Whoever reads it."""
    pages, _ = parse(pdfs.damaged(10), engine)
    assert [page.text.split(":")[0] for page in pages] == [f"Page {number}" for number in range(1, 11)]


def test_where_the_fast_reader_fails_the_other_stands_in(parse, monkeypatch):
    """And a warning names the pages."""

    def fails(_pdf, _number):
        raise pdfium.PdfiumError("no")

    monkeypatch.setattr("ingest_worker.stages.pdf._text_by_pdfium", fails)
    pages, warnings = parse(pdfs.prose(2), Engine.AUTO)
    assert [page.text.split(":")[0] for page in pages] == ["Page 1", "Page 2"]
    assert [(warning.code, warning.pages) for warning in warnings] == [("page_fallback", (1, 2))]


@pytest.mark.parametrize("engine", list(Engine))
def test_a_word_broken_over_two_lines_stays_as_printed(parse, engine):
    """With its hyphen and the line's end, whoever reads it."""
    pages, _ = parse(pdfs.hyphenated(), engine)
    assert pages[0].text == "The threat to the com-\npany was real."


@pytest.mark.parametrize("engine", list(Engine))
def test_a_page_of_a_million_characters_costs_that_page_alone(parse, engine, monkeypatch):
    """It is left out before anyone makes an object of each character, and a warning names it."""
    asked = []
    plumber = reading_pdf._text_by_pdfplumber
    monkeypatch.setattr(
        reading_pdf, "_text_by_pdfplumber", lambda pdf, n, **known: (asked.append(n), plumber(pdf, n, **known))[1]
    )
    pages, warnings = parse(pdfs.character_bomb(3, bomb=2, characters=1_000_000), engine)
    assert [page.text for page in pages] == ["Page 1: harmless", "", "Page 3: harmless"]
    assert [(warning.code, warning.pages) for warning in warnings] == [("page_too_large", (2,))]
    assert 2 not in asked


def test_a_document_of_too_many_pages_is_refused_before_any_is_read(tmp_path):
    """The error says how many there are, and how many are taken."""
    (tmp_path / "file").write_bytes(pdfs.prose(4))
    with pytest.raises(TooManyPages, match=r"4 pages; 3 "), opened(tmp_path / "file", Engine.AUTO, Limits(3, 1000)):
        pass


@pytest.mark.parametrize("engine", list(Engine))
def test_a_password_opens_an_encrypted_file(tmp_path, engine):
    """Each engine gets it; a wrong one is told apart from none."""
    path = tmp_path / "file.pdf"
    path.write_bytes(pdfs.encrypted("secret"))
    with opened(path, engine, LIMITS, "secret") as document:
        assert "Page 1" in document.reading(1).page.text
    with pytest.raises(Encrypted, match="this password does not open it"), opened(path, engine, LIMITS, "wrong"):
        pass


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.PDFPLUMBER])
def test_a_ruled_table_stands_in_its_place_as_markdown(parse, engine):
    """Its words come once, in the table; a frame of one cell stays text; of two side by side the left comes first."""
    pages, warnings = parse(pdfs.tables_amid_text(), engine)
    assert pages[0].text == (
        "Above the tables.\n\n"
        "| item | a\\|b |\n| --- | --- |\n| two<br>lines | 1 |\n\n"
        "| both |  |\n| --- | --- |\n| x | y |\n\n"
        "Below the tables.\nA frame is no table."
    )
    assert warnings == ()


def test_a_table_is_kept_as_structure_cell_by_cell(parse):
    """The cells are pdfplumber's own, and the place is that of the Markdown; a merged cell is None."""
    pages, _ = parse(pdfs.tables_amid_text(), Engine.AUTO)
    with pdfplumber.open(io.BytesIO(pdfs.tables_amid_text())) as pdf:
        cells = [tuple(map(tuple, table)) for table in pdf.pages[0].extract_tables()]
    assert [table.rows for table in pages[0].tables] == cells[:2]
    assert pages[0].tables[1].rows == (("both", None), ("x", "y"))
    assert [pages[0].text[table.start : table.end] for table in pages[0].tables] == [
        markdown(table.rows) for table in pages[0].tables
    ]


def test_pdfium_alone_tells_no_tables(parse):
    """It is the engine for those who want the words, and fast."""
    pages, _ = parse(pdfs.tables_amid_text(), Engine.PDFIUM)
    assert pages[0].tables == ()
    assert "item" in pages[0].text


def test_what_stands_between_the_cells_of_a_table_is_not_lost(parse):
    """A grid with a hole: only the words in its cells are the table's."""
    pages, _ = parse(pdfs.table_with_a_hole(), Engine.AUTO)
    assert [table.rows for table in pages[0].tables] == [(("a", "b"), ("c", None))]
    assert "| c |  |\n\nin the hole" in pages[0].text
