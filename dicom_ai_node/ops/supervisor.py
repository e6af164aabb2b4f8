"""Keeps the roles running, and stops them in order.

It holds no database connection and no model: what could make it fail is left to the roles.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import structlog
from sdnotify import SystemdNotifier

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config.processes import OperateSettings
from dicom_ai_node.ops.child import Child, Patience, Role

_TICK_SECONDS = 0.25

log = structlog.get_logger()


class Notifier:
    """The sd_notify protocol: ready, status, watchdog, stopping."""

    def __init__(self) -> None:
        # Without a socket SystemdNotifier would leak one.
        self._notifier = SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        self._status = ""
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
        meant_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._interval = microseconds / 3e6 if meant_for_us and microseconds else None
        self._fed_at = float("-inf")

    def ready(self) -> None:
        """Say that the service is up."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show ``text`` in ``systemctl status``; a repetition is not sent."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def watchdog(self, now: float) -> None:
        """Hold off the watchdog; three times in each of its periods is enough."""
        if self._interval is not None and now - self._fed_at >= self._interval:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Say no more."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _send(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)


class Supervisor:
    """Runs ``roles``, each as a process of its own, until it is asked to stop.

    The ``first`` so many start at once, the others once ``prepare`` has returned, which loads what
    they share. ``ready`` says what must hold besides every role being alive before systemd is
    notified that the service is up, such as that a port listens. ``may_run`` is asked again and
    again; where it says no, all is ended in order. ``on_stop`` is called before the roles are asked
    to finish.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        patience: Patience,
        *,
        first: int = 0,
        prepare: Callable[[], None] = lambda: None,
        may_run: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.children = [Child(role, patience) for role in roles]
        self._patience = patience
        self._first = first
        self._prepare = prepare
        self._may_run = may_run
        self._ready = ready
        self._on_stop = on_stop
        # A plain number: a signal handler that sets a threading.Event on which the interrupted
        # code waits can lock up.
        self._stops = 0

    def run(self) -> int:
        """Supervise until SIGTERM, SIGINT or :meth:`stop`; return the exit code.

        0 when all roles finished in time, 1 when one had to be killed. Call it in the main thread:
        a child dies with the thread that started it.

        Raises what ``prepare`` raises, when those that had started are ended.
        """
        with self._signals(), closing(Notifier()) as notifier:
            try:
                for child in self.children[: self._first]:
                    child.tend(time.monotonic())
                self._prepare()
                self._supervise(notifier)
            finally:
                notifier.stopping()
                notifier.status("stopping")
                self._on_stop()
                killed = self._end_all()
        return 1 if killed else 0

    def _supervise(self, notifier: Notifier) -> None:
        announced = False
        while not self._stops and self._may_run():
            now = time.monotonic()
            for child in self.children:
                child.tend(now)
            announced = self._tell(notifier, now, announced=announced)
            time.sleep(_TICK_SECONDS)

    def stop(self) -> None:
        """Ask for the end; a second time, for the end at once."""
        self._stops += 1

    def _tell(self, notifier: Notifier, now: float, *, announced: bool) -> bool:
        """Tell systemd how things stand; return whether it knows that the service is up."""
        down = [child.name for child in self.children if not child.is_alive]
        count = len(self.children) - len(down)
        starting = [child.name for child in self.children if child.is_starting]
        states = {"down": down, "starting": starting}
        told = [f"; {state}: {', '.join(names)}" for state, names in states.items() if names]
        notifier.status(f"{count} of {len(self.children)} roles up{''.join(told)}")
        # One role in a crash loop is restarted here; systemd's big hammer would take the healthy
        # receivers down with it. It is for the case in which nothing lives any more.
        if count:
            notifier.watchdog(now)
        if not announced and not down and self._ready():
            notifier.ready()
            log.info("node_ready", roles=len(self.children))
            return True
        return announced

    def _end_all(self) -> int:
        """SIGTERM to each in the order of the list, time to finish, SIGKILL to what is left.

        Return how many that were.
        """
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + self._patience.stop
        while time.monotonic() < deadline and self._stops <= 1:
            if all(child.has_ended() for child in self.children):
                break
            time.sleep(_TICK_SECONDS / 2)
        killed = [child for child in self.children if not child.has_ended()]
        for child in killed:
            log.error("role_killed", role=child.name, after_seconds=self._patience.stop)
            child.kill()
        for child in self.children:
            child.close()
        return len(killed)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: Any) -> None:
            self.stop()

        asked = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, on_signal) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def patience_of(settings: OperateSettings) -> Patience:
    """Return what ``[operate]`` asks for."""
    return Patience(
        restart=Backoff(settings.restart_seconds, settings.restart_max_seconds),
        stop=settings.stop_seconds,
        silent=settings.silent_seconds,
        healthy=2 * settings.restart_max_seconds,
    )
