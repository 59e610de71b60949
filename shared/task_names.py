"""What the web tier and the workers call the tasks. Every task takes ``(document_id: str, attempt: int)``."""

from __future__ import annotations

PARSE = "ingest.parse"
CHUNK = "ingest.chunk"
LOAD = "ingest.load"

#: The one queue of the pipeline.
QUEUE = "ingest"
