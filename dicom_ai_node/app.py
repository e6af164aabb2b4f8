"""The composition root: which processes a node has, and what each of them does.

A role is a fork of the supervisor, which imports what roles share; what one alone needs it imports
itself: only the analyser loads torch.
"""

import gc
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib import import_module

import structlog

from dicom_ai_node.config import NO_CALLERS, Config
from dicom_ai_node.config.bundles import analysed_classes
from dicom_ai_node.errors import ConfigError, StorageError
from dicom_ai_node.listening import listen
from dicom_ai_node.ops import logs
from dicom_ai_node.ops.child import Role
from dicom_ai_node.ops.claim import claimed
from dicom_ai_node.ops.process import (
    LISTENER_VARIABLE,
    SLOTS_VARIABLE,
    inherited,
    inherited_listener,
    is_listening,
)
from dicom_ai_node.ops.role import Place, Work, places
from dicom_ai_node.ops.role import run_role as be
from dicom_ai_node.ops.supervisor import Supervisor, patience_of
from dicom_ai_node.receive import server as receive
from dicom_ai_node.receive.slots import Slots
from dicom_ai_node.receive.slots import make as make_slots
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import analyse_classes

log = structlog.get_logger()


def serve(config: Config) -> int:
    """Run the whole node, supervised, until SIGTERM or SIGINT; return the exit code.

    The receivers start once the spool, the database and the ports can be used and no other node has
    any of them. The rest follows once the model bundles are verified: an image that comes before
    waits in the database.

    Raises NodeError: names what cannot be used.
    """
    classes = analysed_classes(config.model)
    try:
        Spool(config.storage.spool).create()
    except OSError as error:
        raise StorageError(f"storage.spool = {config.storage.spool}: {error.strerror}") from error
    logs.configure(config.log, spool=config.storage.spool, worker="serve")
    db = Database(config.storage.database)
    with (
        closing(db),
        claimed(config, db) as claim,
        listen(config.node.bind, config.node.port, key="node") as listener,
    ):
        listen(config.web.bind, config.web.port, key="web").close()  # the role listens itself
        schema = db.upgrade()
        if again := analyse_classes(db, classes, now=time.time()):
            log.warning("studies_requeued", count=again, hint="a bundle looks at their images now")
        db.close()  # each role has connections of its own
        log.info("node_starting", schema=schema, destinations=sorted(config.destinations))
        if not config.destinations:
            log.warning("no_destinations", hint="reports are made and kept, but not sent")
        if config.refuses_other_machines:
            log.warning("no_callers", hint=NO_CALLERS)
        return Supervisor(
            _roles(config, listener, locks=claim.locks),
            patience_of(config.operate),
            first=config.receive.processes,
            prepare=partial(_prepare, config),
            may_run=claim.holds,
            ready=partial(is_listening, config.web.port),
            on_stop=partial(listener.shutdown, socket.SHUT_RDWR),
        ).run()


def _roles(config: Config, listener: socket.socket, *, locks: Sequence[int]) -> list[Role]:
    shared = {
        LISTENER_VARIABLE: listener.fileno(),
        SLOTS_VARIABLE: make_slots(
            rows=config.receive.processes, columns=config.receive.max_associations
        ),
    }
    return [
        Role(
            place.worker,
            partial(be, place, config, partial(_load, place, config)),
            # Who has the listening socket keeps the port open: it is for the receivers alone.
            inherits=shared if place.role == "receive" else {},
            holds=locks,
        )
        for place in places(config)
    ]


def _prepare(config: Config) -> None:
    """Verify the bundles, and import what several roles do: they hold it once, all together.

    Nothing here starts a thread: this process forks. The analyser imports its engine itself.

    Raises NodeError: a bundle cannot be used.
    """
    from dicom_ai_node.inference.bundle import verify_in_use

    verify_in_use(config.model)
    for room in ("deliver.worker", "audit.worker", "ops.maintenance", "web"):
        import_module(f"{__package__}.{room}")
    gc.enable()


def run_role(name: str, number: int, config: Config) -> int:
    """Be one process of the node until it is told to stop; return the exit code."""
    place = Place(name, number if name == "receive" else 0)
    if place not in places(config):
        known = ", ".join(known_place.worker for known_place in places(config))
        raise ConfigError(f"no role {place.worker!r}; there are: {known}")
    return be(place, config, partial(_load, place, config))


def _load(place: Place, config: Config) -> Work:
    """Import what the role does, and load what it needs."""
    db = Database(config.storage.database)
    db.check_schema()
    db.close()
    match place.role:
        case "receive":
            slots = inherited(SLOTS_VARIABLE)
            row, columns = place.process - 1, config.receive.max_associations
            return partial(
                receive.run,
                config,
                process=place.worker,
                listener=inherited_listener(),
                slots=None if slots is None else Slots(slots, row=row, columns=columns),
            )
        case "analyse":
            from dicom_ai_node.analyse import worker as analyse

            return analyse.load(config)
        case "audit":
            from dicom_ai_node.audit import worker as audit

            return partial(audit.run, config)
        case "deliver":
            from dicom_ai_node.deliver import worker as deliver

            return partial(deliver.run, config)
        case "keep":
            from dicom_ai_node.ops import maintenance

            return partial(maintenance.run, config)
        case _:
            from dicom_ai_node import web

            return partial(web.run, config)
