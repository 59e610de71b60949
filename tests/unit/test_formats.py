"""Text, Markdown, HTML and Word documents: in sections, with nothing lost, and tables as structure."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web.media import type_of
from ingest_worker.stages import parse
from ingest_worker.stages.reading import Limits
from ingest_worker.stages.sections import MOST_CHARACTERS, WINDOW_CHARACTERS, of_text
from ingest_worker.stages.tables import markdown, tables_in
from shared.config import Engine
from shared.documents import Page
from shared.errors import Encrypted, TooManyPages, Unreadable
from shared.media import MediaType
from tests import pdfs, texts

LIMITS = Limits(pages=1000, page_characters=200_000)

MARKUP = [
    (MediaType.MARKDOWN, texts.markdown(12)),
    (MediaType.HTML, texts.html(12)),
    (MediaType.DOCX, texts.docx(12)),
]


@pytest.fixture
def read(tmp_path):
    """Reads bytes; gives the pages."""

    def read(content: bytes, media_type: MediaType, limits: Limits = LIMITS) -> list[Page]:
        path = tmp_path / "file"
        path.write_bytes(content)
        with parse.opened(path, media_type, Engine.AUTO, limits) as document:
            assert document.unit == "sections"
            return [document.reading(number).page for number in range(1, document.page_count + 1)]

    return read


@pytest.mark.parametrize(("media_type", "content"), MARKUP, ids=["markdown", "html", "docx"])
def test_headings_and_text_are_all_there_in_order(read, media_type, content):
    """In sections of bounded size, numbered from 1; what a browser does not show is not there."""
    pages = read(content, media_type)
    assert len(pages) > 3
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert max(len(page.text) for page in pages) <= MOST_CHARACTERS
    text = "\n".join(page.text for page in pages)
    places = [text.index(f"# Section {n}\n") for n in range(1, 13)]
    assert places == sorted(places)
    assert text.count("This is sentence 79 of section 7, which goes on.") == 1
    assert text.rstrip().endswith("The end.")
    assert "secret" not in text


@pytest.mark.parametrize(("media_type", "content"), MARKUP, ids=["markdown", "html", "docx"])
def test_tables_are_kept_as_structure(read, media_type, content):
    """Their cells, and the place in the text where they stand as Markdown."""
    last = read(content, media_type)[-1]
    (table,) = last.tables
    assert [tuple(cell.replace("\\|", "|") for cell in row) for row in table.rows] == list(texts.ROWS)
    lines = last.text[table.start : table.end].split("\n")
    assert len(lines) == len(table.rows) + 1
    assert lines[0].startswith("| item")


TABLE = (("name", "number", "about"), *((f"item {n}", str(n * 7), f"some words about {n}") for n in range(2000)))
HUGE = (("name", "about"), ("one", "a word " * 5000), *((f"item {n}", str(n)) for n in range(2000)))
SHORT = (("name", "about"), *((f"item {n}", "a word " * 10) for n in range(120)))

TABLED = [
    pytest.param(media_type, make, id=name)
    for name, media_type, make in [
        ("markdown", MediaType.MARKDOWN, lambda rows: f"{_WORDS}\n\n{markdown(rows)}\n\nThe end.".encode()),
        (
            "html",
            MediaType.HTML,
            lambda rows: f"<html><p>{_WORDS}</p>{texts.html_table(rows)}<p>The end.</p></html>".encode(),
        ),
        ("docx", MediaType.DOCX, lambda rows: texts.docx(1, texts.docx_table(rows))),
    ]
]

_WORDS = "Some words before it. " * 300


@pytest.mark.parametrize(("media_type", "make"), TABLED)
def test_a_table_larger_than_a_section_keeps_its_rows(read, media_type, make):
    """Each is in one section, whose table has the header before it, in the text too."""
    pages = read(make(TABLE), media_type)
    tables = [table for page in pages for table in page.tables]
    assert len(tables) > 5
    assert {table.rows[0] for table in tables} == {TABLE[0]}
    assert [row for table in tables for row in table.rows[1:]] == list(TABLE[1:])
    assert all(len(page.tables) <= 1 and len(page.text) <= MOST_CHARACTERS for page in pages)
    for page in pages:
        for table in page.tables:
            assert page.text[table.start : table.end] == markdown(table.rows)


@pytest.mark.parametrize(("media_type", "make"), TABLED)
def test_a_table_that_fits_in_a_section_is_in_one(read, media_type, make):
    """Though it is longer than what is enough for one."""
    assert [table.rows for page in read(make(SHORT), media_type) for table in page.tables] == [
        tuple(tuple(cell.strip() for cell in row) for row in SHORT)
    ]


@pytest.mark.parametrize(("media_type", "make"), TABLED)
def test_a_row_larger_than_a_section_is_cut_itself(read, media_type, make):
    """Its words are all there, and the rows after it have the header again."""
    pages = read(make(HUGE), media_type)
    assert sum(page.text.count("a word") for page in pages) == 5000
    rows = [row for page in pages for table in page.tables if table.rows[0] == HUGE[0] for row in table.rows[1:]]
    assert rows[-2000:] == list(HUGE[2:])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("naïve café 文档".encode(), "naïve café 文档"),
        (codecs.BOM_UTF8 + "naïve".encode(), "naïve"),
        ("naïve 文档".encode("utf-16"), "naïve 文档"),
        (("Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20).encode("cp1251"), "французских булок"),
        (b"a\r\nb\rc\n", "a\nb\nc"),
        (b"", ""),
    ],
    ids=["utf-8", "mark", "utf-16", "cyrillic", "line ends", "nothing"],
)
def test_a_text_is_decoded_whatever_its_encoding(read, content, expected):
    """And its line ends are of one kind."""
    assert expected in read(content, MediaType.TEXT)[0].text


ASCII_HEAD = "The quick brown fox jumps over the lazy dog.\n" * 1600
RUSSIAN = "Привет, мир. Это обычный текст.\n" * 3000


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", ASCII_HEAD + "Herr Müller wohnt in der Königsstraße.\n" * 50),
        ("cp1251", ASCII_HEAD + RUSSIAN),
        ("cp932", "x" + "これは普通の日本語のテキストです。\n" * 3000),
        ("gb18030", "这是一个普通的中文文本,用于测试。\n"),
        ("cp949", "이것은 평범한 한국어 텍스트입니다.\n"),
        ("cp1250", "Všichni lidé se rodí svobodní a sobě rovní. Jsou nadáni rozumem a svědomím a mají spolu jednat.\n"),
        ("cp850", "Die Straße führt über die Brücke.\n"),
        ("cp1252", "Herr Müller\n"),
        ("cp1252", "Sehr geehrter Herr Müller, anbei die Rechnung für März. Mit freundlichen Grüßen\n"),
        ("cp1252", "El niño come una piña mañana.\n"),
        ("cp1252", "Price: 20 € per month, 5 £ per day\n"),
        ("cp1252", "Crème brûlée recipe: heat the cream, add sugar and eggs, then bake it for 40 minutes.\n"),
        ("cp1252", "Il a été décidé que la réunion aura lieu à l'hôtel près de la forêt.\n" * 30),
    ],
)
def test_a_text_is_guessed_by_what_tells_its_encoding(read, encoding, text):
    """Which may be far from its beginning, and little; letters of the West are most likely where all else is."""
    pages = read(text.encode(encoding), MediaType.TEXT)
    assert "\n".join(page.text for page in pages) == text.rstrip("\n")


@pytest.mark.parametrize("media_type", [MediaType.TEXT, MediaType.HTML])
@pytest.mark.parametrize("shift", range(3))
def test_a_text_with_a_few_broken_bytes_stays_what_it_is(read, media_type, shift):
    """Wherever its parts are cut that are read at once."""
    content = b"x" * shift + RUSSIAN.replace("\n", "<br>").encode() + b"\xff."
    pages = read(b"<html>" + content if media_type is MediaType.HTML else content, media_type)
    text = "".join(page.text for page in pages)
    assert text.count("Привет, мир. Это обычный текст.") == 3000
    assert text.endswith("\N{REPLACEMENT CHARACTER}.")


def test_a_replacement_character_is_no_broken_byte(read):
    """Whoever wrote the text may have put it there, and nothing else that is not ASCII."""
    assert read("M\N{REPLACEMENT CHARACTER}ller".encode(), MediaType.TEXT)[0].text == "M\N{REPLACEMENT CHARACTER}ller"


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("<meta charset=iso-8859-1>", "cp1252", "Preis: 5 €"),
        ("<meta charset='utf-8'>", "utf-8", "Köln"),
        ("<meta charset='utf-8'>", "cp1252", "Köln"),
        ("<meta http-equiv=content-type content='text/html; charset=windows-1251'>", "cp1251", "Мир"),
        ("<meta charset=iso-8859-1>", "utf-8", "Привет"),
        ("<meta charset=iso-2022-jp>", "iso-2022-jp", "日本語"),
        ("<meta charset=rot13>", "cp1252", "Müller wohnt in Köln, Königsstraße 5."),
        ("<meta charset=utf-16>", "cp1252", "Müller wohnt in Köln, Königsstraße 5."),
        ("<meta charset=hz-gb-2312>", "cp1252", "Müller wohnt in Köln, Königsstraße 5."),
        ("<meta charset=x-user-defined>", "cp1252", "Müller wohnt in Köln, Königsstraße 5."),
    ],
)
def test_a_page_is_decoded_as_it_says_unless_its_bytes_say_otherwise(read, declared, encoding, text):
    """By the names that browsers know, which mean by some what they are mostly used for."""
    content = f"<html><head>{declared}</head><body><p>{text}</p></body></html>".encode(encoding)
    assert read(content, MediaType.HTML)[0].text == text


@given(st.lists(st.text(st.sampled_from("ab .\n#"), max_size=3000), max_size=12))
def test_no_character_but_white_space_is_lost_between_sections(pieces):
    """However the text comes in."""
    sections = list(of_text(pieces, markup=False))
    assert "".join("".join(sections).split()) == "".join("".join(pieces).split())
    assert all(len(section) <= MOST_CHARACTERS for section in sections)


def test_a_table_goes_on_however_the_text_comes_in():
    """More of it than is cut at once, in pieces that end within a row."""
    rows = (TABLE[0], *(TABLE[1:] * 4))
    text = markdown(rows)
    sections = list(of_text((text[at : at + 7001] for at in range(0, len(text), 7001)), markup=True))
    tables = [table.rows for section in sections for table in tables_in(section)]
    assert len(text) > WINDOW_CHARACTERS
    assert len(tables) == len(sections)
    assert tuple(row for table in tables for row in table[1:]) == rows[1:]


def test_a_lone_carriage_return_ends_a_line(read):
    """Written as a number it comes through where all others are made line ends; a table after it is where it says."""
    table = texts.html_table(texts.ROWS)
    (page,) = read(f"<html><pre>a&#13;b&#13;c&#13;&#10;d</pre>{table}</html>".encode(), MediaType.HTML)
    assert "a\nb\nc\nd" in page.text
    (found,) = page.tables
    assert page.text[found.start : found.end] == page.text[page.text.index("| item") :]


def test_a_pipe_alone_makes_no_table():
    """Nor does what only looks like one."""
    assert tables_in("a | b\n\nc | d") == ()


def test_what_is_no_word_document_is_unreadable(read):
    """Another archive, a damaged one, one that unpacks to a thousand times its size; an encrypted one says so."""
    for content in (texts.zipped({"a.txt": "x"}), texts.docx(2)[:-40], texts.docx(1, "<w:p>")):
        with pytest.raises(Unreadable):
            read(content, MediaType.DOCX)
    with pytest.raises(Encrypted):
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000), MediaType.DOCX)


def test_bombs_are_unreadable(read, monkeypatch):
    """Elements nested without end; an archive of a few bytes that unpacks to more than is taken."""
    with pytest.raises(Unreadable):
        read(b"<html>" + b"<div>" * 100_000, MediaType.HTML)
    monkeypatch.setattr("ingest_worker.stages.markup.MOST_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(Unreadable, match="unpacks to"):
        read(texts.docx(1, "<w:p/>" * 400_000), MediaType.DOCX)


def test_too_many_sections_are_refused(read):
    """As too many pages are."""
    with pytest.raises(TooManyPages):
        read(texts.markdown(40), MediaType.MARKDOWN, Limits(pages=2, page_characters=10_000))


@pytest.mark.parametrize(
    ("head", "filename", "expected"),
    [
        (pdfs.prose(1), "a.txt", MediaType.PDF),
        (texts.docx(1), "Report.DOCX", MediaType.DOCX),
        (texts.docx(1), "archive.zip", None),
        (texts.html(1), "a.txt", MediaType.HTML),
        (b"<?xml version='1.0'?>\n<!-- x --><html>", "a", MediaType.HTML),
        (b"# Title", "README.md", MediaType.MARKDOWN),
        (b"# Title", "README", MediaType.TEXT),
        ("naïve words".encode("cp1252"), "a.txt", MediaType.TEXT),
        ("text".encode("utf-16"), "a.txt", MediaType.TEXT),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a.md", None),
        (b"\x7fELF\x02\x01", "a.txt", None),
        (b"\xff\xd8\xff\xe0" * 500, "a.pdf", None),
        (("文" * 2000).encode()[:4096], "a.txt", MediaType.TEXT),
    ],
)
def test_the_content_says_what_a_file_is(head, filename, expected):
    """The name is asked only where the content can't tell."""
    assert type_of(head[:4096], filename) is expected


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "head",
    [b"<!---->" * 500, b"<!-- -->\n" * 400 + b"<p>", b"<!--" * 1000, b"<?xml " * 600, b"<?xml ?>" * 500, b" " * 4000],
)
def test_no_content_holds_up_whoever_looks_at_it(head):
    """A web process looks at every file, and does nothing else meanwhile."""
    assert type_of(head[:4096], "a.txt") is MediaType.TEXT
