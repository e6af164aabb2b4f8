"""The HTTP application: ``/health/live``, ``/health/ready``, ``/metrics``."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dicom_ai_node.config import Config
from dicom_ai_node.ops.health import readiness
from dicom_ai_node.ops.prober import Prober
from dicom_ai_node.store import Database
from dicom_ai_node.web.metrics import NodeCollector


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
