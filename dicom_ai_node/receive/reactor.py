"""pynetdicom's two threads of an association, woken by events instead of by a clock.

Both poll every millisecond: an idle association costs two per cent of a core. Here the one that
reads sleeps until the socket has something, the other one until there is something for it to do;
timers are deadlines of that sleep.
"""

import math
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer

_IDLE, _AWAITING_CLOSE = "Sta1", "Sta13"  # PS3.8 table 9-10
_LONGEST_SLEEP = 3600.0
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class EventDrivenAssociation(Association):  # type: ignore[misc]
    """An acceptor's association whose thread sleeps until its provider has something for it."""

    def __init__(self, ae: AE, *, expires_in: Callable[[], float]) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._expires_in = expires_in
        self._wake = threading.Event()
        self.dimse.msg_queue = SignallingQueue(self._wake.set)

    def wake(self) -> None:
        """Have its thread look."""
        self._wake.set()

    def kill(self) -> None:
        """End it; return when its provider has ended, too."""
        self._kill = True
        self.is_established = False
        self._wake.set()
        if not self.dul.is_alive() or threading.current_thread() is self.dul:
            return
        if self.dul.state_machine.current_state == _IDLE:
            self.dul.kill_dul()
        self.dul.join()  # every way to the idle state ends it, and ARTIM leads there

    def _run_reactor(self) -> None:
        """Serve requests other than C-STORE, release and abort, until one of them ends it.

        As the base class's but for what it waits for, and for pausing, which only a side that
        sends requests needs.
        """
        self._is_paused = False
        while not self._kill:
            self._wake.wait(self._seconds_left())
            self._wake.clear()
            while not self.dimse.msg_queue.empty():
                context_id, message = self.dimse.get_msg(block=False)
                if message:
                    self._serve_request(message, context_id)
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)
                self.is_aborted = True
                self.is_established = False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
            elif self.dul.has_ended:
                self.kill()
            elif self.dul.idle_timer_expired():
                self._cut(f"no traffic for receive.network_timeout = {self.network_timeout:g} s")
            elif self._expires_in() <= 0:
                self._cut("no instance for receive.unproductive_seconds")

    def _seconds_left(self) -> float:
        silence: float = self.dul.seconds_of_silence_left()
        return min(max(min(silence, self._expires_in()), 0.0), _LONGEST_SLEEP)

    def _cut(self, reason: str) -> None:
        self.dul.fault = self.dul.fault or reason
        self.abort()


class EventDrivenProvider(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one association; sleeps until the peer or the association does something.

    A subclass says with :meth:`_seconds_left` when its own :meth:`_check` is due.
    """

    fault: str
    """Why it could not go on; :class:`~dicom_ai_node.peer.upper_layer.UpperLayer` has it."""

    def __init__(self, assoc: EventDrivenAssociation) -> None:
        super().__init__(assoc)
        self.daemon = True  # a peer that stalls must not keep the process from ending
        self.artim_timer, self._idle_timer = MonotonicTimer(30), MonotonicTimer(60)
        self.has_ended = False
        """Whether its thread is done; true a moment before it is no longer alive."""
        self._waker = Waker()
        self.to_provider_queue = SignallingQueue(self._waker.set)
        self.to_user_queue = SignallingQueue(assoc.wake)

    def kill_dul(self) -> None:
        """Have the thread end as soon as it is back from what it does."""
        self._kill_thread = True
        self._waker.set()

    def stop_dul(self) -> bool:
        """End the thread where the connection is idle; return whether it was."""
        if self.state_machine.current_state != _IDLE:
            return False
        self.kill_dul()
        self.join()
        return True

    def seconds_of_silence_left(self) -> float:
        """Return when the network timeout is due."""
        return float(self._idle_timer.remaining)

    def run_reactor(self) -> None:
        """Take events one by one until the connection has ended."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                event = self._next_event()
                if event is not None:
                    self.state_machine.do_action(event)
        finally:
            self.has_ended = True
            self._waker.close()
            self.assoc.wake()

    def _next_event(self) -> str | None:
        """Return the next event of PS3.8 table 9-10 (Evt1 to Evt19), None when there was none."""
        if self.event_queue.empty():
            if self.artim_timer.expired:
                return "Evt18"
            if not self._process_recv_primitive():
                self._await_peer()
        try:
            event: str = self.event_queue.get(block=False)
        except queue.Empty:
            return None
        return event

    def _await_peer(self) -> None:
        if self.state_machine.current_state == _AWAITING_CLOSE:
            if self._is_readable(0):
                self._read_pdu_data()
            elif self.socket is not None:
                self.socket.close()
            return
        if self._is_readable(self._patience()):
            self._read_pdu_data()
            self._idle_timer.restart()
        else:
            self._check()

    def _patience(self) -> float | None:
        bounds = [self._seconds_left()]
        if self.artim_timer.is_running:
            bounds.append(self.artim_timer.remaining)
        return min((one for one in bounds if one is not None), default=None)

    def _seconds_left(self) -> float | None:
        return None

    def _check(self) -> None:
        """The sleep ended without a byte of the peer."""

    def _is_readable(self, seconds: float | None) -> bool:
        """Whether the socket has something; a wake-up by the association ends the wait, too."""
        connection = self.socket.socket if self.socket is not None else None
        if connection is None or connection.fileno() < 0:
            self.event_queue.put("Evt17")  # transport connection closed
            return False
        poll = select.poll()  # unlike select, for any number of descriptors
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._waker.descriptor, select.POLLIN)
        ready = poll.poll(None if seconds is None else math.ceil(max(0.0, seconds) * 1000))
        self._waker.clear()
        return any(fd == connection.fileno() and event & _READABLE for fd, event in ready)


class SignallingQueue(queue.Queue[Any]):
    """A queue that calls ``signal`` after each item."""

    def __init__(self, signal: Callable[[], None]) -> None:
        super().__init__()
        self._signal = signal

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, and signal."""
        super().put(item, block, timeout)
        self._signal()


class Waker:
    """A descriptor that becomes readable when somebody calls :meth:`set`."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()

    def set(self) -> None:
        """Wake the one who waits; nobody may wait any more."""
        with self._lock:  # the number of a closed descriptor may be another file's by now
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Make it wait again."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return  # nobody called

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1


class MonotonicTimer(Timer):  # type: ignore[misc]
    """pynetdicom's timer by a clock that nobody sets; once stopped it never expires."""

    _start_time: float | None

    @property
    def is_running(self) -> bool:
        """Whether it can expire."""
        return self._start_time is not None and self.timeout is not None

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self.is_running and self.remaining <= 0

    @property
    def remaining(self) -> float:
        """Seconds until it expires; infinite while it does not run."""
        if self._start_time is None or self.timeout is None:
            return float("inf")
        return float(self._start_time + self.timeout - time.monotonic())

    def start(self) -> None:
        """Begin anew."""
        self._start_time = time.monotonic()

    def stop(self) -> None:
        """Let it not expire."""
        self._start_time = None
