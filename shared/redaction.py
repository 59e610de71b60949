"""What no log may hold: the secret parts of keys, tokens and passwords, wherever they stand in a line. Pure.

Nobody logs them on purpose. But a server quotes a request that it can't read, and a library the address of its failure.
"""

from __future__ import annotations

import re

MASK = "[redacted]"

_SECRETS = re.compile(
    r"""
      (?<=ingest_)(?P<key_id>[0-9a-f]{16})_[\w-]+  # an API key; its id is no secret
    | (?<=token=)[^&\s"']+                         # in an address, also one that is none
    | (?<=\.)[\w-]{43}(?![\w-])                    # the signature of a token
    | (?<=whsec_)[\w+/=-]+                         # the secret of a webhook
    """,
    re.VERBOSE,
)


def redacted(text: str) -> str:
    """The text with a mask in the place of each secret."""
    return _SECRETS.sub(lambda found: f"{found['key_id']}_{MASK}" if found["key_id"] else MASK, text)
