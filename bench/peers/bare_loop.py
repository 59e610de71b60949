"""The floor: a loop of `os.write` over blocking sockets, and no Redis. What any server in Python pays at least.

``python -m bench.peers.bare_loop LISTENER_FD EVENTS_FD``: each line on EVENTS_FD is a path and the data of an event for
everyone who asked for that path.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections import defaultdict

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"


def main() -> None:
    """Accept and relay until the end of the events."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    viewers: defaultdict[bytes, list[socket.socket]] = defaultdict(list)
    events, rest = int(sys.argv[2]), b""
    while True:
        ready, _, _ = select.select([listener, events], [], [])
        if listener in ready:
            _accept(listener, viewers)
        elif data := os.read(events, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _relay(line, viewers)
        else:
            return


def _accept(listener: socket.socket, viewers: defaultdict[bytes, list[socket.socket]]) -> None:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    viewers[client.recv(4096).split(b" ")[1]].append(client)
    client.sendall(HEAD)


def _relay(line: bytes, viewers: defaultdict[bytes, list[socket.socket]]) -> None:
    path, _, data = line.partition(b" ")
    frame = b"id: 17\nevent: progress\ndata: %b\n\n" % data
    left = []
    for client in viewers[path]:
        try:
            os.write(client.fileno(), frame)
        except OSError:
            left.append(client)
    for client in left:
        viewers[path].remove(client)


if __name__ == "__main__":
    main()
