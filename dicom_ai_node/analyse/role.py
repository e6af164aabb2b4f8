"""The analyser role: one process that loads the network and works until it is told to stop."""

import threading
from collections.abc import Callable
from functools import partial

import structlog

from dicom_ai_node.analyse.observe import Shadow
from dicom_ai_node.analyse.worker import Analyser
from dicom_ai_node.config import Config
from dicom_ai_node.inference.bundle import resolve_bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.monitor.observation import Role
from dicom_ai_node.pipeline import Pipeline
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database

log = structlog.get_logger()


def load(config: Config) -> Callable[..., None]:
    """Load the network, and the one in its shadow; what comes back works until ``stop`` is set."""
    pipeline = _load(config, config.model.bundle, Role.LIVE)
    shadow = None
    if config.model.shadow:
        shadow = Shadow(_load(config, config.model.shadow, Role.SHADOW))
    return partial(_run, config, pipeline, shadow)


def _run(
    config: Config, pipeline: Pipeline, shadow: Shadow | None, *, stop: threading.Event
) -> None:
    db = Database(config.storage.database)
    spool = Spool(config.storage.spool)
    spool.sweep()
    try:
        Analyser(config, db, spool, pipeline, shadow).run(stop)
    finally:
        db.close()


def _load(config: Config, bundle: str, role: Role) -> Pipeline:
    estimator = Estimator(
        resolve_bundle(bundle),
        device=config.model.device,
        batch=config.model.batch,
        threads=config.model.threads or None,
    )
    log.info("model_loaded", model=estimator.identity.name, role=role, device=estimator.device)
    return Pipeline(
        estimator, rules=config.rules, policy=config.policy, limits=config.limits.bounds
    )
