"""Passwords at rest."""

from __future__ import annotations

import threading

import pytest

from shared.config import Settings
from shared.errors import SettingsError
from shared.sealing import KEY_FILE, Seal


def settings(folder, **variables: str) -> Settings:
    return Settings.from_environment({"INGEST_VAR": str(folder), **variables})


def test_what_is_sealed_can_be_opened_by_another_process(tmp_path):
    """With the key of the folder, or with the one that both are told."""
    for variables in ({}, {"INGEST_SECRET_KEY": "told"}):
        sealed = Seal(settings(tmp_path, **variables)).close("geheim ß")
        assert "geheim" not in sealed
        assert Seal(settings(tmp_path, **variables)).open(sealed) == "geheim ß"


def test_another_key_opens_nothing(tmp_path):
    """The error names the setting, and neither the key nor the text."""
    sealed = Seal(settings(tmp_path, INGEST_SECRET_KEY="one")).close("geheim")
    with pytest.raises(SettingsError, match="INGEST_SECRET_KEY") as refused:
        Seal(settings(tmp_path, INGEST_SECRET_KEY="two")).open(sealed)
    assert "two" not in str(refused.value)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path):
    """However many processes look for it at the same time."""
    sealed: list[str] = []
    start = threading.Barrier(8)

    def seal() -> None:
        start.wait()
        sealed.append(Seal(settings(tmp_path)).close("geheim"))

    threads = [threading.Thread(target=seal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Seal(settings(tmp_path)).open(text) for text in sealed} == {"geheim"}
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_the_key_is_not_shown(tmp_path):
    """Settings are logged and printed."""
    assert "told" not in repr(settings(tmp_path, INGEST_SECRET_KEY="told"))
