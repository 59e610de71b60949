"""Those who show a key."""

from __future__ import annotations


def bearing(key: str) -> dict[str, str]:
    """The headers of whoever shows this key."""
    return {"Authorization": f"Bearer {key}"}
