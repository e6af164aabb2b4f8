"""The supervisor, with real processes that are small."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config.processes import OperateSettings
from dicom_ai_node.errors import BundleError
from dicom_ai_node.ops.child import Child, Patience, Role
from dicom_ai_node.ops.process import (
    beat_for_supervisor,
    die_with_parent,
    is_listening,
    say_loaded,
)
from dicom_ai_node.ops.supervisor import Supervisor, patience_of

PATIENCE = Patience(restart=Backoff(0.05, 0.2), stop=20, silent=30)
TREE = """
import sys
from pathlib import Path
from dicom_ai_node.ops.supervisor import Supervisor
from tests.integration.test_ops_supervisor import PATIENCE, lives, role, replace, stubborn
work = {"lives": lives, "stubborn": stubborn}[sys.argv[1]]
roles = [role(f"role-{n}", work, Path(file)) for n, file in enumerate(sys.argv[3:])]
raise SystemExit(Supervisor(roles, replace(PATIENCE, stop=float(sys.argv[2]))).run())
"""


def lives(file: Path, *, finishes: bool = True) -> int:
    """Be a role that says when it starts and when it finishes, or that will not."""
    die_with_parent()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    beat_for_supervisor(threading.Event())
    say_loaded()
    note(file, "started")
    while not (asked and finishes):
        time.sleep(0.02)
    note(file, "finished")
    return 0


def stubborn(file: Path) -> int:
    return lives(file, finishes=False)


def note(file: Path, words: str) -> None:
    with file.open("a") as opened:
        opened.write(f"{words}\n")


def executes(*command: str) -> Callable[[], int]:
    """Return what becomes that program."""

    def work() -> int:
        os.execv(command[0], command)

    return work


def eventually(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait for ``condition``; the limit is for a broken program, not for a slow machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def supervise(
    roles: Sequence[Role],
    until: Callable[[Supervisor], object],
    patience: Patience = PATIENCE,
    **options: Any,
) -> int:
    """Run a supervisor until the condition holds; it has no threads, for it forks."""
    deadline = time.monotonic() + 60

    def may_run() -> bool:
        assert time.monotonic() < deadline, "it never came true"
        return not until(supervisor)

    supervisor = Supervisor(roles, patience, may_run=may_run, **options)
    return supervisor.run()


def role(name: str, work: Callable[..., int], *arguments: Path) -> Role:
    return Role(name, partial(work, *arguments))


def tree(*files: Path, stop: float = 20, work: str = "lives") -> subprocess.Popen[bytes]:
    words = [work, str(stop), *map(str, files)]
    return subprocess.Popen([sys.executable, "-c", TREE, *words])


def test_a_role_that_dies_is_started_again_with_a_growing_pause(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    shell = f"date +%s.%N >> {starts}; exit 1"
    dies = Role("dies", executes("/bin/sh", "-c", shell))
    supervise([dies], lambda _: text(starts).count("\n") >= 5)
    at = [float(line) for line in text(starts).split()]
    pauses = [later - earlier for earlier, later in pairwise(at[:4])]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))


def test_a_role_that_raises_is_tried_again() -> None:
    def fails() -> int:
        raise LookupError

    code = supervise([role("fails", fails)], lambda supervisor: supervisor.children[0].failures > 2)
    assert code == 0


def test_where_there_is_no_room_for_a_process_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    child = Child(Role("waits", executes("/bin/true")), PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", refused)
        child.tend(0)
    assert (child.pid, child.failures) == (None, 1)
    child.tend(10)
    assert child.pid is not None
    child.close()


def test_a_healthy_while_resets_the_pause() -> None:
    child = Child(Role("ends", executes("/bin/true")), replace(PATIENCE, restart=Backoff(1, 100)))

    def life(*, began: float, ended: float) -> None:
        child.tend(began)
        assert child.pid is not None
        eventually(child.has_ended)
        child.tend(ended)
        assert child.pid is None

    life(began=0, ended=1)
    life(began=10, ended=11)
    assert child.failures == 2
    child.tend(12.5)
    assert child.pid is None, "its pause of two seconds is not over"
    life(began=13.5, ended=80)
    assert child.failures == 1


def test_a_silent_role_is_killed_and_replaced() -> None:
    child = Child(Role("hangs", executes("/bin/sleep", "600")), replace(PATIENCE, silent=6))
    child.tend(0)
    first = child.pid
    child.tend(29)
    assert not child.has_ended()
    child.tend(31)
    eventually(child.has_ended)
    child.tend(31.5)
    assert child.pid is None
    child.tend(40)
    assert child.pid not in (None, first)
    child.kill()
    child.close()


def test_a_role_that_loads_may_be_silent_for_longer(tmp_path: Path) -> None:
    def loads() -> int:
        beat_for_supervisor(threading.Event())
        note(tmp_path / "log", "loads")
        eventually((tmp_path / "go").exists)
        return lives(tmp_path / "log")

    child = Child(Role("loads", loads), PATIENCE)
    child.tend(0)
    assert child.pid is not None
    eventually(lambda: text(tmp_path / "log"))
    select.select([child._pipe], [], [], 60)
    child.tend(1)
    assert (child.is_alive, child.is_starting) == (True, True)
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.1)
    child.tend(2)  # takes what was still in the pipe
    child.tend(2 + 4.9 * PATIENCE.silent)
    assert not child.has_ended()
    os.kill(child.pid, signal.SIGCONT)
    (tmp_path / "go").touch()

    def works() -> bool:
        child.tend(3)
        return child.is_alive and not child.is_starting

    eventually(works)
    child.kill()
    child.close()


def test_a_stopped_process_goes_silent_and_a_beating_one_does_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child(role("stops", lives, log), PATIENCE)
    child.tend(0)

    def has_beaten_since(now: float) -> bool:
        child.tend(now)  # a jump of the clock; without a sign in the pipe it counts as silence
        return child.is_alive

    eventually(lambda: "started" in text(log))
    eventually(lambda: has_beaten_since(10))
    select.select([child._pipe], [], [], 60)
    child.tend(1000)
    assert not child.has_ended()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.1)
    child.tend(1001)  # takes what was still in the pipe
    child.tend(1032)
    eventually(child.has_ended)
    child.close()


def test_sigterm_lets_every_role_finish(tmp_path: Path) -> None:
    logs = [tmp_path / "one", tmp_path / "two"]
    supervisor = tree(*logs)
    eventually(lambda: all("started" in text(log) for log in logs))
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert [text(log) for log in logs] == ["started\nfinished\n"] * 2


def test_ctrl_c_reaches_the_roles_through_the_supervisor(tmp_path: Path) -> None:
    log = tmp_path / "log"
    supervisor = tree(log)
    eventually(lambda: "started" in text(log))
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert text(log) == "started\nfinished\n"


def test_a_role_that_will_not_finish_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    supervisor = tree(log, stop=0.2, work="stubborn")
    eventually(lambda: "started" in text(log))
    supervisor.terminate()
    assert supervisor.wait(60) == 1


def test_roles_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    logs = [tmp_path / "one", tmp_path / "two"]
    supervisor = tree(*logs)
    eventually(lambda: all("started" in text(log) for log in logs))
    children = psutil.Process(supervisor.pid).children()
    assert len(children) == 2
    supervisor.kill()
    supervisor.wait(60)
    gone, left = psutil.wait_procs(children, timeout=60)
    zombies = [one for one in left if one.status() == psutil.STATUS_ZOMBIE]
    assert len(gone) + len(zombies) == 2


def test_a_role_whose_supervisor_is_gone_already_does_not_start() -> None:
    program = (
        "from dicom_ai_node.ops.process import *\n"
        "try:\n    die_with_parent()\nexcept Orphaned:\n    raise SystemExit(3)\n"
    )
    environment = os.environ | {"NODE_SUPERVISOR_PID": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == 3


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")

        def listen(_supervisor: Supervisor) -> bool:
            try:
                while True:
                    heard.append(systemd.recv(4096).decode())
            except BlockingIOError:
                return heard.count("WATCHDOG=1") >= 2 and "READY=1" in heard

        supervise([role("lives", lives, tmp_path / "log")], listen)
        systemd.setblocking(True)
        while heard[-1] != "STATUS=stopping":
            heard.append(systemd.recv(4096).decode())
    assert heard[0] == "STATUS=0 of 1 roles up; down: lives"
    assert "STATUS=1 of 1 roles up" in heard
    assert heard.index("READY=1") > heard.index("STATUS=1 of 1 roles up")
    assert "STOPPING=1" in heard
    assert heard.index("WATCHDOG=1") > heard.index("STATUS=0 of 1 roles up; down: lives")


def test_a_listening_port_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_listening(port)
    assert not is_listening(port)


def test_what_several_share_is_made_after_the_first_have_started(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def prepare() -> None:
        eventually(lambda: text(first))
        assert not second.exists()
        shared.append("made once")

    def tells() -> int:
        note(second, *shared)
        return lives(second)

    shared: list[str] = []
    roles = [role("first", lives, first), Role("second", tells)]
    assert supervise(roles, lambda _: "started" in text(second), first=1, prepare=prepare) == 0
    assert text(second) == "made once\nstarted\nfinished\n"


def test_where_that_fails_those_that_run_finish(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def prepare() -> None:
        eventually(lambda: text(log))
        raise BundleError("no weights")

    with pytest.raises(BundleError, match="no weights"):
        supervise([role("first", lives, log)], lambda _: False, first=1, prepare=prepare)
    assert text(log) == "started\nfinished\n"


def test_a_role_has_no_descriptor_signal_or_variable_that_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")

    def looks() -> int:
        files = Path("/proc/self/fd")
        facts = {
            "open": sorted(int(file.name) for file in files.iterdir() if file.exists()),
            "input": str((files / "0").readlink()),
            "kept": int(os.environ["KEPT"]),
            "beat": int(os.environ["NODE_BEAT_FD"]),
            "signals": [signal.getsignal(n) == signal.SIG_DFL for n in (15, 2)],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "notify": "NOTIFY_SOCKET" in os.environ,
            "group": os.getpgid(0) == os.getpid(),
            "title": Path("/proc/self/cmdline").read_text().strip("\0 "),
        }
        seen.write_text(json.dumps(facts))
        return lives(tmp_path / "log")

    with (tmp_path / "kept").open("w") as kept, (tmp_path / "stray").open("w"):
        looker = Role("looks-1", looks, inherits={"KEPT": kept.fileno()})
        supervise([role("other", lives, tmp_path / "other"), looker], lambda _: text(seen))
        facts = json.loads(text(seen))
        assert facts["open"] == sorted({0, 1, 2, kept.fileno(), facts["beat"]})
    assert facts["input"] == os.devnull
    assert facts["signals"] == [True, True]
    assert facts["blocked"] == []
    assert not facts["notify"]
    assert facts["group"]
    assert facts["title"] == "dicom-ai-node: looks-1"


def test_the_settings_become_patience() -> None:
    patience = patience_of(OperateSettings(stop_seconds=3, restart_max_seconds=10))
    assert (patience.stop, patience.restart, patience.healthy) == (3, Backoff(0.5, 10), 20)
