"""The ``web`` role over HTTP: ``/health/live``, ``/health/ready``, ``/metrics``."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dicom_ai_node.config import Config
from dicom_ai_node.listening import listen
from dicom_ai_node.ops.health import Prober, readiness
from dicom_ai_node.store import Database
from dicom_ai_node.web.metrics import NodeCollector

log = structlog.get_logger()


def build_app(config: Config, db: Database) -> Starlette:
    """Return the application; its functions are plain ones, which Starlette runs in threads."""
    prober = Prober(lambda begin: readiness(config, db, begin=begin))
    registry = CollectorRegistry()
    registry.register(NodeCollector(config, db, prober))

    def live(_request: Request) -> Response:
        return JSONResponse({"live": True})

    def ready(_request: Request) -> Response:
        found = prober.readiness()
        return JSONResponse(found.as_dict(), status_code=200 if found.ready else 503)

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ]
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(config: Config, *, stop: threading.Event) -> None:
    """Serve until ``stop`` is set.

    Raises ConfigError: the address cannot be listened on.
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
