"""gunicorn's gevent worker, taught two things: to let go of a socket that was handed over, and to drain the hub."""

from __future__ import annotations

import gc
from types import FrameType
from typing import Any

import gevent
from gunicorn.workers.base_async import ALREADY_HANDLED
from gunicorn.workers.ggevent import GeventWorker

#: Young objects are looked through for garbage after so many, these again after so many times, and all of them hardly
#: ever: that takes tens of milliseconds with 10,000 viewers, and finds nothing, since a viewer leaves no cycle behind.
GC_THRESHOLDS = (2_000, 20, 1_000)


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

        def with_handover(environ: dict[str, Any], start_response: Any) -> Any:
            environ["ingest.handover"] = True
            return app(environ, start_response)

        self._app = app
        self._bound_streams()
        _spare_the_collector()
        self.wsgi: Any = with_handover

    def _bound_streams(self) -> None:
        from ingest_web import admission, services

        seats = services.of(self._app).admission
        open_files = admission.allow_open_files(seats.most + admission.SPARE_FILES)
        if seats.keep_within(open_files):
            self.log.warning("only %d streams: no more than %d files may be open (ulimit -n)", seats.most, open_files)

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


def _spare_the_collector() -> None:
    """What is loaded now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
