"""``ingest keys`` as a process: an operator's command, on the database that the settings name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ingest_web.guard import Guard
from shared.access import Caller, Scope
from shared.config import Settings
from shared.keyring import parts_of
from tests.integration.test_ingest_command import COMMAND


def keys(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    return subprocess.run(
        [*COMMAND, "keys", *arguments],
        check=False,
        env={**ours, "INGEST_VAR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_text_of_a_new_key_stands_alone_on_standard_output(tmp_path: Path) -> None:
    """``INGEST_API_KEY=$(ingest keys create ...)`` works; whoever reads along on the terminal is told the rest."""
    made = keys(tmp_path, "create", "--tenant", "acme", "--scope", "read", "--scope", "admin", "--name", "dashboard")
    key_id, secret = parts_of(made.stdout.removesuffix("\n"))
    assert made.returncode == 0
    assert f"key {key_id} of tenant acme, good for admin,read, in sqlite:///{tmp_path}" in made.stderr
    assert secret not in made.stderr
    guard = Guard(Settings.from_environment({"INGEST_VAR": str(tmp_path), "INGEST_AUTH": "keys"}), None)
    shown = guard.caller(f"Bearer {made.stdout.strip()}")
    guard.close()
    assert shown == Caller("acme", frozenset({Scope.READ, Scope.ADMIN}), key_id)


def test_keys_are_listed_and_revoked(tmp_path: Path) -> None:
    """Also those that are revoked, with the time; no text of a key is shown again."""
    texts = [keys(tmp_path, "create", "--tenant", tenant).stdout for tenant in ("acme", "zenith")]
    ids = [parts_of(text)[0] for text in texts]
    assert keys(tmp_path, "revoke", ids[1]).returncode == 0
    listed = keys(tmp_path, "list").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        [ids[0], "acme", "read,upload"],
        [ids[1], "zenith", "read,upload"],
    ]
    assert listed[1].split()[-1] == "-"
    assert listed[2].split()[-1].count(":") == 2
    assert not any(parts_of(text.strip())[1] in "".join(listed) for text in texts)
    assert [line.split()[0] for line in keys(tmp_path, "list", "--tenant", "acme").stdout.splitlines()] == [
        "ID",
        ids[0],
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "line"),
    [
        (["create", "--tenant", "A B"], {}, 64, "a tenant's name is lower-case"),
        (["create", "--scope", "write"], {}, 64, "'write' is not one of 'upload', 'read', 'admin'"),
        (["create", "--name", "x" * 201], {}, 64, "at most 200 characters"),
        (["revoke", "0123"], {}, 1, "there is no key 0123 in sqlite:///"),
        (["list"], {"INGEST_AUHT": "keys"}, 1, "INGEST_AUHT is not a setting; did you mean INGEST_AUTH?"),
        (["list"], {"INGEST_DATABASE_URL": "x"}, 1, "INGEST_DATABASE_URL can't be used"),
        (["list"], {"INGEST_DATABASE_URL": "sqlite:////proc/no/such"}, 1, "No such file or directory"),
        (["list"], {"INGEST_DATABASE_URL": "postgresql+psycopg://u:geheim@127.0.0.1:1/x"}, 2, "can't be reached"),
    ],
)
def test_what_is_in_the_way_is_told_in_one_line(tmp_path: Path, arguments, environment, status, line) -> None:
    """The exit statuses are those of the other commands."""
    done = keys(tmp_path, *arguments, **environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("ingest: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert "geheim" not in done.stderr
