"""The courier: a process that delivers webhooks. ``python -m ingest_worker.courier``; any number of them.

In turns on one thread it settles what came back, takes over what is in the outboxes, and claims what is due; what it
has claimed is sent on the event loop beside that. A signal of Redis begins a turn at once, and so does an attempt that
ends. Without a signal there is one each second: nothing depends on it.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis
import structlog

from ingest_worker import verdicts
from ingest_worker.collector import Collector
from ingest_worker.egress import Egress
from ingest_worker.lanes import Claim, Claims, Lanes, Outcome
from ingest_worker.sender import LeaseOver, Sender, Sent
from ingest_worker.shares import SLOW_SECONDS, Bounds, Shares
from shared import addresses, connections, logs, processes
from shared.config import Settings
from shared.deliveries import Attempt, Deliveries, DeliveryState, Fault
from shared.endpoints import Endpoints
from shared.errors import SettingsError, StoreUnavailable
from shared.outbox import OUTCOMES, Outbox
from shared.sealing import Seal
from shared.webhook_tables import WebhookDatabase

log = structlog.get_logger("ingest_worker.courier")  # it is run as __main__

#: A turn at least so often.
TURN_SECONDS = 1.0

#: A lease outlives the longest attempt by so much: the courier may have to wait for the database to say how it went.
LEASE_MARGIN_SECONDS = 5.0

#: At shutdown, attempts that take longer are broken off and handed back.
GRACE_SECONDS = 5.0

#: A Redis that was away is asked again after so long.
AWAY_SECONDS = 2.0

#: What is old is looked for so often.
PURGE_SECONDS = 60.0

#: What came of an attempt, for the figures, by what follows from it.
_OUTCOME_OF = dict(zip((DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.FAILED), OUTCOMES, strict=True))

#: A courier that is well says so at least this often, by the time of a file.
ALIVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Sending:
    claim: Claim
    since: float  # monotonic, in seconds


class Courier:
    """One process's share of all deliveries. `run` may be called once."""

    def __init__(self, settings: Settings, database: WebhookDatabase, client: redis.Redis, sender: Sender) -> None:
        self._settings = settings
        self._lanes = Lanes(database)
        self._deliveries = Deliveries(database)
        self._endpoints = Endpoints(database)
        self._outbox = Outbox(client, processes.new_name())
        self._collector = Collector(self._outbox, self._deliveries)
        self._sender = sender
        self._bounds = Bounds.of(settings.webhook_concurrency, settings.webhook_endpoint_concurrency)
        self._delays = verdicts.schedule(settings.webhook_retry_seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turns")
        self._wake = asyncio.Event()
        self._stopping = False
        self._sending: dict[asyncio.Task[Outcome | None], _Sending] = {}
        self._ended: list[Outcome] = []
        self._purge_at = 0.0
        self._redis_from = 0.0

    async def run(self) -> None:
        """Deliver until `stop`."""
        loop = asyncio.get_running_loop()
        ears = _Ears(self._outbox, lambda: loop.call_soon_threadsafe(self._wake.set))
        ears.start()
        try:
            while not self._stopping:
                next_at = await self._turn()
                await self._rest(next_at)
        finally:
            ears.stop()
            await self._hand_back()
            self._thread.shutdown()

    def stop(self) -> None:
        """Claim nothing more, and end."""
        self._stopping = True
        self._wake.set()

    async def _rest(self, next_at: float | None) -> None:
        seconds = TURN_SECONDS if next_at is None else min(TURN_SECONDS, max(0.0, next_at - time.time()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    async def _turn(self) -> float | None:
        """Settle, take over, claim, and begin to send. Gives when something will be due."""
        slow_since = time.monotonic() - SLOW_SECONDS
        slow = sum(sending.since < slow_since for sending in self._sending.values())
        shares = Shares(self._bounds, [sending.claim.endpoint for sending in self._sending.values()], slow)
        ended, self._ended = self._ended, []
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._take, ended, shares)
        except StoreUnavailable as error:
            log.warning("courier.waits", reason=error.detail)
            self._ended += ended
            return None
        except Exception:  # a turn that fails must not be the last; what it had in hand is due again by its lease
            log.exception("courier.turn_failed")
            return None
        for claim in found.claims:
            task = asyncio.create_task(self._deliver(claim))
            self._sending[task] = _Sending(claim, time.monotonic())
            task.add_done_callback(self._note_end)
        if not shares.room:  # soon those that are in hand are slow, and there is
            return min(found.next_at or math.inf, time.time() + SLOW_SECONDS)
        return found.next_at

    def _take(self, ended: list[Outcome], shares: Shares) -> Claims:
        if ended:
            settled = self._lanes.settle(ended)
            ended.clear()
            self._report(settled)
            self._count(settled)
        self._with_redis(self._collect)
        self._purge()
        _say_alive()
        return self._lanes.claim(shares, self._settings.webhook_seconds + LEASE_MARGIN_SECONDS)

    def _collect(self) -> None:
        while self._collector.collect():
            pass

    def _with_redis(self, do: Callable[[], None]) -> None:
        """Do it unless Redis was away a moment ago: deliveries that are entered already don't wait for it."""
        if time.monotonic() < self._redis_from:
            return
        try:
            do()
        except StoreUnavailable as error:
            log.warning("outbox.out_of_reach", reason=error.detail)
            self._redis_from = time.monotonic() + AWAY_SECONDS

    def _purge(self) -> None:
        """Remove a batch of what is old; nothing that is due waits for more than that, nor for one that fails."""
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_SECONDS
        try:
            if self._deliveries.purge(time.time() - self._settings.webhook_retention_seconds):
                self._purge_at = 0.0  # there may be more: at the next turn
            else:
                self._with_redis(self._forget)
        except StoreUnavailable as error:
            log.warning("courier.purge_failed", reason=error.detail)

    def _forget(self) -> None:
        # Whoever retries a document as long as it is kept has its endpoint told.
        kept_seconds = max(self._settings.webhook_retention_seconds, self._settings.retention_seconds)
        if not self._outbox.figures().filled:  # what waits there may be for any of them
            self._endpoints.forget(time.time() - kept_seconds)

    def _count(self, settled: list[Outcome]) -> None:
        """For the figures, and no more: without Redis they lack something."""
        self._with_redis(lambda: self._outbox.count(Counter(_OUTCOME_OF[outcome.verdict.state] for outcome in settled)))

    def _report(self, settled: list[Outcome]) -> None:
        for outcome in settled:
            claim, attempt, verdict = outcome.claim, outcome.attempt, outcome.verdict
            fields = {"endpoint": claim.endpoint.id, "message": claim.message_id, "try": claim.tries + 1}
            log.debug("webhook.attempt", **fields, status=attempt.status, error=attempt.error)
            if verdict.state is DeliveryState.FAILED:
                log.warning("webhook.given_up", **fields, status=attempt.status, error=attempt.error)
            if verdict.disabled_because:
                log.warning("webhook.endpoint_disabled", endpoint=claim.endpoint.id, reason=verdict.disabled_because)

    async def _deliver(self, claim: Claim) -> Outcome | None:
        at, began = time.time(), time.monotonic()
        try:
            return self._judged(claim, await self._sender.send(claim))
        except LeaseOver:  # the next of the document may be on its way by now, or is due again in a moment
            log.warning("webhook.lease_over", message=claim.message_id)
            return None
        except Exception:  # what nobody had thought of must end by the schedule too, and not come back by its lease
            log.exception("webhook.attempt_broke_off", message=claim.message_id)
            duration_ms = round((time.monotonic() - began) * 1000)
            return self._judged(claim, Sent(Attempt(at, duration_ms, {}, error=Fault.COURIER_FAILED)))

    def _judged(self, claim: Claim, sent: Sent) -> Outcome:
        verdict = verdicts.judge(
            claim,
            sent.attempt,
            sent.retry_after,
            delays=self._delays,
            disable_seconds=self._settings.webhook_disable_seconds,
            chance=random.random,
        )
        return Outcome(claim, sent.attempt, verdict)

    def _note_end(self, task: asyncio.Task[Outcome | None]) -> None:
        claim = self._sending.pop(task).claim
        if task.cancelled():
            return
        if error := task.exception():  # it is due again by its lease
            log.error("webhook.attempt_failed", message=claim.message_id, exc_info=error)
        elif outcome := task.result():
            self._ended.append(outcome)
        self._wake.set()

    async def _hand_back(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=GRACE_SECONDS)
        broken_off = dict(self._sending)
        for task in broken_off:
            task.cancel()
        if broken_off:
            await asyncio.wait(broken_off)
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._lanes.settle, self._ended)
            await loop.run_in_executor(self._thread, self._lanes.release, [one.claim for one in broken_off.values()])
        except StoreUnavailable as error:  # what is in hand comes back by its lease
            log.warning("courier.could_not_hand_back", reason=error.detail)


class _Ears(threading.Thread):
    """Hears the signals of Redis, as long as there is one."""

    def __init__(self, outbox: Outbox, heard: Callable[[], object]) -> None:
        super().__init__(name="ears", daemon=True)
        self._outbox = outbox
        self._heard = heard
        self._end = threading.Event()

    def stop(self) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.is_set():
            with suppress(redis.RedisError, OSError):
                self._listen()
            self._end.wait(TURN_SECONDS)

    def _listen(self) -> None:
        with self._outbox.listen() as signals:
            while not self._end.is_set():
                if signals.get_message(timeout=TURN_SECONDS / 4):
                    self._heard()


def _alive_file() -> Path:
    return Path(tempfile.gettempdir()) / f"ingest-courier-{os.getuid()}.alive"


def _say_alive() -> None:
    _alive_file().touch()


def is_alive() -> bool:
    """Whether a courier on this machine has had a turn lately."""
    try:
        return time.time() - _alive_file().stat().st_mtime < ALIVE_SECONDS
    except FileNotFoundError:
        return False


async def deliver(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT. Raises `StoreUnavailable` when there is no database to begin with."""
    database = WebhookDatabase.from_settings(settings)
    client = connections.hasty_client(settings)
    egress = Egress(addresses.networks(settings.webhook_allowed_networks), lookups=settings.webhook_concurrency)
    sender = Sender(egress, Seal(settings), settings.webhook_seconds)
    courier = Courier(settings, database, client, sender)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, courier.stop)
    log.info("courier.ready")
    try:
        await courier.run()
    finally:
        await sender.close()
        client.close()
        database.close()


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """The command. ``--alive`` only says whether a courier is well, by the exit status."""
    if arguments == ["--alive"]:
        return 0 if is_alive() else 1
    try:
        settings = Settings.from_environment(environment)
        logs.configure(settings)
        asyncio.run(deliver(settings))
    except (SettingsError, StoreUnavailable) as error:
        sys.stderr.write(f"The courier can't start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
