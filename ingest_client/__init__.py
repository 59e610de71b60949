"""The user's side of ingest-live: a Python client and the ``ingest`` command, over HTTP only.

with Client("http://127.0.0.1:8000") as client:
    document_id = client.submit("report.pdf")
    for state in client.watch(document_id):
        print(state.progress, state.message)
    for chunk in client.chunks(document_id):
        print(chunk.text)
"""

from ingest_client.client import Client, Link, Options
from ingest_client.errors import ClientError, RequestRefused, ServerUnreachable, UnexpectedAnswer
from shared.documents import Chunk
from shared.jobs import Status
from shared.protocol import State

__all__ = [
    "Chunk",
    "Client",
    "ClientError",
    "Link",
    "Options",
    "RequestRefused",
    "ServerUnreachable",
    "State",
    "Status",
    "UnexpectedAnswer",
]
