"""The supervisor, with real processes that are small."""

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
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config.processes import OperateSettings
from dicom_ai_node.ops.child import Child, Patience, RoleCommand
from dicom_ai_node.ops.process import is_listening
from dicom_ai_node.ops.supervisor import Supervisor, patience_of

PATIENCE = Patience(restart=Backoff(0.05, 0.2), stop=20, silent=30)
LIVES = """
import signal, sys, threading
from dicom_ai_node.ops.process import beat_for_supervisor, die_with_parent
die_with_parent()
stop = threading.Event()
def finish(*_):
    with open(sys.argv[1], "a") as file:
        file.write("finished\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
beat_for_supervisor(threading.Event())
with open(sys.argv[1], "a") as file:
    file.write("started\\n")
while True:
    signal.pause()
"""
TREE = """
import sys
from dicom_ai_node.backoff import Backoff
from dicom_ai_node.ops.child import Patience, RoleCommand
from dicom_ai_node.ops.supervisor import Supervisor
patience = Patience(restart=Backoff(0.05, 0.2), stop=float(sys.argv[1]), silent=30)
roles = [RoleCommand(f"role-{n}", [sys.executable, "-c", program, file])
         for n, (program, file) in enumerate(zip(sys.argv[2::2], sys.argv[3::2]))]
raise SystemExit(Supervisor(roles, patience).run())
"""


def eventually(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait for ``condition``; the limit is for a broken program, not for a slow machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def supervise(
    roles: Sequence[RoleCommand],
    until: Callable[[Supervisor], object],
    patience: Patience = PATIENCE,
) -> int:
    """Run a supervisor in this thread until the condition holds."""
    supervisor = Supervisor(roles, patience)

    def watch() -> None:
        try:
            eventually(lambda: until(supervisor))
        finally:
            supervisor.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = supervisor.run()
    watcher.join()
    return code


def role(name: str, program: str, *arguments: str | Path) -> RoleCommand:
    return RoleCommand(name, [sys.executable, "-c", program, *map(str, arguments)])


def tree(*files: Path, stop: float = 20, program: str = LIVES) -> subprocess.Popen[bytes]:
    arguments = [part for file in files for part in (program, str(file))]
    return subprocess.Popen([sys.executable, "-c", TREE, str(stop), *arguments])


def test_a_role_that_dies_is_started_again_with_a_growing_pause(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    shell = f"date +%s.%N >> {starts}; exit 1"
    dies = RoleCommand("dies", ["/bin/sh", "-c", shell])
    supervise([dies], lambda _: text(starts).count("\n") >= 5)
    at = [float(line) for line in text(starts).split()]
    pauses = [later - earlier for earlier, later in pairwise(at[:4])]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))


def test_a_command_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    missing = RoleCommand("missing", [str(tmp_path / "no-such-program")])
    code = supervise([missing], lambda supervisor: supervisor.children[0].failures >= 3)
    assert code == 0


def test_a_healthy_while_resets_the_pause() -> None:
    child = Child(RoleCommand("ends", ["/bin/true"]), replace(PATIENCE, restart=Backoff(1, 100)))

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
    child = Child(RoleCommand("hangs", ["/bin/sleep", "600"]), replace(PATIENCE, silent=30))
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


def test_a_stopped_process_goes_silent_and_a_beating_one_does_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child(role("stops", LIVES, log), PATIENCE)
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
    stubborn = LIVES.replace("sys.exit(0)", "pass")
    supervisor = tree(log, stop=0.2, program=stubborn)
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

        supervise([role("lives", LIVES, tmp_path / "log")], listen)
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


def test_the_settings_become_patience() -> None:
    patience = patience_of(OperateSettings(stop_seconds=3, restart_max_seconds=10))
    assert (patience.stop, patience.restart, patience.healthy) == (3, Backoff(0.5, 10), 20)
