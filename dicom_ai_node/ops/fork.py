"""A process that goes on from this one: what is imported here it need not import, nor hold twice.

Fork copies one thread and every lock as it stands, so nobody forks who has threads: the supervisor
has none, and loads nothing that starts any.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

import structlog
from setproctitle import setproctitle, setthreadtitle

from dicom_ai_node.ops.process import PARENT_VARIABLE

CRASHED = 1
"""How a process ends whose work raised."""
_OWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class Fork:
    """A process that this one has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, -9 where SIGKILL ended it; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end and return how it ended."""
        code = self._reap(0)
        assert code is not None
        return code

    def terminate(self) -> None:
        """Ask it to finish."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it, and what it started, at once."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _reap(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def fork(
    name: str,
    work: Callable[[], int],
    *,
    variables: Mapping[str, str] = MappingProxyType({}),
    keeps: Iterable[int] = (),
) -> Fork:
    """Start a process that calls ``work`` and ends with what it returns.

    It has a group of its own, so that Ctrl-C reaches this process alone; ``variables`` in its
    environment; nothing to read from; of the open descriptors standard output, standard error and
    ``keeps``; and the signals' default actions, as if it had been executed.

    Raises OSError: there is no room for another process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # What is there now stays: a collection in the child would write to each page of it.
    gc.freeze()
    # A signal in between would be taken by a handler of ours, and be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OWN_SIGNALS)
    try:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be(name, work, {**variables, PARENT_VARIABLE: str(parent)}, {*keeps})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with suppress(OSError):  # the child does it, too: whoever comes first
        os.setpgid(pid, pid)
    return Fork(pid)


def _be(name: str, work: Callable[[], int], variables: Mapping[str, str], keeps: set[int]) -> None:
    """Do the work and end; never return into what the parent was doing."""
    code = CRASHED
    try:
        os.setpgid(0, 0)
        for number in _OWN_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN_SIGNALS)
        _close_others(keeps)
        os.environ.update(variables)
        os.environ.pop("NOTIFY_SOCKET", None)  # systemd listens to the supervisor alone
        setproctitle(f"dicom-ai-node: {name}")
        setthreadtitle(name)  # of which the kernel shows 15 characters
        gc.enable()
        code = work()
    except BaseException as error:  # noqa: BLE001 - it is the end of the process either way
        _log.critical("role_crashed", exc_info=error)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _close_others(keeps: set[int]) -> None:
    """Close what the parent has open: sockets and pipes of others would never end here."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the numbers, before any is closed
        if int(entry) not in {0, 1, 2, *keeps}:
            with suppress(OSError):  # the one by which the folder was listed
                os.close(int(entry))
