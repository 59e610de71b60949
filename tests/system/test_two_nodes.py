"""Two web nodes behind a balancer: whichever node a viewer is on, and whatever becomes of it, it sees the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from shared import keys
from shared.jobs import Status
from shared.protocol import Stage
from shared.store import Store
from tests import pdfs
from tests.awaiting import wait_until
from tests.records import new_document
from tests.stack import Balancer, Stack, WebNode

PAGES = 10

Events: TypeAlias = Iterator[ServerSentEvent]


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """No worker: the tests write what a worker would."""
    with Stack(tmp_path_factory.mktemp("nodes"), web=2, workers=0, balancer=True) as stack:
        yield stack


@pytest.fixture(autouse=True)
def _in_order(stack) -> None:
    """Every node is up, nobody watches, and Redis knows that."""
    for node in stack.web:
        if not node.alive:
            node.start()
    for node in stack.web:
        wait_until(node.ready, what=f"{node.name} ready")
        wait_until(lambda node=node: open_streams(node) == 0, what=f"nobody on {node.name}")
    wait_until(lambda: watched(stack) == [], what="no subscription")


@pytest.fixture
def balancer(stack) -> Balancer:
    assert stack.balancer
    return stack.balancer


@contextmanager
def watching(url: str, document_id: str, last_event_id: str = "") -> Iterator[Events]:
    """The events of a document, as they come, from one node or through the balancer."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    path = f"{url}/status/stream/{document_id}"
    with httpx.Client(timeout=10) as http, connect_sse(http, "GET", path, headers=headers) as source:
        assert source.response.status_code == 200
        yield (event for event in source.iter_sse() if event.data)


def until_cut(events: Events) -> list[ServerSentEvent]:
    """What still comes until the connection is lost."""
    came = []
    try:
        for event in events:
            came.append(event)  # noqa: PERF402 - what came before the cut counts
    except httpx.RemoteProtocolError:
        pass
    return came


def seqs(events: list[ServerSentEvent]) -> list[int]:
    return [int(event.id) for event in events]


def parse_page(store: Store, document_id: str, page: int) -> None:
    stage = Stage(done=page, total=PAGES, unit="pages")
    message = f"Parsed {page} of {PAGES} pages"
    store.record(document_id, 1, Status.PARSING, message, progress=8 * page, stage=stage)


def complete(store: Store, document_id: str) -> None:
    store.record(document_id, 1, Status.CHUNKING, "Chunking", progress=85)
    store.record(document_id, 1, Status.LOADING, "Loading", progress=95)
    store.record(document_id, 1, Status.COMPLETED, "Completed", progress=100)


def open_streams(node: WebNode) -> int:
    return httpx.get(f"{node.url}/readyz").json()["streams"]


def node_of_the_viewer(stack: Stack) -> WebNode:
    """Where the balancer has put the only viewer."""
    nodes = [node for node in stack.web if node.alive]
    return wait_until(lambda: next((node for node in nodes if open_streams(node)), None), what="a viewer somewhere")


def watched(stack: Stack) -> list[str]:
    """The channels that some node is subscribed to."""
    with stack.redis() as redis:
        return [channel.decode() for channel in redis.pubsub_channels()]


def nodes_watching(stack: Stack, document_id: str) -> int:
    with stack.redis() as redis:
        return redis.pubsub_numsub(keys.channel(document_id))[0][1]


def test_every_viewer_sees_the_same_events_on_whichever_node(stack, balancer, store, document):
    """Same ids, same bytes, nothing left out: on each node, and through the balancer."""
    with ExitStack() as streams:
        viewers = [streams.enter_context(watching(url, document)) for url in (*stack.urls, *stack.urls, balancer.url)]
        first = [next(viewer) for viewer in viewers]
        for page in range(1, PAGES + 1):
            parse_page(store, document, page)
        complete(store, document)
        seen = [[event, *viewer] for event, viewer in zip(first, viewers, strict=True)]

    assert seqs(seen[0]) == list(range(1, 1 + PAGES + 3 + 1))
    as_bytes = [[(event.id, event.event, event.data.encode()) for event in events] for events in seen]
    assert all(events == as_bytes[0] for events in as_bytes)
    assert as_bytes[0][-1][2] == store.state_json(document)


def test_an_event_passes_the_balancer_when_it_happens(balancer, store, document):
    """Nothing between the worker and the browser waits for more to come."""
    with watching(balancer.url, document) as events:
        assert next(events).id == "1"
        for page in range(1, PAGES + 1):
            parse_page(store, document, page)
            assert json.loads(next(events).data)["message"] == f"Parsed {page} of {PAGES} pages"


def test_a_node_has_one_connection_for_all_that_is_watched(stack, store):
    """However many documents and viewers: Redis sees one subscriber connection per web process."""
    documents = [new_document(store) for _ in range(3)]
    with ExitStack() as streams:
        for document_id in documents:
            for url in (*stack.urls, *stack.urls):
                next(streams.enter_context(watching(url, document_id)))
        with stack.redis() as redis:
            subscribers = redis.client_list(_type="pubsub")
        assert [int(client["sub"]) for client in subscribers] == [3, 3]
        assert sorted(watched(stack)) == sorted(map(keys.channel, documents))


def test_a_node_listens_for_a_document_as_long_as_someone_there_watches_it(stack, store, document):
    """Each node counts its own viewers; when the last has left, its subscription is gone a moment later."""
    here, there = stack.urls
    with watching(here, document) as stays:
        with watching(here, document) as leaves, watching(there, document) as alone:
            assert [next(viewer).id for viewer in (stays, leaves, alone)] == ["1", "1", "1"]
            assert nodes_watching(stack, document) == 2
        wait_until(lambda: nodes_watching(stack, document) == 1, within_seconds=5)
        parse_page(store, document, 1)
        assert next(stays).id == "2"
    wait_until(lambda: watched(stack) == [], within_seconds=5)


@pytest.mark.parametrize("end", [WebNode.kill, WebNode.stop], ids=["killed", "stopped"])
def test_a_viewer_whose_node_is_gone_misses_nothing(stack, balancer, store, document, end):
    """It comes back through the balancer with its Last-Event-ID and gets the rest from the other node: all, once."""
    with watching(balancer.url, document) as events:
        parse_page(store, document, 1)
        before = [next(events), next(events)]
        node = node_of_the_viewer(stack)
        parse_page(store, document, 2)
        end(node)
        before += until_cut(events)
    for page in range(3, PAGES + 1):
        parse_page(store, document, page)

    with watching(balancer.url, document, before[-1].id) as events:
        assert node_of_the_viewer(stack) is not node
        complete(store, document)
        after = list(events)
    assert seqs(before + after) == list(range(1, 1 + PAGES + 3 + 1))


def test_a_node_that_comes_back_gets_viewers_again(stack, balancer, document):
    """The balancer finds by itself that a node is there again."""
    node = stack.web[0]
    node.kill()
    with watching(balancer.url, document):
        assert node_of_the_viewer(stack) is stack.web[1]
        node.start()
        with ExitStack() as streams:
            wait_until(node.ready)

            def comes() -> bool:
                streams.enter_context(watching(balancer.url, document))
                return open_streams(node) > 0

            wait_until(comes, what="a viewer on the node that came back")


def test_the_final_event_is_the_end_on_every_node(stack, balancer, store, document):
    """The response ends with it; whoever reconnects with its id is told to stop, anywhere."""
    with watching(stack.urls[0], document) as events:
        complete_from_pending(store, document)
        last = list(events)[-1]
    assert json.loads(last.data)["status"] == "COMPLETED"
    for url in (*stack.urls, balancer.url):
        answer = httpx.get(f"{url}/status/stream/{document}", headers={"Last-Event-ID": last.id})
        assert (answer.status_code, answer.content) == (204, b"")


def complete_from_pending(store: Store, document_id: str) -> None:
    parse_page(store, document_id, PAGES)
    complete(store, document_id)


def test_with_no_node_left_a_stream_is_told_to_come_back(stack, balancer, document):
    """An EventSource gives up for good on a 503, so it gets a 200 and a delay; everyone else gets the error."""
    for node in stack.web:
        node.kill()
    paths = [f"/status/stream/{document}", f"/status/stream?id={document}", f"/status/{document}"]
    with ThreadPoolExecutor() as pool:
        one, many, state = pool.map(lambda path: httpx.get(balancer.url + path, timeout=20), paths)
    for stream in (one, many):
        assert (stream.status_code, stream.headers["Content-Type"]) == (200, "text/event-stream")
        assert stream.text == "retry: 5000\n\n"
    assert state.status_code in (502, 503)


def test_without_redis_a_stream_is_told_to_come_back(stack, balancer, document):
    """No EventSource is lost: neither while the balancer still asks the nodes, nor when it finds none of them ready."""

    def ask(path: str) -> httpx.Response:
        return httpx.get(balancer.url + path, timeout=20)

    stream = f"/status/stream/{document}"
    stack.cut_redis()
    try:
        with ThreadPoolExecutor() as pool:
            asked_at_once = pool.submit(ask, stream)
            wait_until(lambda: ask("/readyz").text == "503 Service Unavailable", what="the balancer finds no node")
            answers = [asked_at_once.result(), ask(stream)]
    finally:
        stack.restore_redis()
    for answer in answers:
        assert answer.status_code == 200
        assert answer.text.splitlines()[-2].startswith("retry: ")


def test_a_document_uploaded_through_the_balancer_is_watched_from_everywhere(tmp_path):
    """The whole way with a real worker: one upload, three viewers, one result on every node."""
    with Stack(tmp_path, web=2, workers=1, balancer=True) as stack, ExitStack() as streams:
        assert stack.balancer
        urls = [*stack.urls, stack.balancer.url]
        upload = httpx.post(f"{stack.balancer.url}/ingestions", files={"file": ("a.pdf", pdfs.prose(40))})
        assert upload.status_code == 202
        document_id = upload.json()["id"]
        viewers = [streams.enter_context(watching(url, document_id)) for url in urls]
        seen = [list(viewer) for viewer in viewers]

        final = json.loads(seen[0][-1].data)
        assert (final["status"], final["progress"]) == ("COMPLETED", 100)
        # They came at different times: from where the last one begins, they agree to the byte.
        begins = max(seqs(events)[0] for events in seen)
        tails = [[(event.id, event.data) for event in events if int(event.id) >= begins] for events in seen]
        assert seqs(seen[0]) == list(range(seqs(seen[0])[0], int(seen[0][-1].id) + 1))
        assert all(tail == tails[0] for tail in tails)
        results = {httpx.get(f"{url}/ingestions/{document_id}/chunks").content for url in urls}
        assert len(results) == 1
        assert results.pop()
