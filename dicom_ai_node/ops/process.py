"""What a supervised process owes its supervisor: to die with it, and to show that it lives.

Signs of life go through a pipe, not through the database: while the database is full or away
every role would look dead, and killing healthy receivers would make a bad day worse.
"""

import ctypes
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

PARENT_VARIABLE = "NODE_SUPERVISOR_PID"
BEAT_VARIABLE = "NODE_BEAT_FD"
LISTENER_VARIABLE = "NODE_LISTENER_FD"
SLOTS_VARIABLE = "NODE_SLOTS_FD"
BEAT_SECONDS = 1.0
ALIVE, LOADED = b".", b"+"
"""Signs of life: a process is there; it has loaded what it needs, and begins to work."""

_PR_SET_PDEATHSIG = 1
_LISTEN = "0A"


class Orphaned(Exception):
    """The supervisor died before this process could bind its life to it."""


def is_supervised() -> bool:
    """Return whether a supervisor started this process."""
    return PARENT_VARIABLE in os.environ


def die_with_parent() -> None:
    """Have the kernel kill this process (SIGKILL) when its supervisor ends, however it ends.

    Does nothing in a process without a supervisor. SIGKILL, because every role can be killed at
    any point anyway and an orphan must not outlive a supervisor that systemd starts again.

    Raises Orphaned: the supervisor was gone before the kernel was asked: nobody would ever send the
    signal.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        raise Orphaned(f"the supervisor {parent} is gone")


def beat_for_supervisor(done: threading.Event) -> threading.Thread | None:
    """Start the thread that shows signs of life until ``done``; None without a supervisor.

    A process that is stopped, that swaps to death, or that is stuck in native code with the
    interpreter lock held goes silent. One thread that waits for another is not noticed.
    """
    descriptor = os.environ.get(BEAT_VARIABLE)
    if descriptor is None:
        return None
    pipe = int(descriptor)
    os.set_blocking(pipe, False)
    os.set_inheritable(pipe, False)
    thread = threading.Thread(target=_beat, args=(pipe, done), name="beat", daemon=True)
    thread.start()
    return thread


def say_loaded() -> None:
    """Tell the supervisor, if there is one, that this process begins to work."""
    descriptor = os.environ.get(BEAT_VARIABLE)
    if descriptor is not None:
        with suppress(OSError):  # full, which nobody reads, or the supervisor is gone
            os.write(int(descriptor), LOADED)


def inherited_listener() -> socket.socket | None:
    """Return the listening socket of the whole node; None in a process without a supervisor."""
    descriptor = inherited(LISTENER_VARIABLE)
    return None if descriptor is None else socket.socket(fileno=descriptor)


def inherited(variable: str) -> int | None:
    """Return the descriptor that the supervisor left under ``variable``, if there is one."""
    number = os.environ.get(variable)
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return int(number)


def is_listening(port: int) -> bool:
    """Return whether a process on this machine listens on TCP ``port``.

    Read from the kernel's tables: a connection would look like a peer to the listener.
    """
    wanted = f"{port:04X}"
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTEN and local.rpartition(":")[2] == wanted:
                    return True
    return False


def _beat(pipe: int, done: threading.Event) -> None:
    while True:
        try:
            os.write(pipe, ALIVE)
        except BlockingIOError:
            pass  # nobody reads at the moment; the pipe holds signs enough
        except OSError:
            return  # the supervisor is gone, and the kernel's signal on its way
        if done.wait(BEAT_SECONDS):
            return
