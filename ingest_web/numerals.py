"""Numbers that callers write."""

from __future__ import annotations

import re

#: ``int`` refuses more than 4,300 digits with an error of its own; nobody here needs more than these.
_DIGITS = re.compile(r"[0-9]{1,12}")


def whole_number(given: str, most: int) -> int | None:
    """A whole number from 1 to ``most``; ``None`` if it is anything else."""
    if not _DIGITS.fullmatch(given):
        return None
    number = int(given)
    return number if 1 <= number <= most else None
