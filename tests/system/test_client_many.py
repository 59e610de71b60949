"""The Python client with more documents than one stream carries, on a real web node; the test is the worker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from ingest_client import Client
from ingest_client.following import Following
from shared.protocol import State
from shared.store import Store
from tests import records
from tests.awaiting import wait_until
from tests.stack import Stack

MANY = 600


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One web node, no worker."""
    with Stack(tmp_path_factory.mktemp("many"), web=1, workers=0) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.urls[0]) as client:
        yield client
    wait_until(lambda: stack.streams() == 0, what="no stream is left open")


def test_600_documents_are_watched_on_two_streams(stack: Stack, store: Store, client: Client) -> None:
    """One iterator brings the states of all, each to its end."""
    there = [records.new_document(store) for _ in range(MANY)]
    states = client.watch(*there)
    first = {state.id for state in itertools.islice(states, MANY)}
    assert first == set(there)
    assert stack.streams() == 2
    for document_id in there:
        records.finish(store, document_id)
    assert {state.id for state in states if state.is_final} == set(there)


def test_whoever_stops_watching_leaves_no_stream(stack: Stack, store: Store, client: Client) -> None:
    """Both are closed, although the documents go on."""
    states = client.watch(*(records.new_document(store) for _ in range(MANY)))
    assert len(list(itertools.islice(states, MANY))) == MANY  # from here on both are silent
    assert stack.streams() == 2
    states.close()  # type: ignore[attr-defined]
    wait_until(lambda: stack.streams() == 0, within_seconds=5, what="both are closed, before a heartbeat")


def test_documents_that_come_one_by_one_share_the_streams(stack: Stack, store: Store, client: Client) -> None:
    """As with `ingest submit --follow`: 600 submitted in a row end up on two streams, and each comes to its end."""
    finals: dict[str, State] = {}
    seen: set[str] = set()

    def show(state: State) -> None:
        seen.add(state.id)
        if state.is_final:
            finals[state.id] = state

    following = Following(client, show)
    there = []
    for _ in range(MANY):
        there.append(records.new_document(store))
        following.add(there[-1])
    wait_until(lambda: seen == set(there), what="all are on streams")
    assert stack.streams() == 2
    for document_id in there:
        records.finish(store, document_id)
    following.wait()
    assert set(finals) == set(there)
