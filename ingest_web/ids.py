"""Document ids: made here, and checked where strangers name them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ulid import ULID

from shared.errors import InvalidOption, UnknownIngestion

#: A ULID in lower case: sorts by time of creation, to the millisecond.
DOCUMENT_ID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)

#: One stream carries at most so many documents: so many ids fit in the request line that `gunicorn_conf` allows.
MOST_IDS = 500


def new_id() -> str:
    """A new document id: 48 bits of time, 80 bits of chance."""
    return str(ULID()).lower()


def checked(document_id: str) -> str:
    """The id, when it is of our form. Raises `UnknownIngestion`: an id that we never gave is nobody's."""
    if not DOCUMENT_ID.fullmatch(document_id):
        raise UnknownIngestion("There is no ingestion with such an id.")
    return document_id


def checked_all(document_ids: Sequence[str]) -> tuple[str, ...]:
    """The ids without repetition, in order. Raises `InvalidOption` for none or too many, `UnknownIngestion`."""
    unique = tuple(dict.fromkeys(document_ids))
    if not 1 <= len(unique) <= MOST_IDS:
        raise InvalidOption(f"id: give 1 to {MOST_IDS} of them", option="id")
    unknown = [document_id for document_id in unique if not DOCUMENT_ID.fullmatch(document_id)]
    if unknown:
        raise UnknownIngestion("There are no ingestions with some of these ids.", ids=unknown)
    return unique
