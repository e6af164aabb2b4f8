"""A configuration means the same node from every working directory."""

import json
import os
import sys
from pathlib import Path

import pytest

from dicom_ai_node.cli import main
from dicom_ai_node.config import load_config, parse_config
from dicom_ai_node.config.example import example
from dicom_ai_node.config.peers import WebTable
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.store import Database
from tests.builders.rows import file_instance

Said = pytest.CaptureFixture[str]


def node(folder: Path, study: str = "") -> Path:
    """A node with paths as they ship, in a folder of its own; with a study, if one is named."""
    folder.mkdir()
    path = folder / "node.toml"
    path.write_text("[node]\nport = 11113\n")
    if study:
        db = Database(load_config(path).storage.database)
        db.upgrade()
        file_instance(db, study)
        db.close()
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dicom-ai-node", *map(str, arguments)])
    before = os.umask(0o022)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        os.umask(before)
    return int(ended.value.code or 0)


def test_relative_paths_lead_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ca.pem").touch()
    path = tmp_path / "node.toml"
    path.write_text(
        '[storage]\nspool = "../spool"\ndatabase = "sqlite:///node.db"\n'
        '[model]\nbundle = "ours"\nshadow = "bundles/next"\n'
        '[sources.web]\nkind = "web"\nurl = "http://h"\nca_file = "ca.pem"\n'
        'headers = {A = "file:secrets/a", B = "env:B", C = "file:/run/c"}\n'
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for here, given in ((tmp_path, Path("node.toml")), (elsewhere, Path("../node.toml"))):
        monkeypatch.chdir(here)
        settings = load_config(given)
        assert settings.storage.spool.resolve() == (tmp_path / ".." / "spool").resolve()
        assert settings.storage.spool.is_absolute()
        database = Path(settings.storage.database.removeprefix("sqlite:///"))
        assert (database.is_absolute(), database.resolve()) == (True, tmp_path / "node.db")
        assert Path(settings.model.bundle).resolve() == tmp_path / "ours"
        assert Path(settings.model.shadow).resolve() == tmp_path / "bundles" / "next"
        source = settings.sources["web"]
        assert isinstance(source, WebTable)
        assert Path(source.ca_file).resolve() == tmp_path / "ca.pem"
        where = source.headers["A"].removeprefix("file:")
        assert Path(where).resolve() == tmp_path / "secrets" / "a"
        assert (source.headers["B"], source.headers["C"]) == ("env:B", "file:/run/c")


def test_variables_of_the_environment_lead_from_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOM_AI_NODE_STORAGE__SPOOL", "other/spool")
    monkeypatch.setenv("DICOM_AI_NODE_STORAGE__DATABASE", "sqlite:///other/node.db")
    storage = load_config(path).storage
    assert storage.spool == tmp_path / "a" / "other" / "spool"
    assert storage.database == f"sqlite:///{tmp_path}/a/other/node.db"


@pytest.mark.parametrize(
    "database",
    ["postgresql+psycopg://node@db.example/node", "sqlite:////srv/node.db", "sqlite:///:memory:"],
)
def test_what_is_no_relative_file_stays(tmp_path: Path, database: str) -> None:
    values = {"storage": {"database": database, "spool": "/srv/spool"}}
    storage = parse_config(values, folder=tmp_path).storage
    assert (storage.database, storage.spool) == (database, Path("/srv/spool"))


def test_a_folder_that_goes_away_takes_no_path_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node(tmp_path / "a")
    (tmp_path / "versions").mkdir()
    path.rename(tmp_path / "versions" / "1.toml")
    path.symlink_to(tmp_path / "versions" / "1.toml")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    storage = load_config(Path("../a/node.toml")).storage
    assert storage.spool == tmp_path / "a" / "var" / "spool"
    assert storage.database == f"sqlite:///{tmp_path}/a/var/node.db"


@pytest.mark.parametrize("name", ["default", "chest-age-sex"])
def test_the_name_of_a_shipped_bundle_is_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert parse_config({"model": {"bundle": name}}, folder=tmp_path).model.bundle == name


def test_a_missing_file_of_certificates_is_named(tmp_path: Path) -> None:
    web = {"kind": "web", "url": "http://h", "ca_file": "ca.pem"}
    with pytest.raises(ConfigError, match=f"sources.main.ca_file = '{tmp_path}/ca.pem': no such"):
        parse_config({"sources": {"main": web}}, folder=tmp_path)


def test_the_example_takes_a_folder_for_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(example(Path("/var/lib/node")))
    storage = load_config(path).storage
    assert storage.spool == Path("/var/lib/node/spool")
    assert storage.database == "sqlite:////var/lib/node/node.db"


def test_a_command_answers_about_the_node_of_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    ours, other = node(tmp_path / "ours", "1.2.3"), node(tmp_path / "other", "4.5.6")
    for place in (tmp_path, ours.parent, other.parent):
        monkeypatch.chdir(place)
        for config in (ours, os.path.relpath(ours)):
            assert run(monkeypatch, "studies", "--json", "-c", config) == 0
            assert json.loads(capsys.readouterr().out)["study_instance_uid"] == "1.2.3"


def test_status_without_a_database_makes_none_and_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    config = node(tmp_path / "ours")
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "ours" / "var" / "node.db"
    assert run(monkeypatch, "status", "-c", "ours/node.toml") == 1
    said = capsys.readouterr().out
    assert f"configuration: {config}" in said
    assert f"no database at {place}: 'dicom-ai-node serve'" in " ".join(said.split())
    assert "schema" not in said
    for command in (("studies",), ("show", "1.2.3"), ("audit", "list"), ("monitor",)):
        assert run(monkeypatch, *command, "-c", "ours/node.toml") == 3
        said = capsys.readouterr().err
        assert said.startswith(f"error: no database at {place}: ")
        assert said.endswith(f"configuration: {config}\n")
    assert not list(tmp_path.rglob("*.db*"))
