"""The client's `watch` against a server that breaks off, restarts, repeats itself and falls silent."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from ingest_client import Client, RequestRefused, ServerUnreachable, UnexpectedAnswer
from tests.awaiting import wait_until
from tests.scripted_server import (
    Exchange,
    ScriptedServer,
    a_state,
    answer,
    completed,
    event,
    no_content,
    problem,
    retry,
    stream,
)

QUICK = retry(10)
ROUTE = "GET /status/stream/A"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.url, patience_seconds=10) as client:
        yield client


def seqs(client: Client, *ids: str) -> list[int]:
    return [state.seq for state in client.watch(*ids)]


def test_it_yields_each_state_and_ends_with_the_final_one(server: ScriptedServer, client: Client) -> None:
    """The iterator ends after the final state, although the server keeps the connection open."""
    final = completed(seq=3)
    server.on(ROUTE, stream(event(a_state(seq=1)), event(a_state(seq=2)), event(final), then=Exchange.stay_silent))
    assert list(client.watch("A")) == [a_state(seq=1), a_state(seq=2), final]


def test_a_broken_connection_is_resumed_with_the_last_event_id(server: ScriptedServer, client: Client) -> None:
    """After a reset, the next request says where to go on, and no state comes twice."""
    server.on(
        ROUTE,
        stream(QUICK, event(a_state(seq=1)), event(a_state(seq=2)), then=Exchange.reset),
        stream(event(a_state(seq=2)), event(a_state(seq=3)), event(completed(seq=4))),
    )
    assert seqs(client, "A") == [1, 2, 3, 4]
    assert [request.headers.get("last-event-id") for request in server.asked(ROUTE)] == [None, "2"]


def test_an_orderly_end_before_the_final_state_is_resumed_too(server: ScriptedServer, client: Client) -> None:
    """A server that drains closes its streams; the client comes back."""
    server.on(ROUTE, stream(QUICK, event(a_state(seq=1))), stream(event(completed(seq=2))))
    assert seqs(client, "A") == [1, 2]


def test_half_an_event_counts_for_nothing(server: ScriptedServer, client: Client) -> None:
    """An event cut off in the middle is neither shown nor taken for the place to resume from."""
    cut = event(a_state(seq=2))[:-1]
    server.on(
        ROUTE,
        stream(QUICK, event(a_state(seq=1)), cut),
        stream(event(a_state(seq=2)), event(completed(seq=3))),
    )
    assert seqs(client, "A") == [1, 2, 3]
    assert server.asked(ROUTE)[1].headers["last-event-id"] == "1"


def test_many_documents_share_one_stream_and_an_opaque_cursor(server: ScriptedServer, client: Client) -> None:
    """The event id of a stream of several documents goes back to the server as it came."""
    route = "GET /status/stream?id=A&id=B"
    server.on(
        route,
        stream(QUICK, event(a_state("A", 1), "1.0"), event(completed("B", 5), "1.5")),
        stream(event(completed("A", 2), "2.5")),
    )
    assert [(state.id, state.seq) for state in client.watch("A", "B", "A")] == [("A", 1), ("B", 5), ("A", 2)]
    assert [request.headers.get("last-event-id") for request in server.asked(route)] == [None, "1.5"]


def test_204_ends_the_watch(server: ScriptedServer, client: Client) -> None:
    """The server's word that nothing is left to tell is believed."""
    server.on(ROUTE, stream(QUICK, event(a_state(seq=1))), no_content)
    assert seqs(client, "A") == [1]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_balancer_without_a_server_is_waited_for(server: ScriptedServer, client: Client, status: int) -> None:
    """What a balancer answers while the server restarts is no reason to give up."""
    server.on(
        ROUTE,
        stream(QUICK, event(a_state(seq=1))),
        problem(status, "unavailable", "Not now."),
        stream(event(completed(seq=2))),
    )
    assert seqs(client, "A") == [1, 2]


def test_a_server_that_restarts_is_waited_for(server: ScriptedServer, client: Client) -> None:
    """Refused connections are tried again until the server is back."""
    server.on(ROUTE, stream(QUICK, event(a_state(seq=1))), stream(event(completed(seq=2))))
    states = client.watch("A")
    assert next(states).seq == 1
    server.go_down()
    returning = threading.Timer(0.5, server.come_up)
    returning.start()
    assert next(states).seq == 2
    returning.join()


def test_a_silent_connection_is_taken_for_dead(server: ScriptedServer) -> None:
    """Without a sign of life for longer than two heartbeats, the client connects again and resumes."""
    server.on(ROUTE, stream(QUICK, event(a_state(seq=1)), then=Exchange.stay_silent), stream(event(completed(seq=2))))
    with Client(server.url, silence_seconds=0.3) as client:
        assert seqs(client, "A") == [1, 2]


def test_heartbeats_keep_a_quiet_connection_alive(server: ScriptedServer) -> None:
    """Comments count as a sign of life, though they bring nothing."""

    def beat(exchange: Exchange) -> None:
        for _ in range(8):
            exchange.send(b":\n\n")
            exchange.closing.wait(0.2)
        exchange.send(event(completed(seq=2)))

    server.on(ROUTE, stream(QUICK, event(a_state(seq=1)), then=beat))
    with Client(server.url, silence_seconds=1) as client:
        assert seqs(client, "A") == [1, 2]
    assert len(server.asked(ROUTE)) == 1


def test_it_gives_up_when_the_server_stays_away(server: ScriptedServer) -> None:
    """After the patience is over, the error names the server and the reason."""
    server.on(ROUTE, stream(QUICK, event(a_state(seq=1))))
    with Client(server.url, patience_seconds=0.5) as client:
        states = client.watch("A")
        assert next(states).seq == 1
        server.go_down()
        with pytest.raises(ServerUnreachable, match=rf"{server.url} can't be reached: .*refused"):
            next(states)


def test_a_server_that_always_hangs_up_is_still_reached(server: ScriptedServer) -> None:
    """Patience is about a server that can't be reached; one that accepts and closes is tried again and again."""
    closing = [stream(QUICK)] * 3
    server.on(ROUTE, *closing, stream(event(completed(seq=1))))
    with Client(server.url, patience_seconds=0) as client:
        assert seqs(client, "A") == [1]


def test_an_error_that_waiting_will_not_mend_is_raised(server: ScriptedServer, client: Client) -> None:
    """An unknown id is told at once, with the server's code."""
    with pytest.raises(RequestRefused, match="no such ingestion") as caught:
        next(client.watch("A"))
    assert (caught.value.status, caught.value.code) == (404, "unknown_ingestion")


def test_something_else_at_the_address_is_told_apart(server: ScriptedServer, client: Client) -> None:
    """A page where a stream should be is an error, not an endless wait."""
    server.on(ROUTE, answer("200 OK", "text/html", b"<h1>It works!</h1>"))
    with pytest.raises(UnexpectedAnswer, match="text/html"):
        next(client.watch("A"))


def test_nothing_to_watch_is_no_request(server: ScriptedServer, client: Client) -> None:
    """No ids, no states."""
    assert list(client.watch()) == []
    assert server.requests == []


def test_leaving_the_loop_closes_the_connection(server: ScriptedServer, client: Client) -> None:
    """Who stops iterating leaves no stream open on the server."""
    gone: list[bytes] = []

    def until_gone(exchange: Exchange) -> None:
        gone.append(exchange.connection.recv(1))

    server.on(ROUTE, stream(event(a_state(seq=1)), then=until_gone))
    for _ in itertools.islice(client.watch("A"), 1):
        pass
    wait_until(lambda: gone == [b""], what="the server sees the client leave")
