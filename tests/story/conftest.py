"""The service that the stories play on: real processes, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest_client import Client
from tests.stack import Stack


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Iterator[Stack]:
    """One web node and one worker."""
    with Stack(tmp_path_factory.mktemp("story"), web=1, workers=1) as stack:
        yield stack


@pytest.fixture
def client(service) -> Iterator[Client]:
    """A client of the service."""
    with Client(service.urls[0]) as client:
        yield client
