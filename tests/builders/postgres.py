"""A real PostgreSQL server for the tests, started from the installed programs."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from dicom_ai_node.store import Database
from tests.builders.ports import free_port


def find_server() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def fresh_database(server_url: str, *, migrated: bool = True) -> Iterator[Database]:
    """Yield an empty database on the server, with the newest schema or with none."""
    name = f"test_{uuid.uuid4().hex}"
    template = _migrated(server_url) if migrated else "template1"
    server = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    database = Database(_beside(server_url, name))
    yield database
    database.close()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    server.dispose()


@cache
def _migrated(server_url: str) -> str:
    """The name of an empty database on the server, which others are copies of."""
    name = "migrated"
    server = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    database = Database(_beside(server_url, name))
    database.upgrade()
    database.close()
    return name


def _beside(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def running_server(programs: Path, *, durable: bool = False) -> Iterator[str]:
    """Run a server on a free port of 127.0.0.1 and yield its SQLAlchemy URL.

    Unless it is ``durable`` nothing has to be on the disk: no test cuts the power.

    PostgreSQL refuses to run as root, so root becomes the user ``postgres`` for it.
    """
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="node-postgres-"))
    data = folder / "data"
    if become:
        shutil.chown(folder, "postgres")
    port = free_port()
    fsync = "on" if durable else "off"
    options = f"-c listen_addresses=127.0.0.1 -c fsync={fsync} -p {port} -k {folder}"
    control = [*become, str(programs / "pg_ctl"), "-D", str(data), "-w"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    initdb = [*become, str(programs / "initdb"), "-D", str(data), "-U", "node", "-A", "trust"]
    subprocess.run([*initdb, "--no-sync"], **quiet)  # type: ignore[call-overload]
    subprocess.run(
        [*control, "-l", str(folder / "log"), "-o", options, "start"],
        **quiet,  # type: ignore[call-overload]
    )
    try:
        yield f"postgresql+psycopg://node@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]
        shutil.rmtree(folder)
