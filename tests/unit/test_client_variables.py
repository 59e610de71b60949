"""What the service's settings and the command ``ingest`` share: a prefix, and the place of the embedded Valkey."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu.utils.url import url_to_parts
from redis.connection import parse_url

from shared.config import CLIENT_VARIABLES, Settings, valkey_socket
from shared.errors import SettingsError


def test_the_services_settings_look_past_the_commands_variables() -> None:
    """A shell that points `ingest` at a server can start the service as well."""
    assert Settings.from_environment(dict.fromkeys(CLIENT_VARIABLES, "x")) == Settings.from_environment({})
    with pytest.raises(SettingsError, match="INGEST_SERVERS is not a setting"):
        Settings.from_environment({"INGEST_SERVERS": "x"})


def test_no_setting_has_the_name_of_a_commands_variable() -> None:
    """The exemption hides no setting."""
    assert not {f"INGEST_{name.upper()}" for name in Settings.model_fields} & CLIENT_VARIABLES


def test_a_short_socket_path_lies_in_the_folder() -> None:
    """Whoever looks into ``var`` finds it."""
    assert valkey_socket(Path("/srv/var")) == Path("/srv/var/valkey.sock")


def test_a_long_socket_path_has_a_short_stand_in() -> None:
    """Everyone who asks for the same folder gets the same short path; another folder has another."""
    long = Path("/" + "d" * 120)
    assert valkey_socket(long) == valkey_socket(long) != valkey_socket(long / "x")
    assert len(bytes(valkey_socket(long))) < 60


def test_any_character_of_the_path_survives_the_url() -> None:
    """redis-py and kombu both find the socket of a folder whose name holds what URLs treat in a special way."""
    settings = Settings.from_environment({"INGEST_VAR": "/srv/a b#c?d%20e/var"})
    path = "/srv/a b#c?d%20e/var/valkey.sock"
    assert parse_url(settings.redis_url)["path"] == path
    assert url_to_parts(settings.broker_url).path == path.lstrip("/")
    assert urlsplit(settings.redis_url).query == "db=0"
