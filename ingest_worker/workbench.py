"""What a task works with: the record, the files, the database. Each is opened at its first use and then kept.

The pool forks its children, and a connection must not be shared by two processes. So nothing is opened in the
parent: the first use is always in a child.
"""

from __future__ import annotations

from functools import cached_property

from shared import connections
from shared.config import Settings
from shared.database import ChunkTable
from shared.storage import Storage
from shared.store import Store


class Workbench:
    """The connections of one process. Construction opens none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def store(self) -> Store:
        """The record of every document."""
        return Store(connections.patient_client(self.settings), self.settings)

    @cached_property
    def storage(self) -> Storage:
        """The files of every document."""
        return Storage.from_settings(self.settings)

    @cached_property
    def table(self) -> ChunkTable:
        """The chunks of every document."""
        return ChunkTable.from_settings(self.settings)
