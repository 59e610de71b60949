"""The sweeper: finds the parts whose workers are gone, and sees to it that whatever waits is worked on.

It runs in a thread of each worker's parent process; a lock in Redis lets one of them sweep at a time. Nothing depends
on a message of the broker: when one is lost, or all of them, the sweeper sends others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import kombu.exceptions
import redis
import structlog
from celery import Celery, bootsteps

from ingest_worker.forecast import Prospect, Rate, prospects, worth_telling
from ingest_worker.stages.findings import counted
from shared import connections, keys, outbox, processes, task_names
from shared.broker import hint, send
from shared.config import Settings
from shared.connections import translated
from shared.errors import AlreadyFinished, Refused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.retention import Retention
from shared.store import Store
from shared.worklist import Queued, Worklist

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 0.5

#: The lock outlives its holder by no more than this.
LOCK_SECONDS = 2.0

#: So many documents are looked over in each sweep, beside those in hand, until all have been.
AUDITED_PER_SWEEP = 100

#: So many documents that wait are told of their place in the queue.
MOST_TOLD = 200

#: While there is something to remove, a worker is asked to at most this often.
EXPIRE_SECONDS = 30.0

#: A worker is asked to look for files that no document leads to so often.
TIDY_SECONDS = 3600.0

#: No more messages than this wait in the queue on the sweeper's account.
MOST_HINTS = 64


class Sweeper:
    """One sweep at a time; whoever calls `sweep` is the only one, if the lock says so."""

    def __init__(
        self, app: Celery, client: redis.Redis, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._clock = clock
        self._redis = client
        self._settings = settings
        self._worklist = Worklist(client, settings)
        self._store = Store(client, settings)
        self._retention = Retention(client, settings)
        self._name = processes.new_name()
        self._audit: Iterator[str] = iter(())
        self._may_take_back_at = 0.0
        self._expire_at = 0.0
        self._tidy_at = clock() + TIDY_SECONDS
        self._rate = Rate()

    def sweep(self) -> None:
        """Look over what is in hand and some of the rest, and call for workers. Raises `StoreUnavailable`."""
        if not self._holds_lock():
            return
        in_hand = self._worklist.in_hand()
        if self._clock() >= self._may_take_back_at:
            audited = self._next_to_audit()
            self._store.seats.keep(audited)
            for document_id in {*in_hand, *audited}:
                self._look_over(document_id)
        self._rate.see(self._clock(), self._worklist.served_bytes(), is_at_work=bool(in_hand))
        self._tell_the_waiting()
        try:
            self._call_workers()
            self._expire()
            self._tidy()
        except StoreUnavailable as error:  # the broker's trouble is no reason to look after nothing
            log.debug("workers.not_called", reason=error.detail)

    def pause(self) -> None:
        """Redis was away: no lease could be renewed, so none is taken back until its holder has had the time to."""
        self._may_take_back_at = self._clock() + self._settings.lease_seconds

    def _holds_lock(self) -> bool:
        with translated():
            if self._redis.set(keys.SWEEPING, self._name, nx=True, px=round(LOCK_SECONDS * 1000)):
                return True
            if self._redis.get(keys.SWEEPING) != self._name.encode():
                return False
            self._redis.pexpire(keys.SWEEPING, round(LOCK_SECONDS * 1000))
            return True

    def _next_to_audit(self) -> list[str]:
        found = list(islice(self._audit, AUDITED_PER_SWEEP))
        if len(found) < AUDITED_PER_SWEEP:
            self._audit = self._worklist.every()
        return found

    def _look_over(self, document_id: str) -> None:
        try:
            standing = self._worklist.lapse(document_id)
        except AlreadyFinished:
            self._store.retire(document_id)
        except UnknownIngestion:
            self._store.forget(document_id)
        else:
            for part in standing.lost:
                log.warning("worker.lost", id=document_id, part=part.name)
            outbox.mend(self._redis, document_id)

    def _call_workers(self) -> None:
        wanted = self._worklist.claimable(MOST_HINTS)
        for _ in range(wanted - self._hints_waiting() if wanted else 0):
            hint(self._app)

    def _expire(self) -> None:
        """Have a worker remove what is over: files and rows are no business of this process."""
        if self._clock() < self._expire_at or not self._retention.expired(1):
            return
        self._expire_at = self._clock() + EXPIRE_SECONDS
        send(self._app, task_names.EXPIRE)

    def _tidy(self) -> None:
        if self._clock() >= self._tidy_at:
            send(self._app, task_names.TIDY)
            self._tidy_at = self._clock() + TIDY_SECONDS

    def _tell_the_waiting(self) -> None:
        queue = self._worklist.queue(MOST_TOLD)
        if not queue:
            return
        sizes = [document.size_bytes for document in queue]
        left = self._worklist.left_bytes(MOST_TOLD)
        for document, now in zip(queue, prospects(sizes, left, self._rate.bytes_per_second), strict=True):
            told = Prospect(document.position or 0, document.eta_seconds)
            if worth_telling(told, now):
                self._tell(document, now)

    def _tell(self, document: Queued, prospect: Prospect) -> None:
        ahead = prospect.position - 1
        with suppress(Refused, UnknownIngestion):  # a worker has just begun with it
            self._store.record(
                document.document_id,
                document.attempt,
                Status.PENDING,
                f"Waiting for a worker, {counted(ahead, 'document')} ahead" if ahead else "Waiting for a worker",
                queue_position=prospect.position,
                eta_seconds=prospect.eta_seconds,
            )

    def _hints_waiting(self) -> int:
        # Not `passive`: kombu then looks for the queue under a name without its prefix, and never finds it.
        try:
            with self._app.connection_or_acquire() as connection:
                queue: Any = self._app.amqp.queues[task_names.QUEUE].bind(connection.default_channel)
                return int(queue.queue_declare().message_count)
        except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
            raise StoreUnavailable("The broker can't be reached.") from error


class _Thread:
    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(SWEEP_SECONDS):
            try:
                self._sweeper.sweep()
            except StoreUnavailable as error:
                log.debug("sweep.not_possible", reason=error.detail)
                self._sweeper.pause()
            except Exception:  # a sweep that fails must not be the last
                log.exception("sweep.failed")


def step(app: Celery, settings: Settings) -> type[bootsteps.StartStopStep]:
    """The part of a Celery worker's start and stop that runs the sweeper."""

    class SweeperStep(bootsteps.StartStopStep):
        """Starts the thread with the worker."""

        requires = ("celery.worker.components:Pool",)  # its first children are forked without the thread

        def create(self, _worker: object) -> Any:
            """What is started and stopped."""
            client = connections.hasty_client(settings)
            return _Thread(Sweeper(app, client, settings))

    return SweeperStep
