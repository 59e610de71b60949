"""The manual, first page: what happens to a document, as a program sees it. Read it from the top."""

from __future__ import annotations

import httpx
import pytest

from ingest_client import Client, RequestRefused, Status
from tests import pdfs


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A PDF of twelve pages: headings, prose, ruled tables, some Chinese."""
    path = tmp_path_factory.mktemp("papers") / "annual report 年度报告.pdf"
    path.write_bytes(pdfs.prose(12))
    return path


def test_upload_watch_fetch(client, report):
    """Three calls: submit a file, watch it to its end, read what came of it."""
    document_id = client.submit(report)

    states = list(client.watch(document_id))
    assert states[-1].status is Status.COMPLETED
    assert states[-1].message.startswith("Completed: 12 pages")

    chunks = list(client.chunks(document_id))
    assert chunks[0].page_first == 1
    assert chunks[-1].page_last == 12
    assert pdfs.CHINESE in "".join(chunk.text for chunk in chunks)


def test_what_the_bar_shows_is_true(client, report):
    """Progress never falls, names pages done of pages total, and is 100 only at the end."""
    states = list(client.watch(client.submit(report)))
    bars = [state.progress for state in states]
    assert bars == sorted(bars)
    assert [state.progress == 100 for state in states] == [False] * (len(states) - 1) + [True]
    parsed = [state.stage for state in states if state.status is Status.PARSING and state.stage]
    assert parsed[-1].done == parsed[-1].total == 12
    order = list(dict.fromkeys(state.status for state in states))
    assert order[-4:] == [Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED]


def test_every_event_has_its_number_once(client, report):
    """The numbers of a document's events have no hole and no repetition."""
    numbers = [state.seq for state in client.watch(client.submit(report))]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_a_chunk_knows_where_it_comes_from(client, service, report):
    """Its offsets point into the stored text; the same bytes with the same options give the same chunks."""
    first, second = (client.submit(report, chunk_size=400, chunk_overlap=40) for _ in range(2))
    for document_id in (first, second):
        assert [*client.watch(document_id)][-1].status is Status.COMPLETED
    chunks = list(client.chunks(first))
    text = (service.folder / "var" / "storage" / first / "text.txt").read_bytes().decode()
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(len(chunk.text) <= 400 for chunk in chunks)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert chunks == list(client.chunks(second))


def test_a_page_that_is_reloaded_still_sees_the_state(client, service, report):
    """The state outlives every connection: it can be asked for at any time, and the stream begins with it."""
    document_id = client.submit(report)
    for _ in client.watch(document_id):
        break  # the page is closed in the middle
    *_, last = client.watch(document_id)
    assert client.status(document_id) == last
    listed = httpx.get(f"{service.urls[0]}/ingestions").json()["ingestions"]
    assert document_id in [item["id"] for item in listed]


def test_a_connection_that_was_lost_is_resumed(client, service, report):
    """Last-Event-ID brings what was missed, in order, none twice; at the end of all, the server says stop."""
    document_id = client.submit(report)
    seen = [state.seq for state in client.watch(document_id)]
    stream = f"{service.urls[0]}/status/stream/{document_id}"

    answer = httpx.get(stream, headers={"Last-Event-ID": str(seen[3])})
    assert [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")] == [str(n) for n in seen[4:]]

    assert httpx.get(stream, headers={"Last-Event-ID": str(seen[-1])}).status_code == 204


def test_many_documents_are_watched_on_one_connection(client, report):
    """One stream, each document to its end."""
    ids = [client.submit(report) for _ in range(3)]
    ends = {state.id: state.status for state in client.watch(*ids) if state.is_final}
    assert ends == dict.fromkeys(ids, Status.COMPLETED)


def test_an_unknown_document_is_said_to_be_unknown(client):
    """A stable code, for programs."""
    with pytest.raises(RequestRefused) as refused:
        Client.status(client, "0" * 26)
    assert (refused.value.status, refused.value.code) == (404, "unknown_ingestion")
