"""Secrets of webhook endpoints, and signatures with them (Standard Webhooks 1.0, with its own library).

Several secrets may be live at a time: after a rotation the old one goes on for a while, and every message is signed
with each of them. At rest they are sealed (`shared.sealing`).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from standardwebhooks import Webhook

from shared.sealing import Seal

PREFIX = "whsec_"

#: Random bytes of a secret: 24 to 64 by the specification.
SECRET_BYTES = 32

#: So many are live at once, however often they are rotated.
MOST_LIVE = 4


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret at rest. ``until`` is when it ends, in seconds since 1970; None: it is the present one.

    ``told_to`` is the upload that was told it, empty while none was; None: its owner was, when it was made.
    """

    sealed: str
    until: float | None = None
    told_to: str | None = None

    def is_for(self, upload: str) -> bool:
        """Whether an upload may be told it: the first that asks, as often as it does."""
        return self.told_to in {"", upload}


def new_secret() -> str:
    """A secret as its owner is shown it, once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def rotated(
    before: Iterable[SealedSecret], sealed: str, now: float, overlap_seconds: float
) -> tuple[SealedSecret, ...]:
    """The new secret, and those before it for ``overlap_seconds`` from now at most."""
    until = now + overlap_seconds
    old = (SealedSecret(one.sealed, min(one.until or until, until)) for one in before)
    return (SealedSecret(sealed), *live(old, now))[:MOST_LIVE]


def live(found: Iterable[SealedSecret], now: float) -> tuple[SealedSecret, ...]:
    """Those that messages are signed with at this time, the newest first."""
    return tuple(one for one in found if one.until is None or one.until > now)


def headers(message_id: str, at: float, body: str, keys: Iterable[str]) -> dict[str, str]:
    """The three headers of an attempt at the time ``at``: what it is, when it is sent, and a signature for each key."""
    moment = datetime.fromtimestamp(int(at), UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(Webhook(key).sign(message_id, moment, body) for key in keys),
    }


def opened(found: Iterable[SealedSecret], seal: Seal, now: float) -> list[str]:
    """The live secrets. Raises `SettingsError` when they were sealed with another key."""
    return [seal.open(one.sealed) for one in live(found, now)]


def to_json(found: Iterable[SealedSecret]) -> str:
    """For a column of a table."""
    return json.dumps([asdict(one) for one in found])


def from_json(text: str) -> tuple[SealedSecret, ...]:
    """The inverse of `to_json`."""
    return tuple(SealedSecret(**one) for one in json.loads(text))
