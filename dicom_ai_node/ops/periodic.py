"""Does jobs from time to time, by the monotonic clock: setting the other one delays none."""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from dicom_ai_node.errors import NodeError

log = structlog.get_logger()

Job = tuple[str, Callable[[], object], float]
"""Name, what to do, seconds between two beginnings."""


def run_jobs(jobs: Sequence[Job], stop: threading.Event) -> None:
    """Do each job at once and then at its interval, one at a time, until ``stop`` is set.

    A job that is late runs once, however many runs it missed. One that fails is tried again at its
    next turn; a failure of the same kind in a row is logged once.
    """
    due = dict.fromkeys(range(len(jobs)), time.monotonic())
    failing: dict[str, str] = {}
    while not stop.is_set():
        number = min(due, key=due.__getitem__)
        if stop.wait(max(0.0, due[number] - time.monotonic())):
            return
        name, job, seconds = jobs[number]
        due[number] = time.monotonic() + seconds
        try:
            job()
        except Exception as error:
            kind = str(error) if isinstance(error, NodeError) else type(error).__name__
            if failing.get(name) != kind:
                log.exception("job_failed", job=name)
            failing[name] = kind
        else:
            failing.pop(name, None)
