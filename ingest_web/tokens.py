"""Tokens that open the stream of one document, for browsers, whose `EventSource` can send no header. Pure.

A token says which document it opens, by which key it was made, and until when, and is signed: nodes that know the same
secret believe it without asking anybody. It holds no key, and opens nothing but that stream.

    01m857xcw5wq82xwhr9ttcn3ay.9f86d081884c7d65.6b49d200.<signature>
    the document               the key's id     expiry   HMAC-SHA-256, in base64url
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from itsdangerous import Signer

from shared.errors import Unauthorized

#: Apart from whatever else is made of the same secret. Another number, and every token of before is void.
_SALT = b"ingest-live stream token 1"

#: Longer than any token: what is longer is not looked at.
MOST_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. ``expires_at`` is in whole seconds since 1970."""

    document_id: str
    key_id: str
    expires_at: int


class Tokens:
    """Writes tokens, and reads those that were written with the same secret."""

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)

    def write(self, token: Token) -> str:
        """The token as text, for a URL."""
        return self._signer.sign(f"{token.document_id}.{token.key_id}.{token.expires_at:x}").decode()

    def read(self, text: str, now: float) -> Token:
        """What the text says. Raises `Unauthorized` when it was not written here, or has expired ``now``."""
        written, _, signature = text.rpartition(".")
        if len(text) > MOST_CHARACTERS or not text.isascii() or not self._signed(written.encode(), signature.encode()):
            raise Unauthorized("The token is not one.")
        document_id, key_id, expires_at = written.split(".")
        token = Token(document_id, key_id, int(expires_at, 16))
        if token.expires_at <= now:
            raise Unauthorized("The token has expired.")
        return token

    def _signed(self, written: bytes, signature: bytes) -> bool:
        # Not Signer.unsign: the last character of base64 has bits that it does not look at, so that several texts pass.
        return hmac.compare_digest(self._signer.get_signature(written), signature)
