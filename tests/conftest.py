"""What every test may ask for: a real Valkey, settings that point into a folder of its own, a store."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared import connections
from shared.config import Settings
from shared.store import Store
from tests import valkey
from tests.postgres import Postgres

# Whoever starts the suite in the background of a script has SIGINT ignored, and so would every process started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """One Valkey for the session."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-") as name:
        folder = Path(name)
        with valkey.server(folder, folder / "v.sock", config={"loglevel": "warning"}):
            yield f"unix://{folder}/v.sock?db=0"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the session, started for whoever asks first."""
    with Postgres() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    """Settings of a machine of one's own."""
    return Settings.from_environment({"INGEST_VAR": str(tmp_path / "var"), "INGEST_REDIS_URL": valkey_url})


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    """A client of an empty Valkey."""
    client = connections.patient_client(settings)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> Store:
    """A store over an empty Valkey."""
    return Store(client, settings)
