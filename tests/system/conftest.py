"""For the tests that have a `stack`: its record, and a document in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser

from shared.access import ALL_SCOPES
from shared.config import Settings
from shared.keyring import KeyRing
from shared.store import Store
from tests import records
from tests.pages import Documents, a_browser


@pytest.fixture
def store(stack) -> Iterator[Store]:
    """The record that the stack's processes share."""
    with closing(stack.open_store()) as store:
        yield store


@pytest.fixture
def documents(store) -> Documents:
    """Documents whose events a test makes."""
    return Documents(store)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def ring(stack) -> Iterator[KeyRing]:
    """The keys of a `stack` that asks for some."""
    with closing(KeyRing.from_settings(Settings.from_environment(stack.environment_of_ours))) as ring:
        yield ring


@pytest.fixture
def key(ring) -> tuple[str, str]:
    """The id of a key, and its text."""
    made, told = ring.create("default", ALL_SCOPES)
    return made.id, told


@pytest.fixture
def document(store) -> str:
    """A document that is PENDING, at event 1, and that no worker knows of."""
    return records.new_document(store)
