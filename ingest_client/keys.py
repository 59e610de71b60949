"""``ingest keys``: make, list and revoke API keys. For operators: it works on the database, not over HTTP.

Whoever may make keys has the database and the settings of the installation anyway; a route for it would be one more
door, and the first key could not be made through it (docs/decisions/0014).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ingest_client import exits, words
from shared.access import DEFAULT_TENANT, Scope
from shared.config import Settings
from shared.errors import SettingsError, StoreUnavailable

if TYPE_CHECKING:
    from shared.keyring import ApiKey, KeyRing

app = typer.Typer(
    name="keys",
    help="API keys, in the database that the INGEST_* settings name. Needs no server.",
    no_args_is_help=False,
)

Tenant = Annotated[str, typer.Option(help="Whose documents the key opens.")]


@app.command()
@exits.reported
def create(
    tenant: Tenant = DEFAULT_TENANT,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it is good for; give it several times for several.")
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for, to tell it from others.")] = "",
) -> int:
    """Make a key. Its text is printed this once. By default it is good for `upload` and `read`."""

    def make(ring: KeyRing) -> int:
        try:
            key, text = ring.create(tenant, scope or (Scope.UPLOAD, Scope.READ), name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        exits.tell(f"key {key.id} of tenant {tenant}, good for {_listed(key)}, in {ring.place}")
        exits.tell("this is its text; it is not kept and can't be shown again:")
        print(text, flush=True)
        return exits.OK

    return _with_ring(make)


@app.command(name="list")
@exits.reported
def list_keys(tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None) -> int:
    """List keys, the oldest first, also those that are revoked: id, tenant, scopes, since when, until when, name."""

    def show(ring: KeyRing) -> int:
        for row in _table(ring.all(tenant)):
            print(row)
        return exits.OK

    return _with_ring(show)


@app.command()
@exits.reported
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `ingest keys list` shows it.")]) -> int:
    """Let a key open nothing from now on. Its streams, and those of its links, end within about two seconds."""

    def end(ring: KeyRing) -> int:
        if ring.revoke(key_id) is None:
            exits.tell(f"there is no key {key_id} in {ring.place}")
            return exits.FAILED
        exits.tell(f"key {key_id} is revoked")
        return exits.OK

    return _with_ring(end)


def _with_ring(do: Callable[[KeyRing], int]) -> int:
    """Do it with the keys. What is in the way is told in one line."""
    try:
        with _ring() as ring:
            return do(ring)
    except StoreUnavailable as error:
        exits.tell(error.detail)
        return exits.UNREACHABLE
    except (SettingsError, OSError) as error:
        exits.tell(error)
        return exits.FAILED


@contextmanager
def _ring() -> Iterator[KeyRing]:
    # Only here: the other commands need no database.
    from sqlalchemy.exc import ArgumentError

    from shared.keyring import KeyRing

    settings = Settings.from_environment(os.environ)
    try:
        ring = KeyRing.from_settings(settings)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise SettingsError(f"INGEST_DATABASE_URL can't be used: {error}") from error
    with closing(ring):
        yield ring


def _table(keys: list[ApiKey]) -> Iterator[str]:
    rows = [("ID", "TENANT", "SCOPES", "CREATED", "REVOKED", "NAME"), *map(_row, keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(key: ApiKey) -> tuple[str, ...]:
    created, revoked = (f"{at:%Y-%m-%d %H:%M:%S}" if at else "-" for at in (key.created_at, key.revoked_at))
    return key.id, key.tenant, _listed(key), created, revoked, words.plain(key.name)


def _listed(key: ApiKey) -> str:
    return ",".join(sorted(key.scopes))
