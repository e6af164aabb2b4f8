"""The log: one line an event, JSON or for a terminal, without patient data.

Own events go through structlog, other libraries' records through the same chain. What keeps
patients out of it:

- values under ``study``, ``series``, ``instance`` and ``patient`` are hashed (:mod:`.redaction`),
  and so is every UID elsewhere in a line;
- an exception is logged as its type and the places it came through; its message only where it is
  a :class:`NodeError`, whose messages are ours;
- of records by libraries that are not in ``_TRUSTED`` (pydicom and pynetdicom quote header values
  and whole data sets) only the logger, the level and the place are kept.

Of libraries only errors are logged, and of those in ``_REPORTED`` only exceptions that they caught:
of all else that they say the program has a line of its own, with the peer, the study and the
reason. ``log.level = "debug"`` shows them from WARNING up.
"""

import logging
import secrets
import sys
import threading
from collections.abc import MutableMapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

from dicom_ai_node.config.processes import LogSettings
from dicom_ai_node.ops.redaction import Redactor, describe, load_key, summary
from dicom_ai_node.output import visible

_Event = MutableMapping[str, Any]

_TRUSTED = ("dicom_ai_node", "alembic", "uvicorn", "sqlalchemy")
"""Loggers whose messages hold no header values at the levels below."""
_REPORTED = ("pydicom", "pynetdicom", "py")
"""Loggers of what comes from outside; ``py.warnings`` are the warnings of all libraries."""
_LEVELS = {
    "": logging.WARNING,
    "dicom_ai_node": logging.DEBUG,
    "alembic": logging.WARNING,  # INFO is two lines for each look at the schema
    "uvicorn": logging.WARNING,  # INFO is the start-up banner
    "sqlalchemy": logging.WARNING,  # INFO is every statement with its values
    "pynetdicom": logging.WARNING,  # DEBUG prints identifiers and whole data sets
    "pydicom": logging.WARNING,
}

_redactor = Redactor(secrets.token_bytes(32))


def hashed(uid: str) -> str:
    """Return what stands for ``uid`` in the log: ``dicom-ai-node show`` prints it beside a study.

    The same as in the log once :func:`configure` or :func:`use_key` has been called.
    """
    return _redactor.hashed(uid)


def use_key(settings: LogSettings, spool: Path) -> bool:
    """Take the node's key for :func:`hashed`; False when it could not be kept in ``spool``."""
    global _redactor
    key, kept = load_key(settings.hash_key, spool)
    _redactor = Redactor(key)
    return kept


def configure(
    settings: LogSettings, *, spool: Path, worker: str = "", stream: TextIO | None = None
) -> None:
    """Send every log record of this process to ``stream`` (stderr), redacted.

    ``worker`` stands in each line. Uncaught exceptions of any thread are logged the same way.
    """
    out = stream or sys.stderr
    kept = use_key(settings, spool)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    _route(out, _renderers(settings.format, out), level, worker)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(logging.getLogger, "dicom_ai_node"),
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    if not kept:
        structlog.get_logger().warning("log_key_not_kept", consequence="hashes differ per process")


def _route(out: TextIO, renderers: list[Any], level: int, worker: str) -> None:
    handler = logging.StreamHandler(out)
    if level > logging.DEBUG:
        handler.addFilter(_is_no_chatter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, _foreign],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                partial(_name, worker),
                _without_traceback,
                _redact,
                *renderers,
            ],
            # Else the record's traceback would be appended to the line as plain text.
            keep_exc_info=False,
            keep_stack_info=False,
        )
    )
    for name, least in _LEVELS.items():
        logger = logging.getLogger(name or None)
        logger.setLevel(max(least, level))
        logger.propagate = True
        logger.handlers = [] if name else [handler]
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # its report of a line that cannot be formatted prints values


def _renderers(chosen: str, out: TextIO) -> list[Any]:
    if chosen == "console" or (chosen == "auto" and out.isatty()):
        return [_seen, structlog.dev.ConsoleRenderer(colors=out.isatty())]
    return [structlog.processors.JSONRenderer()]


def _seen(_logger: Any, _name: str, event: _Event) -> _Event:
    """Write out what a terminal would obey: titles of peers are texts from outside. JSON does."""
    return {
        key: visible(value) if isinstance(value, str) else value for key, value in event.items()
    }


def _is_no_chatter(record: logging.LogRecord) -> bool:
    """Return whether a record is ours, or says what no line of ours does."""
    library = record.name.partition(".")[0]
    if library == "dicom_ai_node":
        return True
    caught = bool(record.exc_info and record.exc_info[0])
    return caught or (record.levelno >= logging.ERROR and library not in _REPORTED)


def _foreign(_logger: Any, _name: str, event: _Event) -> _Event:
    """Keep of another library's record only what is known to be harmless."""
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    if record.name.partition(".")[0] not in _TRUSTED:
        event["event"] = "library_message"
        event["place"] = f"{record.module}:{record.lineno}"
    return event


def _name(worker: str, _logger: Any, _method: str, event: _Event) -> _Event:
    """Put the worker's name in each line: context variables would be one thread's alone."""
    if worker:
        event["worker"] = worker
    return event


def _without_traceback(_logger: Any, _name: str, event: _Event) -> _Event:
    """Replace ``exc_info`` by a description without values."""
    event.pop("stack_info", None)
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error and not isinstance(error, BaseException):  # True: the one being handled
        error = sys.exception()
    if isinstance(error, BaseException):
        event["raised"] = describe(error)
    return event


def _redact(_logger: Any, _name: str, event: _Event) -> _Event:
    return _redactor.event(dict(event))


def _uncaught(
    kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("crashed", exc_info=error)


def _uncaught_in_thread(args: Any) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else ""
        structlog.get_logger().critical("thread_crashed", thread=name, exc_info=args.exc_value)


def _unraisable(args: Any) -> None:
    # Not its object nor its message: both may print what they hold.
    reason = summary(args.exc_value) if args.exc_value is not None else ""
    structlog.get_logger().error("error_ignored", error=reason)
