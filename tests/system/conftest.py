"""For the tests that have a `stack`: its record, and a document in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from shared.store import Store
from tests import records


@pytest.fixture
def store(stack) -> Iterator[Store]:
    """The record that the stack's processes share."""
    with closing(stack.open_store()) as store:
        yield store


@pytest.fixture
def document(store) -> str:
    """A document that is PENDING, at event 1, and that no worker knows of."""
    return records.new_document(store)
