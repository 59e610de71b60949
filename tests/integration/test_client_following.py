"""Documents that are followed while others are being followed already, against a server that answers by script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest_client import Client, RequestRefused
from ingest_client.following import Following
from shared.protocol import State
from tests.awaiting import wait_until
from tests.scripted_server import (
    Exchange,
    ScriptedServer,
    a_state,
    completed,
    event,
    no_content,
    problem,
    retry,
    stream,
)

ALONE = "GET /status/stream/A"
TOGETHER = "GET /status/stream?id=A&id=B"


class Audience:
    """Who is shown the states."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def show(self, state: State) -> None:
        self.states.append(state)

    @property
    def heard(self) -> list[tuple[str, int]]:
        return [(state.id, state.seq) for state in self.states]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def audience() -> Audience:
    return Audience()


@pytest.fixture
def following(server: ScriptedServer, audience: Audience) -> Iterator[Following]:
    with Client(server.url, patience_seconds=10) as client:
        yield Following(client, audience.show)


def test_a_document_that_is_added_joins_the_stream(
    server: ScriptedServer, following: Following, audience: Audience
) -> None:
    """The connection is closed, and another is made for both: with the states as they stand, none shown twice."""
    left: list[bytes] = []

    def until_left(exchange: Exchange) -> None:
        left.append(exchange.connection.recv(1))

    server.on(ALONE, stream(event(a_state("A", 1)), then=until_left))
    server.on(
        TOGETHER,
        stream(event(a_state("A", 1), "1.0"), event(completed("B"), "1.9"), event(completed("A"), "9.9")),
    )
    following.add("A")
    wait_until(lambda: audience.heard == [("A", 1)], what="A is followed")
    following.add("B")
    following.wait()
    assert audience.heard == [("A", 1), ("B", 9), ("A", 9)]
    wait_until(lambda: left == [b""], what="the first connection is closed")
    assert "last-event-id" not in server.asked(TOGETHER)[0].headers


def test_a_document_that_is_over_is_not_asked_for_again(
    server: ScriptedServer, following: Following, audience: Audience
) -> None:
    """A stream has room for as many documents as run."""
    server.on(TOGETHER, stream(event(completed("A"), "9.0"), then=Exchange.stay_silent))
    server.on("GET /status/stream?id=B&id=C", stream(event(completed("C"), "0.9"), event(completed("B"), "9.9")))
    following.add("A", "B")
    wait_until(lambda: audience.heard == [("A", 9)], what="A is over")
    following.add("C")
    following.wait()
    assert audience.heard == [("A", 9), ("C", 9), ("B", 9)]


def test_a_document_that_is_added_while_the_server_is_away_is_followed_with_the_others(
    server: ScriptedServer, following: Following, audience: Audience
) -> None:
    """It does not wait for its turn behind a pause between two attempts."""
    server.on(ALONE, stream(retry(60_000), event(a_state("A", 1))))
    server.on(TOGETHER, stream(event(completed("A"), "9.0"), event(completed("B"), "9.9")))
    following.add("A")
    wait_until(lambda: audience.heard, what="A is followed")
    following.add("B")
    following.wait()
    assert audience.heard == [("A", 1), ("A", 9), ("B", 9)]


def test_204_ends_the_following(server: ScriptedServer, following: Following, audience: Audience) -> None:
    """The server's word that nothing is left to tell is believed, and a later document is followed all the same."""
    server.on(ALONE, no_content)
    server.on("GET /status/stream/B", stream(event(completed("B"))))
    following.add("A")
    following.wait()
    following.add("B")
    following.wait()
    assert audience.heard == [("B", 9)]


def test_an_error_that_waiting_will_not_mend_ends_it(server: ScriptedServer, following: Following) -> None:
    """It is raised where the end is waited for."""
    server.on(ALONE, problem(404, "unknown_ingestion", "There is no such ingestion."))
    following.add("A")
    with pytest.raises(RequestRefused, match="no such ingestion"):
        following.wait()
