"""The content of a page is read as pdfminer reads it, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pdfminer.pdfinterp import PDFContentParser
from pdfminer.pdftypes import PDFStream
from pdfminer.psparser import PSEOF

from ingest_worker.stages.content import Content

COMMON = [b"12", b"-0.5", b".25", b"+7", b"/F1", b"(a b)", b"<0aFF>", b"[(x)-20(y) 1.5<00>]", b"Tj", b"re", b"T*", b"'"]
ODD = [
    *(b"1.", b"-", b"--5", b"1.2.3", b"12ab", b"9" * 40, b"0." + b"1" * 120, b"true", b"false", b"nul\xffl"),
    *(b"(a\\)\\101\\\n(b))", b"(", b")", b"<0>", b"<0 a>", b"<zz>", b"<", b">", b"<<", b">>", b"<< /A [1 2] >>"),
    *(b"/", b"/a#20b", b"/\xff", b"//", b"[", b"]", b"[[1] /x]", b"[1", b"{", b"}", b"% no\n", b"\x00", b"\xe9"),
    *(b"BI /W 1 /H 1 ID \x00\x01(EI Q", b"BI", b"ID", b"EI", b'"', b"f*"),
]
BETWEEN = st.sampled_from([b"", b" ", b"\n", b"\r\n\t ", b"\x00"])
CONTENTS = st.lists(st.tuples(st.sampled_from(COMMON * 3 + ODD) | st.binary(max_size=4), BETWEEN), max_size=30).map(
    lambda words: b"".join(word + between for word, between in words)
)


def things(parser: PDFContentParser) -> list[str]:
    """One by one, as pdfminer's interpreter takes them; how it ends when that is not the end of the content."""
    found = []
    try:
        for _, thing in iter(parser.nextobject, None):
            found.append(repr(thing))
    except PSEOF:
        return found
    except Exception as error:  # noqa: BLE001 - whatever pdfminer raises, it shall be the same
        return [*found, repr(error)]


def things_at_once(content: Content) -> list[str]:
    found = []
    try:
        found.extend(map(repr, content))
    except Exception as error:  # noqa: BLE001
        found.append(repr(error))
    return found


@pytest.fixture(params=[3, 16, 4096], ids=lambda size: f"{size} bytes at a time")
def buffer_bytes(request, monkeypatch) -> int:
    """What is cut in two where a buffer ends."""
    monkeypatch.setattr(PDFContentParser, "BUFSIZ", request.param)
    return request.param


def streams(*contents: bytes) -> list[PDFStream]:
    return [PDFStream({}, content) for content in contents]


@pytest.mark.usefixtures("buffer_bytes")
class TestInBuffersOfAnySize:
    """Most words are whole in a large buffer, and hardly any in a small one."""

    @given(CONTENTS, CONTENTS)
    @example(b"BT /F1 12 Tf 1 0 0 1 72 700 Tm [(Hel)-20(lo)] TJ T* <0041> Tj ET", b"")
    @example(b"9" * 5000, b" 1 0 m")
    @example(b"q 1 0 0 1 0 0 cm BI /W 1 /H 1 ID abc EI Q", b"0 0 m 1.5 -.5 l S")
    def test_the_words_are_those_that_pdfminer_tells(self, first, second):
        """In the same order, with the same end, over one stream or two."""
        expected = things(PDFContentParser(streams(first, second)))
        assert things_at_once(Content(streams(first, second))) == expected


@pytest.mark.parametrize(
    "content",
    [b"[" + b"1" * 100_000 + b"x", b"[" + b"(a)" * 100_000, b"<" + b"ab" * 100_000, b" " * 100_000, b"[" * 100_000],
    ids=["digits", "an array without end", "a string without end", "spaces", "brackets"],
)
def test_no_content_makes_it_slow(content, monkeypatch):
    """What does not match is not tried in all the ways there are: that would take longer than anyone waits."""
    monkeypatch.setattr(PDFContentParser, "BUFSIZ", len(content))
    assert len(things_at_once(Content(streams(content + b" 1 0 m")))) < 10
