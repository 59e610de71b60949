"""``python -m ingest_client``: the command ``ingest`` where it is not installed, as in the image."""

from __future__ import annotations

from ingest_client.main import main

main()
