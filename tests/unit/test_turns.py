"""Turns at the event loop, under gevent as in a web process."""

from __future__ import annotations

import subprocess
import sys

from ingest_web import turns

#: A greenlet that is always busy, and one that answers on a socket whatever a process outside asks. Prints how many
#: turns the first has had for each answer.
PROGRAM = """
from gevent import monkey
monkey.patch_all()
import os, socket, gevent
from ingest_web import turns

ours, theirs = socket.socketpair()
if not os.fork():
    outside = monkey.get_original("socket", "socket")(fileno=theirs.detach())
    outside.setblocking(True)
    for _ in range(20):
        outside.sendall(b"?")
        outside.recv(1)
    os._exit(0)
theirs.close()

turns_had = 0
def busy():
    global turns_had
    turn = turns.Turn()
    while True:
        began = turn.began
        while turn.began == began:
            turn.step()
        turns_had += 1

greenlet, answers = gevent.spawn(busy), 0
while ours.recv(1):
    ours.sendall(b"!")
    answers += 1
greenlet.kill()
print(answers, turns_had)
"""


def test_who_gives_way_keeps_nobody_from_being_read():
    """However busy one is, a socket is read after a turn or two of it, and not after fifty."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    answers, turns_had = map(int, run.stdout.split())
    assert answers == 20
    assert turns_had < 10 * answers


def test_a_turn_ends_only_when_it_was_long(monkeypatch):
    """Steps that take no time are not interrupted."""
    given: list[None] = []
    monkeypatch.setattr(turns, "give_way", lambda: given.append(None))
    monkeypatch.setattr(turns.time, "monotonic", iter([0.0, 0.001, 0.002, 0.0021, 0.0021, 0.004]).__next__)
    turn = turns.Turn()
    for _ in range(2):
        turn.step()
    assert not given
    turn.step()
    turn.step()
    assert len(given) == 1


def test_what_is_done_aside_gives_its_value_where_nothing_is_shared():
    """Without gevent's patches there is nobody to make room for."""
    assert turns.aside(lambda: 17) == 17
