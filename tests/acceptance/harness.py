"""A running node as its users have it: ``serve`` in processes of its own, on loopback."""

import os
import signal
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from pydicom import Dataset
from pynetdicom import AE, build_context

from dicom_ai_node.cli import main
from dicom_ai_node.config import Config, load_config
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import StudyRow, find
from dicom_ai_node.study import State
from tests.builders.ports import free_port
from tests.builders.waiting import listens, wait_until

SETTLED = {State.DELIVERED, State.SKIPPED, State.FAILED, State.UNDELIVERED}


def command_line(*words: str) -> tuple[int, str, str]:
    """Run a command as ``dicom-ai-node`` does; return its exit code and what it printed.

    In this process: one of its own would take seconds for its imports.
    """
    out, err = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["dicom-ai-node", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def role_of(process: psutil.Process) -> str:
    """Return the name of a role from its title, such as ``receive-1``; '' when it is none."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    program, _, role = title.strip().partition(": ")
    return role if program == "dicom-ai-node" else ""


class Node:
    """``dicom-ai-node serve`` with a configuration of its own below ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        destinations: dict[str, tuple[str, int]],
        database: str = "",
        extra: str = "",
        policy: str = "",
        quiet_seconds: float = 1.0,
        kept_classes: Iterable[str] = (),
        receive: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "node.toml"
        self.log = folder / "node.log"
        database = database or f"sqlite:///{folder / 'node.db'}"
        kept = ", ".join(f'"{one}"' for one in kept_classes)
        tables = [
            f'[node]\nbind = "127.0.0.1"\nport = {free_port()}',
            f"[receive]\nextra_storage_classes = [{kept}]\n{receive}",
            f'[storage]\nspool = "{folder}/spool"\n'
            f'database = "{database}"\n'
            "min_free_mb = 10\nwarn_free_mb = 20",
            f"[study]\nquiet_seconds = {quiet_seconds}\nmax_wait_seconds = 60.0",
            "[analyse]\nlease_seconds = 5.0\nretry_seconds = 0.5\nmax_attempts = 10",
            f"[policy]\nreport_consistent = true\n{policy}",
            f"[web]\nport = {free_port()}",
            '[log]\nformat = "json"',
            extra,
        ]
        for name, (ae_title, port) in destinations.items():
            tables.append(
                f'[destinations.{name}]\nhost = "127.0.0.1"\nport = {port}\n'
                f'ae_title = "{ae_title}"\nretry_seconds = 0.5\nretry_max_seconds = 2.0'
            )
        self.path.write_text("\n".join(tables) + "\n")
        self.config: Config = load_config(self.path)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.config.node.port

    def __enter__(self) -> "Node":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the node and wait for its answer to C-ECHO and for its web port."""
        command = [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(self.path)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until("the node to answer C-ECHO", self.answers)
            wait_until("the node's web port", lambda: listens(self.config.web.port))
        except BaseException:
            self.process.kill()  # its roles die with it
            self.process.wait()
            raise

    def stop(self) -> int:
        """Ask the node to stop and return its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def answers(self) -> bool:
        if not listens(self.port):
            return False
        ae = AE("TEST")
        ae.add_requested_context("1.2.840.10008.1.1")
        association = ae.associate("127.0.0.1", self.port, ae_title="DICOMAINODE")
        if not association.is_established:
            return False
        association.send_c_echo()
        association.release()
        return True

    def children(self, role: str = "") -> list[psutil.Process]:
        """Return the processes of one role, or all of them."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children():
            name = role_of(child)
            if name and role in ("", name, name.rpartition("-")[0]):
                found.append(child)
        return found

    def kill(self, role: str) -> None:
        """SIGKILL one process of ``role``, or the whole group when it is 'group'."""
        assert self.process is not None
        if role == "group":
            victims = [psutil.Process(self.process.pid), *self.children()]
        else:
            victims = self.children(role)[:1]
        for victim in victims:
            try:
                os.kill(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if role == "group":
            self.process.wait(timeout=30)
            psutil.wait_procs(victims, timeout=30)

    def studies(self) -> list[StudyRow]:
        db = Database(self.config.storage.database)
        try:
            return find(db, limit=100_000)
        finally:
            db.close()

    def wait_settled(self, count: int, *, seconds: float = 180.0) -> list[StudyRow]:
        """Wait until ``count`` studies have come to an end, and return them."""

        def settled() -> bool:
            return sum(row.state in SETTLED for row in self.studies()) >= count

        wait_until(f"{count} settled studies", settled, seconds=seconds)
        return self.studies()


def send(port: int, datasets: Sequence[Dataset], *, timeout: float = 30.0) -> list[int | None]:
    """Send data sets over one association; return each status, None where there was no answer."""
    if not listens(port):
        return [None] * len(datasets)
    ae = AE("MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    pairs = sorted({(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets})
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    association = ae.associate("127.0.0.1", port, contexts, ae_title="DICOMAINODE")
    statuses: list[int | None] = []
    for dataset in datasets:
        if not association.is_established:
            statuses.append(None)
            continue
        statuses.append(association.send_c_store(dataset).get("Status"))
    if association.is_established:
        association.release()
    return statuses


def noise(study: str, number: int = 1, **values: Any) -> Dataset:
    """Return a small image that is cheap to make and different for each (study, number)."""
    seed = zlib.crc32(f"{study}/{number}".encode())
    pixels = np.random.default_rng(seed).integers(0, 4096, (64, 64), dtype=np.uint16)
    return radiograph(pixels, study=study, number=number, **values)
