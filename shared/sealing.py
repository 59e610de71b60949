"""The secret of an installation, and passwords of documents at rest: sealed with a key that Redis never sees.

Fernet (AES-128-CBC with HMAC-SHA256; https://github.com/fernet/spec). The key follows from ``INGEST_SECRET_KEY``, the
same for all web nodes and workers; without it, from a file in ``INGEST_VAR``, which is enough on one machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from shared.config import Settings
from shared.errors import SettingsError

KEY_FILE = "secret.key"


class Seal:
    """Seals and opens short texts. The key is looked for at the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def close(self, text: str) -> str:
        """The sealed text, in ASCII; another one each time."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The inverse of `close`. Raises `SettingsError` when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SettingsError(
                "INGEST_SECRET_KEY is not the one that a document's password was sealed with"
            ) from error

    def digest(self, text: str) -> str:
        """The same for the same text, and no help in guessing it to those without the key: HMAC-SHA256, in hex."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    @cached_property
    def _fernet(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self._key))

    @cached_property
    def _key(self) -> bytes:
        return hashlib.sha256(secret_of(self._settings).encode()).digest()


def secret_of(settings: Settings) -> str:
    """What keys are derived from, each in a way of its own: one secret for all processes of an installation."""
    return settings.secret_key.get_secret_value() or _key_of(settings.var / KEY_FILE)


def _key_of(path: Path) -> str:
    """What the file holds. Whoever comes first makes it, readable for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        os.link(made, path)  # fails when there is one: nobody ever reads half a key
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return path.read_text()
