"""What an origin is: the scheme, host and port of a page, as a browser writes them in the header `Origin`. Pure."""

from __future__ import annotations

import re

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]*))?"
)

#: A browser leaves these out.
_DEFAULT_PORTS = {"http": 80, "https": 443}

_HIGHEST_PORT = 65_535


def parse_list(text: str) -> tuple[str, ...]:
    """The origins of a comma-separated list. Raises `ValueError` that names the first that no browser would send."""
    origins = tuple(item.strip() for item in text.split(",")) if text.strip() else ()
    for origin in origins:
        if not is_origin(origin):
            raise ValueError(
                f"{origin!r} is not an origin as browsers write it: scheme://host[:port], in lower case, "
                "without a path, a default port or a *"
            )
    return origins


def is_origin(text: str) -> bool:
    """Whether a browser could call a page's origin so. ``null`` and ``*`` name no page in particular."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    port = int(found["port"] or 0)
    return port <= _HIGHEST_PORT and port != _DEFAULT_PORTS.get(found["scheme"])
