"""A floor of workers, and everything to give them work."""

from __future__ import annotations

import hashlib
from contextlib import closing

import psutil

from shared import keys
from shared.broker import hint, make_celery
from shared.config import Settings
from shared.jobs import Status
from shared.options import Options
from shared.protocol import State
from shared.source import Source
from shared.storage import Storage, source_path
from shared.store import Store
from tests.awaiting import wait_until
from tests.stack import Process, Stack


class Floor(Stack):
    """A worker with one pool child, and everything to give it work."""

    def __enter__(self) -> Floor:
        super().__enter__()
        self.settings = Settings.from_environment(self.environment)
        self.client = self.redis()
        self.store = Store(self.client, self.settings)
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        super().__exit__(*error)

    @property
    def worker(self) -> Process:
        return self.workers[0]

    def upload(self, document_id: str, pdf: bytes, **options: str) -> None:
        with Storage.from_settings(self.settings).writing(source_path(document_id)) as file:
            file.write(pdf)
        sha256 = hashlib.sha256(pdf).hexdigest()
        options = Options.from_form(options, self.settings)
        source = Source("a.pdf", "application/pdf", len(pdf), sha256, source_path(document_id), options)
        self.store.create(document_id, source)
        with closing(make_celery(self.settings)) as app:
            hint(app)

    def ended(self, document_id: str) -> State:
        wait_until(lambda: self.store.state(document_id).is_final, within_seconds=60, what=self.worker.output())
        return self.store.state(document_id)

    def parsing(self, document_id: str) -> None:
        """Return when some pages have been parsed."""

        def some_pages() -> bool:
            state = self.store.state(document_id)
            return state.status is Status.PARSING and state.progress > 1

        wait_until(some_pages, what="pages parsed")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.worker.pid).children(recursive=True)

    def nothing_left(self, document_id: str) -> None:
        """Wait until no key of the work on a document is there any more. It is final before the last is struck off."""
        wait_until(lambda: not self._left(document_id), what=f"nothing left of {document_id}")

    def _left(self, document_id: str) -> list[str]:
        own = [key(document_id) for key in (keys.waiting, keys.running, keys.work, keys.done)]
        return [key for key in own if self.client.exists(key)] + [
            key for key in keys.LEADING if self.client.zscore(key, document_id) is not None
        ]

    def unacknowledged(self) -> int:
        return self.client.hlen(f"{keys.BROKER_PREFIX}unacked")


def events(store: Store, document_id: str) -> list[State]:
    """All events of a document."""
    return [State.from_json(data) for _, data in store.histories([(document_id, 0)])[document_id, 0].events]
