"""Watching documents over as many connections as it takes: connect, resume, wait, give up.

The rules are elsewhere (`reconnect`: when to try again; `sequence`: what is news); here are the sockets and the clock.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from threading import Condition
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError

from ingest_client.errors import RequestRefused, ServerUnreachable, UnexpectedAnswer, unreachable
from ingest_client.reconnect import ReconnectPolicy
from ingest_client.sequence import Sequence
from shared.protocol import State

#: What the server puts on one stream.
MOST_DOCUMENTS = 500


class Stream:
    """An iterator of states for some documents. It ends after the final state of each, or when the server says so.

    One thread iterates; `add` and `stop` may be called from any. After documents were added, it can be iterated again.
    """

    def __init__(self, http: httpx.Client, ids: Iterable[str], policy: ReconnectPolicy, timeout: httpx.Timeout) -> None:
        """``ids``: at most `MOST_DOCUMENTS`. ``timeout.read`` is the longest silence: a server that lives sends a
        heartbeat before.
        """
        self._http = http
        self._sequence = Sequence(ids)
        self._policy = policy
        self._timeout = timeout
        self._fruitless = 0
        self._reached_at = time.monotonic()
        self._changed = Condition()
        self._newcomers: list[str] = []
        self._stopped = False
        self._socket: socket.socket | None = None

    @property
    def finished(self) -> bool:
        """Whether the last word on every document has been seen."""
        return self._stopped or not (self._newcomers or self._sequence.running)

    @property
    def room(self) -> int:
        """How many documents may be added."""
        return MOST_DOCUMENTS - len(self._newcomers) - self._sequence.running

    def add(self, ids: Iterable[str]) -> None:
        """Watch these too, at most `room`: the connection is made anew, with all that is not over."""
        with self._changed:
            self._newcomers.extend(ids)
            self._interrupt()

    def stop(self) -> None:
        """End the iteration, and close the connection."""
        with self._changed:
            self._stopped = True
            self._interrupt()

    def __iter__(self) -> Iterator[State]:
        while not self.finished:
            self._admit()
            self._fruitless += 1
            try:
                for state in self._connection():
                    self._fruitless = 0
                    yield state
                trouble = None
            except httpx.RequestError as error:
                trouble = unreachable(error)
                trouble.__cause__ = error
            except RequestRefused as error:
                if not error.is_temporary:
                    raise
                trouble = ServerUnreachable(f"{self._http.base_url} can't be reached: {error.detail}")
                trouble.__cause__ = error
            if not self.finished:
                self._wait(trouble)

    def _admit(self) -> None:
        with self._changed:
            if self._newcomers:
                self._sequence.grow(self._newcomers)
                self._newcomers = []
                self._fruitless = 0

    def _interrupt(self) -> None:
        # Only so can a thread be woken that reads: closing would free the descriptor under its hands.
        if self._socket is not None:
            with suppress(OSError):  # the other side may have been first
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._changed.notify_all()

    def _connection(self) -> Iterator[State]:
        with self._http.stream("GET", self._url(), headers=self._headers(), timeout=self._timeout) as response:
            if response.status_code not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
                response.read()
                raise RequestRefused.from_answer(response)
            self._reached_at = time.monotonic()
            if response.status_code == HTTPStatus.NO_CONTENT:
                self._sequence.finish()
                return
            try:
                self._hold(response.extensions["network_stream"])
                yield from self._news_in(response)
            finally:
                self._hold(None)
                self._reached_at = time.monotonic()

    def _hold(self, connection: Any) -> None:
        with self._changed:
            self._socket = connection and connection.get_extra_info("socket")
            if self._socket is not None and self._is_interrupted:
                self._interrupt()

    @property
    def _is_interrupted(self) -> bool:
        return self._stopped or bool(self._newcomers)

    def _news_in(self, response: httpx.Response) -> Iterator[State]:
        try:
            for event in EventSource(response).iter_sse():
                state = self._sequence.take(event)
                if state is not None:
                    yield state
                if self._sequence.finished or self._is_interrupted:
                    return
        except (SSEError, ValueError) as error:
            raise UnexpectedAnswer(f"not a stream of ingest-live: {error}") from error

    def _url(self) -> str:
        first, *others = ids = [quote(document_id, safe="") for document_id in self._sequence.ids]
        return "/status/stream?" + "&".join(f"id={one}" for one in ids) if others else f"/status/stream/{first}"

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._sequence.last_event_id:
            headers["Last-Event-ID"] = self._sequence.last_event_id
        return headers

    def _wait(self, trouble: ServerUnreachable | None) -> None:
        remaining = self._policy.remaining_seconds(time.monotonic() - self._reached_at)
        if trouble and not remaining and not self._is_interrupted:
            raise trouble
        chance = random.random()  # noqa: S311 - it spreads clients, it keeps no secret
        delay = self._policy.delay_seconds(self._sequence.retry_seconds, self._fruitless, chance)
        with self._changed:
            # A last attempt is made when the patience ends, not one wait later.
            self._changed.wait_for(lambda: self._is_interrupted, min(delay, remaining) if trouble else delay)
