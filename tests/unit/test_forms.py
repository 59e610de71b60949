"""A multipart body in pieces."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web import forms
from ingest_web.forms import FileBegins, Option, Piece
from ingest_web.uploads import clean_filename
from shared.errors import FileMissing, MalformedUpload, TooManyFiles, UploadInterrupted

BOUNDARY = b"-edge"


def field(name: str, value: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (BOUNDARY, disposition.encode(), value)


END = b"--%b--\r\n" % BOUNDARY


class Dripping(io.RawIOBase):
    """A body that comes in pieces of given sizes."""

    def __init__(self, data: bytes, sizes: list[int]):
        self.data, self.sizes = data, sizes

    def read(self, size: int = -1) -> bytes:
        take = min(size, self.sizes.pop(0)) if self.sizes else size
        piece, self.data = self.data[:take], self.data[take:]
        return piece


def parts(body: bytes, sizes: list[int] | None = None) -> list[object]:
    return list(forms.read(Dripping(body, sizes or []), BOUNDARY.decode()))


def content(found: list[object]) -> bytes:
    return b"".join(part.data for part in found if isinstance(part, Piece))


@given(st.binary(max_size=2000), st.lists(st.integers(1, 40), max_size=200))
def test_however_the_network_cuts_it_the_file_is_the_same(data, sizes):
    """The bytes of the file and the fields around it don't depend on packets."""
    body = field("chunk_size", b"500") + field("file", data, "a.pdf") + field("engine", b"x") + END
    found = parts(body, sizes)
    assert content(found) == data
    assert [part for part in found if not isinstance(part, Piece)] == [
        Option("chunk_size", "500"),
        FileBegins("a.pdf"),
        Option("engine", "x"),
    ]


@pytest.mark.parametrize("data", [b"\r\n", b"\r\n--", b"\r\n-" + BOUNDARY, b"--" + BOUNDARY[:-1], b"\n" * 70_000])
def test_a_file_may_hold_what_looks_like_a_boundary(data):
    """Only the boundary itself, on a line of its own, ends the file."""
    assert content(parts(field("file", data, "a.pdf") + END)) == data


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_body_that_ends_early_is_interrupted_wherever_it_ends(cut):
    """No prefix of an upload is taken for the whole."""
    body = field("file", b"%PDF-1.4 and so on" * 3, "a.pdf") + END
    with pytest.raises(UploadInterrupted):
        parts(body[: len(body) - 2 - cut])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (END, FileMissing),
        (field("chunk_size", b"1") + END, FileMissing),
        (field("file", b"text without a name") + END, FileMissing),
        (field("file", b"a", "a.pdf") + field("file", b"b", "b.pdf") + END, TooManyFiles),
        (field("file", b"a", "a.pdf") + field("other", b"b", "b.pdf") + END, TooManyFiles),
        (field("note", b"x" * 5000) + field("file", b"a", "a.pdf") + END, MalformedUpload),
        (b"".join(field(f"n{n}", b"1") for n in range(40)) + field("file", b"a", "a.pdf") + END, MalformedUpload),
        (b"", UploadInterrupted),
    ],
)
def test_a_body_that_is_not_an_upload_says_why(body, error):
    """Each way of getting it wrong has an error of its own."""
    with pytest.raises(error):
        parts(body)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_parser(body):
    """Garbage ends in one of our errors."""
    with pytest.raises((FileMissing, TooManyFiles, MalformedUpload, UploadInterrupted)):
        parts(body)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json", "multipart/mixed; boundary=x"])
def test_a_body_of_another_type_has_no_file(content_type):
    """Only multipart/form-data can carry one."""
    with pytest.raises(FileMissing):
        forms.boundary_of(content_type)


def test_a_multipart_type_needs_a_boundary():
    """Without one, nothing can be told apart."""
    with pytest.raises(MalformedUpload):
        forms.boundary_of("multipart/form-data")


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.pdf", "a.pdf"),
        ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie: x.pdf"),
        ("年度报告.pdf", "年度报告.pdf"),
        ("", "document"),
        ("/", "document"),
        ("x" * 1000, "x" * 255),
    ],
)
def test_a_file_name_is_for_reading_only(given_name, shown):
    """What a stranger calls a file has no folders, no control characters and no end in sight."""
    assert clean_filename(given_name) == shown
