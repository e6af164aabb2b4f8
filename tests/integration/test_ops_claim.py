"""One node a spool, a database and a port: a second one is refused at once, in words."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.errors import ConfigError, StorageError
from dicom_ai_node.listening import listen
from dicom_ai_node.ops.claim import claimed
from dicom_ai_node.store import Database
from tests.builders.ports import free_port
from tests.builders.postgres import fresh_database
from tests.integration.test_ops_supervisor import eventually

HOLDER = """
import os, subprocess, sys, time
from dicom_ai_node.config import parse_config
from dicom_ai_node.ops.claim import claimed
from dicom_ai_node.store import Database
spool, database, child = sys.argv[1:]
config = parse_config({"storage": {"spool": spool, "database": database}})
with claimed(config, Database(database)) as claim:
    if child == "child":
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        print(subprocess.Popen(command, pass_fds=claim.locks).pid, flush=True)
    print("held", flush=True)
    time.sleep(600)
"""


def config_of(spool: Path, database: str) -> Config:
    return parse_config({"storage": {"spool": str(spool), "database": database}})


def take(config: Config) -> None:
    db = Database(config.storage.database)
    try:
        with claimed(config, db):
            pass
    finally:
        db.close()


def holder(spool: Path, database: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", HOLDER, str(spool), database, ""]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'node.db'}"


@pytest.fixture
def first(tmp_path: Path, database: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = holder(tmp_path / "spool", database)
    yield process
    process.kill()
    process.communicate()


def test_a_spool_belongs_to_one_node(
    first: "subprocess.Popen[bytes]", tmp_path: Path, database: str
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(StorageError, match=rf"storage\.spool = .*another node.*{first.pid}"):
        take(config_of(tmp_path / "spool", other))


@pytest.mark.parametrize("link", [False, True])
def test_a_database_belongs_to_one_node(
    first: "subprocess.Popen[bytes]", tmp_path: Path, database: str, link: bool
) -> None:
    """Also by the name of a link."""
    if link:
        (tmp_path / "node.db").touch()
        (tmp_path / "link.db").symlink_to(tmp_path / "node.db")
        database = f"sqlite:///{tmp_path / 'link.db'}"
    with pytest.raises(StorageError, match=rf"storage\.database = .*another node.*{first.pid}"):
        take(config_of(tmp_path / "elsewhere", database))


def test_a_killed_node_leaves_no_lock(
    first: "subprocess.Popen[bytes]", tmp_path: Path, database: str
) -> None:
    first.kill()
    first.wait()
    take(config_of(tmp_path / "spool", database))


def test_the_lock_lasts_as_long_as_a_process_of_the_node(tmp_path: Path, database: str) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "spool"), database, "child"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == b"held\n"
        process.kill()
    config = config_of(tmp_path / "spool", database)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dicom_ai_node.ops.claim._DYING_SECONDS", 0.3)
            with pytest.raises(StorageError, match="another node"):
                take(config)
    finally:
        os.kill(child, signal.SIGKILL)
    take(config)  # waits for what is dying


def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path, database: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"storage\.spool = .*file"):
        take(config_of(tmp_path / "file", database))


@pytest.mark.peers
def test_a_postgresql_database_belongs_to_one_node(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(postgres) as db:
        belongs_to_one_node(db, tmp_path, monkeypatch)


def belongs_to_one_node(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = db.url.render_as_string(hide_password=False)
    monkeypatch.setattr("dicom_ai_node.store.session_lock._LOOK_SECONDS", 0.1)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)  # pytest's own is closed in a fork
    first, second = (config_of(tmp_path / name, url) for name in ("one", "two"))
    with claimed(first, db) as claim:
        with pytest.raises(StorageError, match=rf"another node \(dicom-ai-node .* {os.getpid()}"):
            take(second)
        (ended,) = cut(db)
        # Taken again by itself, which the session that ends may outlive by a moment.
        eventually(lambda: len(found := holders(db)) == 1 and ended not in found)
        with pytest.raises(StorageError, match="another node"):
            take(second)
        assert claim.holds()
    eventually(lambda: not holders(db))
    with claimed(second, db) as claim:
        assert claim.session is not None
        os.kill(claim.session.pid, signal.SIGKILL)
        eventually(lambda: not claim.holds())


def holders(db: Database) -> list[int]:
    """Process ids of the server's sessions that hold the lock."""
    with db.read() as connection:
        return list(connection.execute(text(f"SELECT pid {_SESSIONS}")).scalars())


def cut(db: Database) -> list[int]:
    """End the sessions that hold the lock, as a restart of the server does; return their ids."""
    with db.write() as connection:
        query = f"SELECT pid, pg_terminate_backend(pid) {_SESSIONS}"
        return list(connection.execute(text(query)).scalars())


_SESSIONS = "FROM pg_locks WHERE locktype = 'advisory' AND objid = 749314 AND granted"


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("table", ["node", "web"])
def test_a_port_that_is_taken_is_named_with_its_keys(table: str, reuse: bool) -> None:
    """Also by a program that would share it."""
    with socket.socket() as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"{table}\.bind = .* {table}\.port = {port}: .*taken"
        ):
            listen("127.0.0.1", port, key=table)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigError, match=r"node\.bind = '192.0.2.1'"):
        listen("192.0.2.1", free_port(), key="node")


def serve(folder: Path, name: str, *, node: int, web: int) -> "subprocess.CompletedProcess[str]":
    path = folder / f"{name}.toml"
    path.write_text(
        f'[node]\nbind = "127.0.0.1"\nport = {node}\n[web]\nport = {web}\n'
        f'[storage]\nspool = "{folder / name}"\ndatabase = "sqlite:///{folder / name}.db"\n'
        "min_free_mb = 1\nwarn_free_mb = 1\n"
    )
    command = [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("table", ["node", "web"])
def test_serve_ends_at_once_where_a_port_is_taken(tmp_path: Path, table: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        ports = {"node": free_port(), "web": free_port()} | {table: taken.getsockname()[1]}
        ended = serve(tmp_path, "second", **ports)
    assert ended.returncode == 2
    assert f"{table}.port = {ports[table]}" in ended.stderr
    assert "role_started" not in ended.stderr


def test_serve_ends_at_once_where_another_node_has_the_spool(tmp_path: Path) -> None:
    first = holder(tmp_path / "same", f"sqlite:///{tmp_path / 'first.db'}")
    try:
        ended = serve(tmp_path, "same", node=free_port(), web=free_port())
    finally:
        first.kill()
        first.communicate()
    assert ended.returncode == 3
    assert f"storage.spool = {tmp_path / 'same'}" in ended.stderr
    assert f"process {first.pid}" in ended.stderr
    assert "role_started" not in ended.stderr
