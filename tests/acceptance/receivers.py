"""The receivers of a node without the rest of it."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from dicom_ai_node.listening import listen
from dicom_ai_node.ops.process import LISTENER_VARIABLE, SLOTS_VARIABLE
from dicom_ai_node.receive.slots import make as make_slots
from dicom_ai_node.store import Database
from tests.builders.ports import free_port
from tests.builders.waiting import wait_until


class Receivers:
    """The receivers of a node as processes of their own, as its supervisor starts them."""

    def __init__(
        self, folder: Path, *, receive: str = "", spool: Path, min_free_mb: int = 1
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        self.log = folder / "log"
        self._path = folder / "node.toml"
        self._database = f"sqlite:///{folder / 'node.db'}"
        self._path.write_text(
            f'[node]\nbind = "127.0.0.1"\nport = {self.port}\n[receive]\n{receive}\n'
            f'[storage]\nspool = "{spool}"\ndatabase = "{self._database}"\n'
            f'min_free_mb = {min_free_mb}\nwarn_free_mb = {min_free_mb}\n[log]\nformat = "json"\n'
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Receivers":
        db = Database(self._database)
        db.upgrade()
        db.close()
        listener = self._open.enter_context(listen("127.0.0.1", self.port, key="node"))
        slots = make_slots(rows=2, columns=64)
        self._open.callback(os.close, slots)
        shared = {LISTENER_VARIABLE: listener.fileno(), SLOTS_VARIABLE: slots}
        for number in ("1", "2"):
            command = [sys.executable, "-m", "dicom_ai_node", "role", "receive", "-c"]
            with self.log.open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [*command, str(self._path), "--number", number],
                        stderr=log,
                        env=os.environ | {name: str(fd) for name, fd in shared.items()},
                        pass_fds=list(shared.values()),
                    )
                )
        try:
            wait_until("both receivers", self._both_listen, seconds=300)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._open.close()

    def resident_mb(self) -> int:
        """Return what the larger one has."""
        largest: int = max(psutil.Process(it.pid).memory_info().rss for it in self.processes)
        return largest // 2**20

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def _both_listen(self) -> bool:
        return [one["event"] for one in self.events()].count("receiver_listening") == 2
