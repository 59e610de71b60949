"""gunicorn's gevent worker, taught four things: to let go of a socket that was handed over, to drain the hub, to wait
for nobody for longer than it must, and to refuse in the words of the app.

That the head of a request comes in time, gunicorn sees to itself: in its loop over a connection, ``keepalive`` is a
time-out for the whole of it. The body, and the taking of the answer, are bounded here.
"""

from __future__ import annotations

import gc
import socket
from types import FrameType
from typing import Any

import gevent
from gunicorn import util
from gunicorn.http.body import Body
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.workers.base_async import ALREADY_HANDLED
from gunicorn.workers.ggevent import GeventWorker

from ingest_web.body import PIECE_BYTES, PacedBody
from ingest_web.turns import Turn
from shared.config import Settings

#: Young objects are looked through for garbage after so many, these again after so many times, and all of them hardly
#: ever: that takes tens of milliseconds with 10,000 viewers, and finds nothing, since a viewer leaves no cycle behind.
GC_THRESHOLDS = (2_000, 20, 1_000)


#: Whoever was answered before all of a body was read may go on sending for so long: a connection that is closed at once
#: would take the answer along.
LINGER_SECONDS = 5.0


class RelayWorker(GeventWorker):  # type: ignore[misc]
    """A worker whose streams live in the hub."""

    def init_process(self) -> None:
        """Once the loop is this process's own, before requests come."""
        self._draining: gevent.Greenlet[[], None] | None = None
        super().init_process()

    def load_wsgi(self) -> None:
        """Let the app know that sockets may be taken."""
        super().load_wsgi()
        app: Any = self.wsgi

        self._app = app
        self._stall_seconds = self._settings().upload_stall_seconds

        def with_handover(environ: dict[str, Any], start_response: Any) -> Any:
            environ["ingest.handover"] = True
            if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
                environ["wsgi.input"] = PacedBody(environ["wsgi.input"], self._stall_seconds)
            return app(environ, start_response)

        self._bound_streams()
        _spare_the_collector()
        self.wsgi: Any = with_handover

    def _bound_streams(self) -> None:
        from ingest_web import admission, services

        seats = services.of(self._app).admission
        open_files = admission.allow_open_files(seats.most + admission.SPARE_FILES)
        if seats.keep_within(open_files):
            self.log.warning("only %d streams: no more than %d files may be open (ulimit -n)", seats.most, open_files)

    def _settings(self) -> Settings:
        from ingest_web import services

        return services.of(self._app).settings

    def handle_request(self, listener_name: object, req: Request, sock: socket.socket, addr: object) -> None:
        """Answer a request. An answer that nobody takes is given up, and a body that nobody reads is let go of."""
        sock.settimeout(self._stall_seconds)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            self.log.info("closing a connection that takes no answer")
            raise StopIteration from None
        if not _drained(req.body):
            req.body.failed = True  # gunicorn's word for: what follows on this connection is no request

    def handle_error(self, req: Request | None, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Note an error as gunicorn does, and answer it as the app answers its own."""
        # Imported here: this module is loaded in gunicorn's master, before the sockets are patched.
        from ingest_web import refusals

        super().handle_error(req, _Nobody(), addr, exc)
        try:
            util.write_nonblock(client, refusals.answer(exc))
        except OSError:
            self.log.debug("nobody takes the answer to what could not be read")

    def is_already_handled(self, respiter: object) -> bool:
        """End the request loop: with keep-alive it would go on reading the descriptor that the hub has now."""
        if respiter is ALREADY_HANDLED:
            raise StopIteration
        return False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: not ready at once, and every viewer leaves within the drain window."""
        super().handle_exit(sig, frame)
        if self._draining is None:
            self._draining = gevent.spawn(self._drain)

    def run(self) -> None:
        """Serve until told to stop; then wait for the last viewer."""
        super().run()
        if self._draining is not None:
            self._draining.join()

    def _drain(self) -> None:
        # Imported here: this module is loaded in gunicorn's master, before the sockets are patched.
        from ingest_web import health, services

        self._app.config[health.DRAINING] = True
        current = services.of(self._app)
        current.hub.drain(current.settings.drain_seconds, current.settings.retry_ms)
        current.hub.stop()


class _Nobody:
    """In the place of a socket: whatever gunicorn writes there is not sent."""

    def gettimeout(self) -> float:
        """As of one that never blocks."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """It is gone."""


def _drained(body: Body) -> bool:
    """Whether the rest of a body came and was thrown away, within the time for that.

    gunicorn would do it too, but a kilobyte at a time, and while a sender is fast nobody else would have the loop.
    """
    turn = Turn()
    try:
        with gevent.Timeout(LINGER_SECONDS, TimeoutError()):
            while body.read(PIECE_BYTES):
                turn.step()
    except (OSError, ParseException):
        return False
    return True


def _spare_the_collector() -> None:
    """What is loaded now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
