"""Settings from a mapping."""

from __future__ import annotations

import pytest

from shared.config import Settings, broker_url_of
from shared.errors import SettingsError


def test_nothing_needs_to_be_set(tmp_path, monkeypatch):
    """With no variable at all, everything is kept in ./var."""
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    assert settings.redis_url == f"unix://{tmp_path}/var/valkey.sock?db=0"
    assert settings.broker_url == f"redis+socket://{tmp_path}/var/valkey.sock?virtual_host=0"
    assert settings.storage_url == f"{tmp_path}/var/storage"
    assert settings.database_url == f"sqlite:///{tmp_path}/var/chunks.sqlite3"


def test_other_variables_of_the_environment_are_left_alone():
    """Only what begins with INGEST_ is ours."""
    assert Settings.from_environment({"HOME": "/x", "CELERY_X": "1"}).retry_ms == 2000


def test_the_broker_is_the_same_redis_unless_it_is_named():
    """One URL is enough for one Redis."""
    assert Settings.from_environment({"INGEST_REDIS_URL": "redis://r:6379/3"}).broker_url == "redis://r:6379/3"
    named = Settings.from_environment({"INGEST_REDIS_URL": "redis://r:6379/3", "INGEST_BROKER_URL": "amqp://b"})
    assert named.broker_url == "amqp://b"
    assert broker_url_of("rediss://r:6379/3") == "rediss://r:6379/3"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("INGEST_CHUNK_SIZE", "many", "INGEST_CHUNK_SIZE"),
        ("INGEST_CHUNK_SIZE", "1", "INGEST_CHUNK_SIZE"),
        ("INGEST_MAX_UPLOAD_BYTES", "0", "INGEST_MAX_UPLOAD_BYTES"),
        ("INGEST_LOG_LEVEL", "loud", "INGEST_LOG_LEVEL"),
        ("INGEST_CHUNK_OVERLAP", "1000", "INGEST_CHUNK_OVERLAP must be smaller"),
        ("INGEST_ALLOWED_ORIGINS", "*", r"^INGEST_ALLOWED_ORIGINS: '\*' is not an origin as browsers write it: scheme"),
        ("INGEST_ALLOWED_ORIGINS", "https://a.example, b.example", "^INGEST_ALLOWED_ORIGINS: 'b.example' is not"),
        ("INGEST_CHUNK_SIZ", "1000", "did you mean INGEST_CHUNK_SIZE"),
        ("INGEST_NONSENSE_XYZ", "1", "is not a setting"),
    ],
)
def test_a_wrong_setting_is_named(name, value, said):
    """A value out of range and a misspelt name both stop the start, with the variable in the message."""
    with pytest.raises(SettingsError, match=said):
        Settings.from_environment({name: value})
