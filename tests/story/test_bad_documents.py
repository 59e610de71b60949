"""The manual, second page: documents that are not what they seem. Each gets a clear answer; none hangs."""

from __future__ import annotations

import io

import pytest

from ingest_client import RequestRefused, State, Status
from tests import pdfs


def ingest(client, data: bytes, name: str = "a.pdf") -> State:
    """The final state of a document."""
    document_id = client.submit(io.BytesIO(data), filename=name)
    *_, last = client.watch(document_id)
    return last


def test_a_password_is_needed(client):
    """An encrypted file fails with a code that says so."""
    state = ingest(client, pdfs.encrypted("secret"))
    assert (state.status, state.error.code) == (Status.FAILED, "encrypted")
    assert "password" in state.error.message


def test_a_damaged_file_is_recovered(client):
    """A broken table of contents costs nothing but a warning."""
    state = ingest(client, pdfs.clobbered_xref_stream(3))
    assert state.status is Status.COMPLETED
    assert "repaired" in [warning.code for warning in state.warnings]


def test_a_file_of_which_nothing_is_left(client):
    """Random bytes after a good header fail as unreadable."""
    state = ingest(client, pdfs.noise_after_a_good_header())
    assert (state.status, state.error.code) == (Status.FAILED, "unreadable")


def test_a_scan_completes_with_a_warning(client):
    """No text is no error; the owner is told what it may mean."""
    state = ingest(client, pdfs.scanned(3))
    assert state.status is Status.COMPLETED
    [warning] = state.warnings
    assert warning.code == "no_text"
    assert "scan" in warning.message
    assert list(client.chunks(state.id)) == []


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [(b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "unsupported_media_type"), (b"", 422, "empty_file")],
)
def test_what_is_no_document_is_refused_at_the_door(client, data, status, code):
    """The content decides, whatever the name says."""
    with pytest.raises(RequestRefused) as refused:
        ingest(client, data, "invoice.pdf")
    assert (refused.value.status, refused.value.code) == (status, code)
