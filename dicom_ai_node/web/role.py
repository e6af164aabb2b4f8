"""The ``web`` role: uvicorn, told to stop by an event instead of a signal."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import structlog
import uvicorn

from dicom_ai_node.config import Config
from dicom_ai_node.listening import listen
from dicom_ai_node.store import Database
from dicom_ai_node.web.app import build_app

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(config: Config, *, stop: threading.Event) -> None:
    """Serve until ``stop`` is set.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """
    db = Database(config.storage.database)
    try:
        with listen(config.web.bind, config.web.port, key="web") as listener:
            server = _Server(
                uvicorn.Config(
                    build_app(config, db),
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    server_header=False,
                    timeout_graceful_shutdown=5,
                )
            )
            threading.Thread(target=_pass_on, args=(stop, server), daemon=True).start()
            log.info("web_started", port=config.web.port)
            asyncio.run(server.serve(sockets=[listener]))
    finally:
        db.close()


def _pass_on(stop: threading.Event, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True
