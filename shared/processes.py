"""What a process is called where processes tell each other apart."""

from __future__ import annotations

import os
import secrets
import socket


def new_name() -> str:
    """The host and the process id, for people to read, and something that no other has: containers may share both."""
    return f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
