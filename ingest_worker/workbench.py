"""What a task works with: the record, the work, the files, the database. Each is opened at its first use and then kept.

The pool forks its children, and a connection must not be shared by two processes. So nothing is opened in the
parent: the first use is always in a child.
"""

from __future__ import annotations

from functools import cached_property

import redis

from shared import connections
from shared.config import Settings
from shared.database import ChunkTable
from shared.retention import Retention
from shared.sealing import Seal
from shared.storage import Storage
from shared.store import Store
from shared.worklist import Worklist


class Workbench:
    """The connections of one process. Construction opens none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _redis(self) -> redis.Redis:
        return connections.patient_client(self.settings)

    @cached_property
    def store(self) -> Store:
        """The record of every document."""
        return Store(self._redis, self.settings)

    @cached_property
    def retention(self) -> Retention:
        """Which documents are due to be removed."""
        return Retention(self._redis, self.settings)

    @cached_property
    def worklist(self) -> Worklist:
        """What there is to do."""
        return Worklist(self._redis, self.settings)

    @cached_property
    def seal(self) -> Seal:
        """Opens the passwords of encrypted files."""
        return Seal(self.settings)

    @cached_property
    def storage(self) -> Storage:
        """The files of every document."""
        return Storage.from_settings(self.settings)

    @cached_property
    def table(self) -> ChunkTable:
        """The chunks of every document."""
        return ChunkTable.from_settings(self.settings)
