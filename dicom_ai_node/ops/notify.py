"""Messages to systemd; nothing happens where it did not ask for them."""

import os
from types import TracebackType
from typing import Self

from sdnotify import SystemdNotifier


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _send(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)
