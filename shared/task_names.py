"""What the tasks are called. None takes arguments: a message says that there is work, the record says which."""

from __future__ import annotations

#: Claim parts and work on them, as long as there are any and for a few seconds at most.
WORK = "ingest.work"

#: Remove the documents whose time is over.
EXPIRE = "ingest.expire"

#: Remove the files that no document leads to.
TIDY = "ingest.tidy"

#: The one queue of the pipeline.
QUEUE = "ingest"
