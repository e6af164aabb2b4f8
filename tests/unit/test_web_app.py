"""Health and metrics, as a monitoring system sees them."""

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_ai_node import web
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.monitor.observation import week_begin
from dicom_ai_node.ops import drift
from dicom_ai_node.ops.health import readiness
from dicom_ai_node.ops.role import places
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.node import beat
from dicom_ai_node.web.app import build_app
from tests.builders import observations
from tests.builders.ports import free_port
from tests.builders.rows import analysed_study, file_instance

STUDY = "1.2.826.0.1.3680043.10.1.77"


def config(tmp_path: Path, *, web: dict[str, Any] | None = None, **storage: Any) -> Config:
    return parse_config(
        {
            "storage": {
                "spool": tmp_path / "spool",
                "database": f"sqlite:///{tmp_path / 'node.db'}",
                "min_free_mb": 0,
                "warn_free_mb": 0,
                **storage,
            },
            "receive": {"processes": 1},
            "destinations": {"pacs": {"host": "pacs.example", "port": 104, "ae_title": "PACS"}},
            "web": web or {},
        }
    )


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    found = config(tmp_path)
    Spool(found.storage.spool).create()
    return found


def all_alive(settings: Config, db: Database) -> None:
    for place in places(settings):
        beat(db, place.worker, role=place.role, pid=1, now=time.time())


def failed(settings: Config, db: Database) -> dict[str, str]:
    return {one.name: one.text for one in readiness(settings, db).checks if not one.ok}


def get(settings: Config, db: Database, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(settings, db))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.get(path)

    return asyncio.run(ask())


def metrics(settings: Config, db: Database) -> dict[tuple[str, str], float]:
    """Return the samples by name and the values of their labels."""
    body = get(settings, db, "/metrics").text
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_the_process_is_live_whatever_happens(settings: Config) -> None:
    nowhere = Database("sqlite:////nowhere/node.db")
    assert get(settings, nowhere, "/health/live").json() == {"live": True}
    nowhere.close()


def test_a_node_in_order_is_ready(settings: Config, db: Database) -> None:
    all_alive(settings, db)
    answer = get(settings, db, "/health/ready")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    names = [check["name"] for check in answer.json()["checks"]]
    assert names == [
        "database",
        "database_space",
        "spool",
        "space",
        "clock",
        "roles",
        "files",
        "queues",
    ]
    assert list(Spool(settings.storage.spool).incoming.iterdir()) == []


def test_a_silent_role_is_named(settings: Config, db: Database) -> None:
    all_alive(settings, db)
    beat(db, "analyse", role="analyse", pid=1, now=time.time() - 600)
    answer = get(settings, db, "/health/ready")
    assert answer.status_code == 503
    assert failed(settings, db) == {"roles": "no sign of life from analyse"}


def test_a_role_that_is_starting_is_said_to_be(settings: Config, db: Database) -> None:
    all_alive(settings, db)
    beat(db, "analyse", role="analyse", pid=2, now=time.time(), starting=True)
    (check,) = [one for one in readiness(settings, db).checks if one.name == "roles"]
    assert check.ok
    assert check.text.endswith("processes are alive, starting: analyse")


def test_a_database_that_is_away_makes_it_unready(settings: Config) -> None:
    nowhere = Database("sqlite:////nowhere/node.db")
    assert get(settings, nowhere, "/health/ready").status_code == 503
    assert set(failed(settings, nowhere)) == {"database", "clock", "roles", "files", "queues"}
    seen = metrics(settings, nowhere)
    assert seen["dicom_ai_node_ready", ""] == 0
    assert seen["dicom_ai_node_check", "database"] == 0
    assert seen["dicom_ai_node_check", "spool"] == 1
    nowhere.close()


def test_a_database_without_the_schema_makes_it_unready(settings: Config, tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    assert "dicom-ai-node db upgrade" in failed(settings, empty)["database"]
    empty.close()


def test_a_spool_that_cannot_be_written_makes_it_unready(tmp_path: Path, db: Database) -> None:
    settings = config(tmp_path)
    all_alive(settings, db)
    spool = Spool(settings.storage.spool)
    spool.root.mkdir()
    spool.incoming.symlink_to("/proc")  # nobody can make a file there, root included
    assert list(failed(settings, db)) == ["spool"]


@pytest.mark.parametrize(("least", "word"), [(0, "wanted"), (10**9, "refused")])
def test_little_space_makes_it_unready(least: int, word: str, tmp_path: Path, db: Database) -> None:
    settings = config(tmp_path, min_free_mb=least, warn_free_mb=10**9)
    Spool(settings.storage.spool).create()
    all_alive(settings, db)
    assert word in failed(settings, db)["space"]


def test_metrics_count_what_there_is(settings: Config, db: Database) -> None:
    all_alive(settings, db)
    analysed_study(db, STUDY, now=time.time() - 600)
    file_instance(db, f"{STUDY}.2", f"{STUDY}.2.1", now=time.time() - 60)
    beat(db, "deliver", role="deliver", pid=1, now=time.time() - 600)
    seen = metrics(settings, db)
    assert seen["dicom_ai_node_database_up", ""] == 1
    assert seen["dicom_ai_node_studies", "reported"] == 1
    assert seen["dicom_ai_node_studies", "failed"] == 0
    assert seen["dicom_ai_node_deliveries", "pacs queued"] == 1
    assert seen["dicom_ai_node_deliveries", "pacs dead"] == 0
    assert seen["dicom_ai_node_oldest_delivery_seconds", "pacs"] >= 600
    assert seen["dicom_ai_node_oldest_study_seconds", "collecting"] >= 60
    assert seen["dicom_ai_node_instances_total", ""] == 2
    assert seen["dicom_ai_node_quarantined_total", ""] == 0
    assert seen["dicom_ai_node_role_up", "receive receive-1"] == 1
    assert seen["dicom_ai_node_role_up", "deliver deliver"] == 0
    assert seen["dicom_ai_node_spool_free_bytes", ""] > 0
    assert seen["dicom_ai_node_database_free_bytes", ""] > 0
    assert seen["dicom_ai_node_check", "spool"] == 1


def test_metrics_tell_drift_and_shadow_mode(settings: Config, db: Database) -> None:
    assert metrics(settings, db)["dicom_ai_node_shadow_mode", ""] == 0
    week = observations.FIRST_WEEK
    observations.put(db, observations.site(range(week, week + 8)))
    observations.put(db, observations.site(range(week + 8, week + 9), shift=8.0))
    drifting = MonitorSettings(shadow_on_drift=True)
    assert drift.watch(db, drifting, now=week_begin(week + 9))
    seen = metrics(settings, db)
    assert seen["dicom_ai_node_shadow_mode", ""] == 1
    assert seen["dicom_ai_node_drift", "bias"] == 1
    assert seen["dicom_ai_node_drift", "sex_accuracy"] == 0


def test_nothing_of_a_study_is_in_any_body(settings: Config, db: Database) -> None:
    analysed_study(db, STUDY)
    for path in ("/health/live", "/health/ready", "/metrics", f"/{STUDY}"):
        assert STUDY not in get(settings, db, path).text


def test_metrics_without_a_database_say_so(settings: Config) -> None:
    nowhere = Database("sqlite:////nowhere/node.db")
    seen = metrics(settings, nowhere)
    assert seen["dicom_ai_node_database_up", ""] == 0
    assert seen["dicom_ai_node_spool_free_bytes", ""] > 0
    nowhere.close()


def test_the_role_serves_until_it_is_stopped(tmp_path: Path, db: Database) -> None:
    port = free_port()
    settings = config(tmp_path, web={"port": port})
    stop = threading.Event()
    role = threading.Thread(target=web.run, args=(settings,), kwargs={"stop": stop})
    role.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health/live", trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        stop.set()
        role.join(60)
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert not role.is_alive()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"web.port = {port}: the port is taken"):
            web.run(config(tmp_path, web={"port": port}), stop=threading.Event())
